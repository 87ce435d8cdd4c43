package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNilPatternsAreEmpty(t *testing.T) {
	t.Parallel()
	var none *Patterns
	if New(nil) != nil || New([]Value{""}) != nil || none.With() != nil || none.Len() != 0 {
		t.Error("the empty set is not nil")
	}
	wantString(t, none, "text", "text")
	if p := none.With("hunter2!"); p.Len() == 0 {
		t.Error("nothing was added to the empty set")
	}
}

func TestWithLeavesTheSmallerSetAlone(t *testing.T) {
	t.Parallel()
	small := New([]Value{"first-value", "x"})
	large := small.With("second-value", "y")
	wantString(t, small, "first-value second-value x y", "*** second-value *** y")
	wantString(t, large, "first-value second-value x y", "*** *** *** ***")
	if small.With("") != small {
		t.Error("adding nothing made another set")
	}
	if again := large.With("first-value"); again.Len() != large.Len() {
		t.Errorf("adding a value twice: %d patterns, then %d", large.Len(), again.Len())
	}
}

// match walks a sorted table; the obvious way is to try every pattern.
func TestMatchFindsTheLongest(t *testing.T) {
	t.Parallel()
	letters := rapid.StringOfN(rapid.SampledFrom([]rune("ab")), 1, 20, -1)
	rapid.Check(t, func(t *rapid.T) {
		var patterns [][]byte
		for _, s := range rapid.SliceOfN(letters, 1, 30).Draw(t, "patterns") {
			patterns = append(patterns, []byte(s))
		}
		half := len(patterns) / 2
		var p *Patterns
		p = p.union(slices.Clone(patterns[:half])).union(slices.Clone(patterns[half:]))
		buf := []byte(rapid.StringOfN(rapid.SampledFrom([]rune("abc")), 1, 40, -1).Draw(t, "buf"))
		for i := range buf {
			longest, partial := 0, false
			for _, pattern := range patterns {
				if bytes.HasPrefix(buf[i:], pattern) {
					longest = max(longest, len(pattern))
				}
				partial = partial || len(pattern) > len(buf[i:]) && bytes.HasPrefix(pattern, buf[i:])
			}
			gotLongest, gotPartial := 0, false
			if p.next(buf, i, i+1) == i {
				gotLongest, gotPartial = p.match(buf[i:])
			}
			if gotLongest != longest || gotPartial != partial {
				t.Fatalf("%q at %d of %q: %d, %t, want %d, %t", patterns, i, buf, gotLongest, gotPartial, longest, partial)
			}
		}
	})
}

func TestPlaintextIsNeverPrinted(t *testing.T) {
	t.Parallel()
	const secret = "hunter2!"
	value := Value(secret)
	p := New([]Value{value})
	set := NewSet(p, value)
	w := NewWriter(set, Position{})
	w.Write([]byte("::add-mask::" + secret + "\nhunter2"))
	holder := struct {
		V Value
		P *Patterns
		S *Set
		W *Writer
	}{value, p, set, w}
	var printed strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, x := range []any{value, &value, []Value{value}, p, set, w, holder, &holder} {
			fmt.Fprintf(&printed, verb+"\n", x)
		}
	}
	for _, x := range []any{value, holder} {
		text, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		printed.Write(text)
	}
	hexForm := fmt.Sprintf("%x", secret)
	for _, plain := range []string{"hunter2", hexForm, "104 117 110"} {
		if strings.Contains(printed.String(), plain) {
			t.Errorf("%q is in %s", plain, printed.String())
		}
	}
	if !strings.Contains(printed.String(), "[redacted]") || value.String() != "[redacted]" || value.GoString() != "[redacted]" {
		t.Error("a value does not print as [redacted]")
	}
}
