package redact

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// checkCuts compares the uncut run with the reference, then cuts at each of the given
// offsets, once into two writes and once with a resume in between.
func checkCuts(t rapid.TB, p *Patterns, raw []byte, cuts []int) {
	t.Helper()
	want := reference(p, raw)
	wantStored(t, "uncut", uncut(t, p, raw), want, raw)
	for _, cut := range cuts {
		s := newStream(t, p, raw)
		s.writeTo(cut)
		wantStored(t, fmt.Sprintf("two writes, cut at %d", cut), s.finish(), want, raw)

		s = newStream(t, p, raw)
		s.writeTo(cut)
		s.resume()
		wantStored(t, fmt.Sprintf("resumed at %d", cut), s.finish(), want, raw)
	}
}

// checkBytewise writes single bytes, resuming after each where resume says so.
func checkBytewise(t rapid.TB, p *Patterns, raw []byte, resume func(i int) bool) {
	t.Helper()
	s := newStream(t, p, raw)
	for i := range raw {
		s.writeTo(i + 1)
		if resume(i) {
			s.resume()
			s.writeTo(i + 1)
		}
	}
	wantStored(t, "bytewise", s.finish(), reference(p, raw), raw)
}

func everyOffset(raw []byte) []int {
	cuts := make([]int, len(raw)+1)
	for i := range cuts {
		cuts[i] = i
	}
	return cuts
}

// drawValue favors what goes wrong: few letters, so that values overlap each other
// and themselves, line breaks, and pieces of the mask line.
func drawValue(t *rapid.T, label string) Value {
	parts := rapid.SliceOfN(rapid.SampledFrom([]string{
		"a", "b", "aa", "ab", "aab", "\n", "\r\n", ":", "::", "::add-mask::", "mask::a", "%", "é", "abababab",
	}), 0, 5).Draw(t, label)
	return Value(strings.Join(parts, ""))
}

func drawRaw(t *rapid.T, p *Patterns) []byte {
	tokens := []string{
		"a", "b", "ab", "aab", " ", "\n", "\r\n", ":", "::", "\n::add-mask::", "\n::add-mask::ab\n",
		"::add-mask::", "\n::warning::a\n", "::add", "-mask::", "\x00", "\xff", "abababab",
	}
	if p != nil {
		for _, pattern := range all(p) {
			tokens = append(tokens, string(pattern), string(pattern[:len(pattern)/2]), string(pattern[len(pattern)/2:]))
		}
	}
	return []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(tokens), 0, 16).Draw(t, "raw"), ""))
}

func TestAnyCutAndAnyResumeStoreTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var values []Value
		for i := range rapid.IntRange(0, 4).Draw(t, "values") {
			values = append(values, drawValue(t, fmt.Sprintf("value%d", i)))
		}
		p := New(values)
		raw := drawRaw(t, p)
		checkCuts(t, p, raw, everyOffset(raw))
		checkBytewise(t, p, raw, func(int) bool { return false })
		checkBytewise(t, p, raw, func(int) bool { return true })
		checkBytewise(t, p, raw, func(int) bool { return rapid.Bool().Draw(t, "resume") })
	})
}

func TestNothingIsHeldBackWithoutPatterns(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOf(rapid.SampledFrom([]byte("ab:\n\r\x00\xff"))).Draw(t, "raw")
		s := newStream(t, nil, raw)
		for i := range raw {
			s.writeTo(i + 1)
			start := bytes.LastIndexByte(raw[:i+1], '\n') + 1
			line := raw[start : i+1]
			want := i + 1
			if bytes.HasPrefix(line, []byte("::")) || string(line) == ":" {
				want = start
			}
			if got := s.w.Position().Pos; got != int64(want) {
				t.Fatalf("position %d after %q, want %d", got, raw[:i+1], want)
			}
		}
		wantStored(t, "no patterns", s.finish(), raw, raw)
	})
}

// randomText returns n bytes that do not repeat by chance.
func randomText(seed uint64, n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
	r := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

func TestLongValuesAreMaskedAcrossCuts(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1023, 1024, 1025, 1536, 1537, 2600} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			value := randomText(uint64(size), size)
			p := New([]Value{Value(value)})
			raw := []byte("before " + value + value + " half " + value[:size-1] + " after\n")
			var cuts []int
			for i := 0; i <= len(raw); i += 37 {
				cuts = append(cuts, i)
			}
			for i := size - 3; i < size+12; i++ {
				cuts = append(cuts, i)
			}
			checkCuts(t, p, raw, cuts)
			if stored := uncut(t, p, raw); !bytes.HasPrefix(stored, []byte("before *** half ")) {
				t.Errorf("stored %.80q", stored)
			}
		})
	}
}

func TestLongCommandLines(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"::add-mask::", "::warning::"} {
		for _, size := range []int{8190, 8191, 8192, 8193, 9000, 20000} {
			t.Run(fmt.Sprintf("%s%d", command, size), func(t *testing.T) {
				t.Parallel()
				line := command + randomText(uint64(size), size-len(command))
				p := New([]Value{Value("first\n::add"), "tail of the secret"})
				raw := []byte("first\n" + line + "\nthen " + line[20:size-20] + "\n::add-mask::tail\ntail")
				cuts := []int{0, 5, 6, 7, 8, 17, 18, 19, len(raw) - 1, len(raw)}
				for _, at := range []int{6 + 1024, 6 + 8192, 6 + size} {
					for d := -3; d <= 3; d++ {
						cuts = append(cuts, min(at+d, len(raw)))
					}
				}
				checkCuts(t, p, raw, cuts)
			})
		}
	}
}

func FuzzWriter(f *testing.F) {
	f.Add("hunter2!\x00line one\nline two", []byte("a hunter2!hunter2! line two\n"), uint16(7))
	f.Add("", []byte("::add-mask::abc\r\nabc ::add-mask::x\nYWJj"), uint16(15))
	f.Fuzz(func(t *testing.T, values string, raw []byte, cut uint16) {
		if len(values) > 1<<10 || len(raw) > 1<<10 || bytes.Count(raw, []byte("::add-mask::")) > 20 {
			t.Skip("the reference would take too long")
		}
		var secrets []Value
		for value := range strings.SplitSeq(values, "\x00") {
			secrets = append(secrets, Value(value))
		}
		p := New(secrets)
		checkCuts(t, p, raw, []int{min(int(cut), len(raw))})
		checkBytewise(t, p, raw, func(i int) bool { return i%(int(cut)%7+1) == 0 })
	})
}
