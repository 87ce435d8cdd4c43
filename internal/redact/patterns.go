package redact

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"sort"
)

// Patterns is an immutable set of byte strings to mask: the forms in which a
// set of values may show up in output. A nil *Patterns is the empty set and
// costs nothing to match. Patterns is safe for concurrent use.
//
// Matching looks at the first two bytes of every position in a bitmap of
// 65,536 bits, which stays in the first-level cache; only the few positions
// that pass it look at patterns. The patterns are sorted, so those that
// share a beginning are neighbors and a position costs a walk down their
// common prefixes, however many there are.
type Patterns struct {
	sorted [][]byte // two bytes or longer, ascending, no duplicates
	single [256]bool
	first  [256]bool // first bytes of sorted

	// pairs has a bit for every pair of first bytes, single bytes counting for
	// each pair that they begin. rank counts the bits in the words before
	// a word; starts holds, for the n-th bit, where its patterns begin in sorted.
	pairs  [1024]uint64
	rank   [1024]int
	starts []int
}

// New returns the patterns of values. Empty values are ignored; without any
// other, New returns nil, the empty set.
func New(values []Value) *Patterns {
	var p *Patterns
	return p.With(values...)
}

// With returns the union of p and the patterns of values. It does not change p,
// and returns p itself if there is nothing to add. Its cost is proportional to
// the size of the result.
func (p *Patterns) With(values ...Value) *Patterns {
	var added [][]byte
	for _, v := range values {
		added = appendForms(added, string(v))
	}
	if len(added) == 0 {
		return p
	}
	return p.union(added)
}

// Format writes the number of patterns and nothing of their text.
func (p *Patterns) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "[%d patterns]", p.Len())
}

// Len returns the number of patterns: forms and pieces of values, not values.
func (p *Patterns) Len() int {
	if p == nil {
		return 0
	}
	n := len(p.sorted)
	for _, ok := range p.single {
		if ok {
			n++
		}
	}
	return n
}

// union returns the union of p and added, which it sorts.
func (p *Patterns) union(added [][]byte) *Patterns {
	if p == nil {
		p = &Patterns{}
	}
	slices.SortFunc(added, bytes.Compare)
	added = slices.CompactFunc(added, bytes.Equal)
	u := &Patterns{single: p.single}
	long := slices.DeleteFunc(added, func(pattern []byte) bool {
		if len(pattern) > 1 {
			return false
		}
		u.single[pattern[0]] = true
		return true
	})
	u.sorted = merge(p.sorted, long)
	u.index()
	return u
}

// merge returns the union of a and b, which are sorted and without duplicates.
func merge(a, b [][]byte) [][]byte {
	merged := make([][]byte, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch order := bytes.Compare(a[0], b[0]); {
		case order < 0:
			merged, a = append(merged, a[0]), a[1:]
		case order > 0:
			merged, b = append(merged, b[0]), b[1:]
		default:
			b = b[1:]
		}
	}
	merged = append(merged, a...)
	return append(merged, b...)
}

// index fills the tables from single and sorted.
func (p *Patterns) index() {
	for c, ok := range p.single {
		for second := 0; ok && second < 256; second++ {
			p.setPair(c<<8 | second)
		}
	}
	for _, pattern := range p.sorted {
		p.first[pattern[0]] = true
		p.setPair(pair(pattern))
	}
	// The bits and the sorted patterns are in the same order.
	next := 0
	for word, w := range p.pairs {
		p.rank[word] = len(p.starts)
		for ; w != 0; w &= w - 1 {
			k := word<<6 | bits.TrailingZeros64(w)
			p.starts = append(p.starts, next)
			for next < len(p.sorted) && pair(p.sorted[next]) == k {
				next++
			}
		}
	}
	p.starts = append(p.starts, next)
}

func pair(b []byte) int { return int(b[0])<<8 | int(b[1]) }

func (p *Patterns) setPair(k int) { p.pairs[k>>6] |= 1 << (k & 63) }

// bucket returns the patterns that begin with pair k, whose bit must be set.
func (p *Patterns) bucket(k int) [][]byte {
	word, bit := k>>6, k&63
	n := p.rank[word] + bits.OnesCount64(p.pairs[word]&(1<<bit-1))
	return p.sorted[p.starts[n]:p.starts[n+1]]
}

// next returns the first position in buf[from:to] where a pattern may begin, or
// to. Bytes behind to are looked at, since a pattern may reach over it.
func (p *Patterns) next(buf []byte, from, to int) int {
	if p == nil || from >= to {
		return to
	}
	window := buf[from:min(to+1, len(buf))]
	k := uint(window[0])
	for i, c := range window[1:] {
		k = (k<<8 | uint(c)) & 0xffff
		if p.pairs[k>>6]>>(k&63)&1 != 0 {
			return from + i
		}
	}
	last := len(buf) - 1
	if last < to && (p.first[buf[last]] || p.single[buf[last]]) {
		return last
	}
	return to
}

// match returns the length of the longest pattern at the beginning of text, 0 if
// there is none, and whether a longer one could match if more text followed.
// text begins at a position returned by next.
func (p *Patterns) match(text []byte) (longest int, partial bool) {
	if p.single[text[0]] {
		longest = 1
	}
	if len(text) == 1 {
		return longest, p.first[text[0]]
	}
	candidates := p.bucket(pair(text))
	for len(candidates) > 0 {
		// What the first and the last of a sorted range share, all of it shares.
		head := candidates[0]
		shared := len(head)
		if len(candidates) > 1 {
			shared = commonPrefix(head, candidates[len(candidates)-1])
		}
		if n := min(shared, len(text)); !bytes.Equal(head[:n], text[:n]) {
			return longest, false
		}
		if len(text) < shared {
			return longest, true
		}
		if len(head) == shared {
			longest = shared
			candidates = candidates[1:]
			continue
		}
		if len(text) == shared {
			return longest, true
		}
		candidates = narrow(candidates, shared, text[shared])
	}
	return longest, false
}

// narrow returns the patterns that have byte c at index at. All of sorted share
// what comes before, and are longer than that.
func narrow(sorted [][]byte, at int, c byte) [][]byte {
	lo := sort.Search(len(sorted), func(i int) bool { return sorted[i][at] >= c })
	sorted = sorted[lo:]
	return sorted[:sort.Search(len(sorted), func(i int) bool { return sorted[i][at] > c })]
}

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		diff := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:])
		if diff != 0 {
			return i + bits.TrailingZeros64(diff)>>3
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
