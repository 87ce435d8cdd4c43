package redact

import (
	"bytes"
	"encoding/json"
	"slices"

	"pgregory.net/rapid"
)

// reference redacts a whole stream the obvious way: find every match of every
// pattern, mark its bytes, write one *** per marked run.
func reference(p *Patterns, raw []byte) []byte {
	masked := make([]bool, len(raw))
	markAll(masked, raw, p, 0)
	for start := 0; start < len(raw); {
		end := start + len(raw[start:])
		if n := bytes.IndexByte(raw[start:], '\n'); n >= 0 {
			end = start + n
		}
		if line := raw[start:end]; bytes.HasPrefix(line, []byte("::add-mask::")) {
			for i := start + 12; i < end; i++ {
				masked[i] = true
			}
			value := bytes.TrimRight(line[12:min(len(line), 8192)], "\r")
			if len(bytes.TrimSpace(value)) > 0 {
				markAll(masked, raw, New([]Value{Value(value)}), end+1)
			}
		}
		start = end + 1
	}
	var stored []byte
	for i, b := range raw {
		switch {
		case !masked[i]:
			stored = append(stored, b)
		case i == 0 || !masked[i-1]:
			stored = append(stored, "***"...)
		}
	}
	return stored
}

// markAll marks the matches that begin at from or later.
func markAll(masked []bool, raw []byte, p *Patterns, from int) {
	if p == nil {
		return
	}
	for _, pattern := range all(p) {
		for i := from; i+len(pattern) <= len(raw); i++ {
			if !bytes.HasPrefix(raw[i:], pattern) {
				continue
			}
			for j := range pattern {
				masked[i+j] = true
			}
		}
	}
}

func all(p *Patterns) [][]byte {
	patterns := slices.Clone(p.sorted)
	for c := range p.single {
		if p.single[c] {
			patterns = append(patterns, []byte{byte(c)})
		}
	}
	return patterns
}

// stream plays a node run's stream into writers: it appends what they return and
// keeps what a transaction would keep.
type stream struct {
	t        rapid.TB
	patterns *Patterns
	raw      []byte

	w      *Writer
	read   int // raw bytes given to w
	stored []byte
	masks  []Value
}

func newStream(t rapid.TB, p *Patterns, raw []byte) *stream {
	t.Helper()
	return &stream{t: t, patterns: p, raw: raw, w: NewWriter(NewSet(p), Position{})}
}

func (s *stream) writeTo(end int) {
	s.t.Helper()
	s.stored = append(s.stored, s.w.Write(s.raw[s.read:end])...)
	s.read = end
	s.masks = append(s.masks, s.w.TakeMasks()...)
	if held := int64(end) - s.w.Position().Pos; held < 0 || held > 8<<10 {
		s.t.Fatalf("%d bytes held back at %d of %q", held, end, s.raw)
	}
}

// resume goes on as another process would: from the stored position and masks.
func (s *stream) resume() {
	s.t.Helper()
	text, err := json.Marshal(s.w.Position())
	if err != nil {
		s.t.Fatal(err)
	}
	var at Position
	if err := json.Unmarshal(text, &at); err != nil {
		s.t.Fatal(err)
	}
	s.w = NewWriter(NewSet(s.patterns, s.masks...), at)
	s.read = int(at.Pos)
}

func (s *stream) finish() []byte {
	s.t.Helper()
	s.writeTo(len(s.raw))
	s.stored = append(s.stored, s.w.Close()...)
	if pos := s.w.Position().Pos; pos != int64(len(s.raw)) {
		s.t.Fatalf("closed at %d of %d", pos, len(s.raw))
	}
	return s.stored
}

func uncut(t rapid.TB, p *Patterns, raw []byte) []byte {
	t.Helper()
	return newStream(t, p, raw).finish()
}

func wantStored(t rapid.TB, what string, got, want, raw []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s\nraw  %q\ngot  %q\nwant %q", what, raw, got, want)
	}
}
