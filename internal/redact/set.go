package redact

import (
	"fmt"
	"sync"
	"sync/atomic"
)

const (
	// maxMasks and maxMaskBytes bound the masks that the commands of one
	// execution may announce.
	maxMasks     = 1000
	maxMaskBytes = 256 << 10
)

// Set is what one execution masks: its secrets, what they were changed to since it started,
// and the masks that its commands have announced so far. All writers of the execution share one Set; a mask
// found by one of them holds for the next Write of every other. The zero Set is
// empty and ready. A Set is safe for concurrent use and must not be copied.
type Set struct {
	patterns atomic.Pointer[Patterns]
	count    func(runs int) // nil: nobody counts

	mu      sync.Mutex
	masks   map[Value]bool
	bytes   int
	refused int
}

// NewSet returns a Set of p, which may be nil, and of the masks that were stored
// when the execution ran before.
func NewSet(p *Patterns, masks ...Value) *Set {
	s := &Set{}
	for _, m := range masks {
		s.admit(m)
	}
	s.patterns.Store(p.With(masks...))
	return s
}

// Patterns returns what the Set masks at present; nil if nothing.
func (s *Set) Patterns() *Patterns { return s.patterns.Load() }

// Count has f told of every masked run that a writer returns, by how many there were in one call. What is read again
// after a takeover counts again. It is called before any writer is made; f is called by all of them.
func (s *Set) Count(f func(runs int)) { s.count = f }

// Format writes the number of patterns and nothing of their text.
func (s *Set) Format(f fmt.State, verb rune) { s.Patterns().Format(f, verb) }

// Refused returns how many announced masks were not taken because the execution
// had reached 1,000 masks or 256 KiB of them. Such a value is masked in the line
// that announces it and nowhere else, which is worth a warning.
func (s *Set) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// Extend adds values that the commands did not announce: they count for no limit.
func (s *Set) Extend(values ...Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patterns.Store(s.patterns.Load().With(values...))
}

// add makes v a mask and reports whether it is one now.
func (s *Set) add(v Value) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.masks[v] {
		return true
	}
	if len(s.masks) >= maxMasks || s.bytes+len(v) > maxMaskBytes {
		s.refused++
		return false
	}
	s.admit(v)
	s.patterns.Store(s.patterns.Load().With(v))
	return true
}

func (s *Set) admit(v Value) {
	if s.masks == nil {
		s.masks = make(map[Value]bool)
	}
	if !s.masks[v] {
		s.masks[v] = true
		s.bytes += len(v)
	}
}
