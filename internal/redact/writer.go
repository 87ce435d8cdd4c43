package redact

import (
	"fmt"
	"strings"
)

// Line says where in a line a Position lies.
type Line string

const (
	// LineStart is the position at the start of a line.
	LineStart Line = ""
	// LineInside is a position inside a line, so that "::" there is text.
	LineInside Line = "inside"
	// LineMask is a position in the value of an ::add-mask:: line whose mask has
	// been announced; the rest of that line is masked.
	LineMask Line = "mask"
)

// Position is how far one stream has been stored. The zero Position is the start
// of a stream.
type Position struct {
	// Pos is the raw offset in bytes up to which everything is stored.
	Pos int64 `json:"pos"`
	// MaskedTo is the raw offset in bytes where the last masked run that is
	// known ends; 0 if there was none. If it is not before Pos, the run's *** is
	// stored and the run goes on at Pos.
	MaskedTo int64 `json:"masked_to"`
	// Line says whether Pos is at the start of a line, which the bytes from Pos on
	// cannot tell.
	Line Line `json:"line,omitempty"`
}

// Writer redacts one stream of one node run. It is not safe for concurrent use;
// writers that share a Set may run side by side.
type Writer struct {
	set       *Set
	at        Position
	held      []byte // raw bytes from at.Pos on that are not decided yet
	out       []byte
	announced map[Value]bool
	masks     []Value // announced and not taken yet
}

// NewWriter returns a Writer that continues at the given position: the next
// byte written must be the raw byte at.Pos of the stream. A nil set stands for
// one without patterns that no other writer shares.
func NewWriter(set *Set, at Position) *Writer {
	if set == nil {
		set = &Set{}
	}
	return &Writer{set: set, at: at}
}

// Write takes the next raw bytes of the stream and returns the bytes that may be
// stored now, which may be none, and may include bytes held back by earlier
// calls. The result belongs to the Writer and holds until the next call of Write
// or Close; it never shares memory with p. At most 8 KiB stay held back,
// whatever the length of p.
//
// The result, Position and TakeMasks belong together: what they return after a
// Write is stored in one transaction.
func (w *Writer) Write(p []byte) (stored []byte) {
	return w.write(p, false)
}

// Close ends the stream and returns what was held back, as Write does. The
// Writer must not be written to afterwards; Position and TakeMasks still answer.
func (w *Writer) Close() (stored []byte) {
	return w.write(nil, true)
}

// Position returns the position up to which everything is contained in what Write and
// Close have returned. A Writer made at this position, with a Set that has
// the masks taken so far, returns for the raw bytes from Pos on exactly what
// this one would.
func (w *Writer) Position() Position { return w.at }

// TakeMasks returns the values announced by ::add-mask:: lines since the last
// call, nil if there were none. Their lines have been passed by Position, so they must
// be stored, sealed, in the transaction that stores Position or an earlier one.
// A value that another stream announced too is returned by both writers, and
// may be returned again after a resume: storing it must be idempotent.
func (w *Writer) TakeMasks() []Value {
	masks := w.masks
	w.masks = nil
	return masks
}

// Format writes the position and nothing of the held bytes.
func (w *Writer) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "redact.Writer at %d", w.at.Pos)
}

func (w *Writer) write(p []byte, final bool) []byte {
	buf := p
	if len(w.held) > 0 {
		w.held = append(w.held, p...)
		buf = w.held
	}
	s := scanner{
		masker:   masker{buf: buf, out: w.out[:0], masked: w.at.maskedFromPos()},
		w:        w,
		patterns: w.set.Patterns(),
		final:    final,
		line:     w.at.Line,
	}
	end := s.run()
	w.out = s.out
	w.at.Line = s.line
	if s.masked >= 0 {
		w.at.MaskedTo = w.at.Pos + int64(s.masked)
	}
	w.at.Pos += int64(end)
	w.held = append(w.held[:0], buf[end:]...)
	if s.runs > 0 && w.set.count != nil {
		w.set.count(s.runs)
	}
	return w.out
}

// maskedFromPos returns MaskedTo relative to Pos, and -1 for no run that goes on.
func (p Position) maskedFromPos() int {
	if p.MaskedTo == 0 || p.MaskedTo < p.Pos {
		return -1
	}
	return int(p.MaskedTo - p.Pos)
}

// announce makes v a mask of the execution.
func (w *Writer) announce(v Value) {
	if strings.TrimSpace(string(v)) == "" || !w.set.add(v) || w.announced[v] {
		return
	}
	if w.announced == nil {
		w.announced = make(map[Value]bool)
	}
	w.announced[v] = true
	w.masks = append(w.masks, v)
}
