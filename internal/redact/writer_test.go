package redact

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWritesAndPositions(t *testing.T) {
	t.Parallel()
	type step struct {
		raw, stored string
		at          Position
	}
	tests := map[string]struct {
		values []Value
		steps  []step
		closed string
	}{
		"nothing is held back without patterns": {
			steps: []step{
				{"text", "text", Position{Pos: 4, Line: LineInside}},
				{"\n", "\n", Position{Pos: 5}},
				{"\xff\x00\r", "\xff\x00\r", Position{Pos: 8, Line: LineInside}},
			},
		},
		"a suffix that may begin a pattern waits": {
			values: []Value{"hunter2!"},
			steps: []step{
				{"a hunt", "a ", Position{Pos: 2, Line: LineInside}},
				{"er", "", Position{Pos: 2, Line: LineInside}},
				{"2!", "***", Position{Pos: 10, MaskedTo: 10, Line: LineInside}},
				{"hunter2! ", " ", Position{Pos: 19, MaskedTo: 18, Line: LineInside}},
				{"hunters", "hunters", Position{Pos: 26, MaskedTo: 18, Line: LineInside}},
				{"hunter", "", Position{Pos: 26, MaskedTo: 18, Line: LineInside}},
			},
			closed: "hunter",
		},
		"the mask may lie ahead of the position": {
			values: []Value{"abcdef", "efghij"},
			steps: []step{
				{".abcdef", ".***", Position{Pos: 5, MaskedTo: 7, Line: LineInside}},
				{"gh", "", Position{Pos: 5, MaskedTo: 7, Line: LineInside}},
				{"ij.", ".", Position{Pos: 12, MaskedTo: 11, Line: LineInside}},
			},
		},
		"a pattern at the very beginning that may go on": {
			values: []Value{"secret", "secretly"},
			steps: []step{
				{"secret", "***", Position{Pos: 0, MaskedTo: 6}},
				{"l", "", Position{Pos: 0, MaskedTo: 6}},
			},
			closed: "l",
		},
		"a line of two colons waits for its end": {
			steps: []step{
				{"a\n:", "a\n", Position{Pos: 2}},
				{":warn", "", Position{Pos: 2}},
				{"ing\nb", "::warning\nb", Position{Pos: 13, Line: LineInside}},
			},
		},
		"two colons inside a line do not": {
			steps: []step{
				{"a", "a", Position{Pos: 1, Line: LineInside}},
				{"::add-mask::b\nb", "::add-mask::b\nb", Position{Pos: 16, Line: LineInside}},
			},
		},
		"nothing is stored of a mask line whose prefix may begin a pattern": {
			values: []Value{"mask", "mask::a\nnext"},
			steps: []step{
				{"::add-mask::a\nne", "", Position{}},
				{"ar a\n", "::add-***::***\nne***r ***\n", Position{Pos: 21, MaskedTo: 20}},
			},
		},
		"a pattern that goes over a mask line": {
			values: []Value{"mask::a\nnext"},
			steps: []step{
				{"::add-mask::a\nnext a", "::add-*** ***", Position{Pos: 20, MaskedTo: 20, Line: LineInside}},
			},
		},
		"a mask without a line break counts at the end": {
			steps:  []step{{"::add-mask::value", "", Position{}}},
			closed: "::add-mask::***",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := NewWriter(NewSet(New(tt.values)), Position{})
			for _, step := range tt.steps {
				if got := string(w.Write([]byte(step.raw))); got != step.stored || w.Position() != step.at {
					t.Fatalf("Write(%q) = %q at %+v, want %q at %+v", step.raw, got, w.Position(), step.stored, step.at)
				}
			}
			if got := string(w.Close()); got != tt.closed {
				t.Errorf("Close() = %q, want %q", got, tt.closed)
			}
		})
	}
}

func TestResultDoesNotShareMemoryWithInput(t *testing.T) {
	t.Parallel()
	in := []byte("text\n")
	w := NewWriter(nil, Position{})
	stored := w.Write(in)
	copy(in, "XXXX")
	if string(stored) != "text\n" {
		t.Errorf("stored became %q", stored)
	}
	w.Write([]byte(":"))
	in = []byte(":he")
	w.Write(in)
	copy(in, "XXX")
	if got := string(w.Write([]byte("ld\n"))); got != "::held\n" {
		t.Errorf("held bytes became %q", got)
	}
}

func TestMasksAreTakenOnceAndAfterTheirLine(t *testing.T) {
	t.Parallel()
	w := NewWriter(nil, Position{})
	take := func(raw string, want ...Value) {
		t.Helper()
		w.Write([]byte(raw))
		if got := w.TakeMasks(); !slices.Equal(got, want) {
			t.Fatalf("after %q: %d masks, want %d", raw, len(got), len(want))
		}
	}
	take("::add-mask::one")
	take("\n", "one")
	take("text\n")
	take("::add-mask::two\r\n::add-mask::three\ntwo", "two", "three")
	take("\n::add-mask::one\n")
	take("::add-mask::\n::add-mask::  \n::add-mask::\r\n")
	take("::add-mask::last")
	w.Close()
	if got := w.TakeMasks(); !slices.Equal(got, []Value{"last"}) {
		t.Errorf("after Close: %d masks", len(got))
	}
}

// The mask must be known when the position has passed the prefix, even where the
// position stops inside the line.
func TestMaskIsTakenWithThePositionInItsLine(t *testing.T) {
	t.Parallel()
	w := NewWriter(NewSet(New([]Value{"value\nsecond line"})), Position{})
	stored := string(w.Write([]byte("::add-mask::my-value\nsec")))
	want := Position{Pos: 15, MaskedTo: 20, Line: LineMask}
	if stored != "::add-mask::***" || w.Position() != want {
		t.Fatalf("%q at %+v", stored, w.Position())
	}
	if got := w.TakeMasks(); !slices.Equal(got, []Value{"my-value"}) {
		t.Errorf("%d masks", len(got))
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	inputs, err := filepath.Glob("testdata/golden/*.raw")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, input := range inputs {
		t.Run(filepath.Base(input), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(strings.TrimSuffix(input, ".raw") + ".stored")
			if err != nil {
				t.Fatal(err)
			}
			p := New([]Value{"correct horse", "-----BEGIN KEY-----\nc2VjcmV0IGtleQ\n-----END KEY-----\n"})
			wantStored(t, "golden", uncut(t, p, raw), want, raw)
			checkCuts(t, p, raw, everyOffset(raw))
		})
	}
}

// Not parallel: it counts allocations.
func TestSteadyStateAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the whole process
	for name, p := range map[string]*Patterns{"patterns": benchmarkPatterns(), "none": nil} {
		w := NewWriter(NewSet(p), Position{})
		chunk := append(logText(64<<10), "postgres://app:"...)
		w.Write(chunk)
		w.Write(chunk)
		if n := testing.AllocsPerRun(20, func() { w.Write(chunk) }); n != 0 {
			t.Errorf("%s: %v allocations per Write", name, n)
		}
	}
}
