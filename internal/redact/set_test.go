package redact

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestMaskHoldsForOtherWriters(t *testing.T) {
	t.Parallel()
	set := &Set{}
	out, other := NewWriter(set, Position{}), NewWriter(set, Position{})
	if got := string(other.Write([]byte("my-value\n::my-value"))); got != "my-value\n" {
		t.Fatalf("before the mask: %q", got)
	}
	out.Write([]byte("::add-mask::my-value\n"))
	if got := string(other.Write([]byte("\nbXktdmFsdWU="))); got != "::***\n***" {
		t.Errorf("after the mask: %q", got)
	}
	if len(other.TakeMasks()) != 0 || len(out.TakeMasks()) != 1 {
		t.Error("the mask belongs to the writer that read its line")
	}
}

func TestBothWritersOfAMaskReturnIt(t *testing.T) {
	t.Parallel()
	set := &Set{}
	for _, stream := range []string{"out", "err"} {
		w := NewWriter(set, Position{})
		w.Write([]byte("::add-mask::my-value\n"))
		if len(w.TakeMasks()) != 1 {
			t.Errorf("%s: the mask depends on the other stream's transaction", stream)
		}
	}
}

func TestStoredMasksHold(t *testing.T) {
	t.Parallel()
	set := NewSet(New([]Value{"secret-a"}), "mask-b", "mask-c")
	if got := string(NewWriter(set, Position{}).Write([]byte("secret-a mask-b mask-c.\n"))); got != "*** *** ***.\n" {
		t.Errorf("stored %q", got)
	}
}

func TestMasksAreBounded(t *testing.T) {
	t.Parallel()
	t.Run("in number", func(t *testing.T) {
		t.Parallel()
		set := &Set{}
		w := NewWriter(set, Position{})
		for i := range 1002 {
			if got, want := string(w.Write(fmt.Appendf(nil, "::add-mask::value-%d\n", i))), "::add-mask::***\n"; got != want {
				t.Fatalf("mask %d is stored as %q", i, got)
			}
		}
		if n := len(w.TakeMasks()); n != 1000 || set.Refused() != 2 {
			t.Errorf("%d taken, %d refused", n, set.Refused())
		}
		w.Write([]byte("::add-mask::value-0\n"))
		if set.Refused() != 2 {
			t.Error("a known mask was refused")
		}
	})
	t.Run("in size", func(t *testing.T) {
		t.Parallel()
		set := &Set{}
		w := NewWriter(set, Position{})
		for i := range 33 {
			w.Write([]byte("::add-mask::" + randomText(uint64(i), 8000) + "\n"))
		}
		if n := len(w.TakeMasks()); n != 32 || set.Refused() != 1 {
			t.Errorf("%d taken, %d refused", n, set.Refused())
		}
	})
}

// TestValuesThatComeLaterHold: for writers that are there already, whatever the commands have announced.
func TestValuesThatComeLaterHold(t *testing.T) {
	t.Parallel()
	set := NewSet(New([]Value{"secret-a"}))
	w := NewWriter(set, Position{})
	for i := range 1000 {
		w.Write(fmt.Appendf(nil, "::add-mask::value-%d\n", i))
	}
	set.Extend()
	set.Extend("secret-b", "secret-c")
	if got := string(w.Write([]byte("secret-a secret-b c2VjcmV0LWM= value-999.\n"))); got != "*** *** *** ***.\n" {
		t.Errorf("stored %q", got)
	}
	if set.Refused() != 0 {
		t.Errorf("%d refused", set.Refused())
	}
}

func TestWritersRunSideBySide(t *testing.T) {
	t.Parallel()
	const writers = 4
	set := &Set{}
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			w := NewWriter(set, Position{})
			for n := range 20 {
				value := fmt.Sprintf("value-%d-%d", i, n)
				stored := string(w.Write([]byte("::add-mask::" + value + "\n" + value + ".\n")))
				if stored != "::add-mask::***\n***.\n" {
					t.Errorf("%s: stored %q", value, stored)
				}
			}
		})
	}
	wg.Wait()
	for i := range writers {
		value := fmt.Sprintf("value-%d-19", i)
		if got, _ := String(set.Patterns(), value); strings.Contains(got, value) {
			t.Errorf("%s is not masked", value)
		}
	}
}

// TestMaskedRunsAreCounted: by what is stored, not by matches or calls.
func TestMaskedRunsAreCounted(t *testing.T) {
	t.Parallel()
	set := NewSet(New([]Value{"hunter2!"}))
	counted := 0
	set.Count(func(runs int) { counted += runs })
	w, other := NewWriter(set, Position{}), NewWriter(set, Position{})
	var stored []byte
	for _, text := range []string{"a hunter2!hunter2! b\n", "hunt", "er2! and ", "::add-mask::x\n", "::add-mask::later\nlater"} {
		stored = append(stored, w.Write([]byte(text))...)
	}
	stored = append(stored, w.Close()...)
	stored = append(stored, other.Write([]byte("later hunter2! none\n"))...)
	if want := bytes.Count(stored, []byte(stars)); counted != want || want != 6 {
		t.Errorf("%d runs were counted, %d are stored: %q", counted, want, stored)
	}
}
