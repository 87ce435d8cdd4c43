package redact

import "bytes"

const (
	maskPrefix = "::add-mask::"

	// maxHeld is the most that a Writer holds back, in bytes: an
	// unfinished line that begins with "::". What may begin a pattern is shorter.
	maxHeld = 8 << 10
)

// scanner decides the bytes of one call of Write, from a position on. It keeps no
// state that a Position does not carry, so that a Write after held-back bytes and
// a resume are the same thing.
type scanner struct {
	masker
	w        *Writer
	patterns *Patterns
	final    bool
	line     Line // at the offset reached
}

// run decides as much of buf as it can and returns the offset of the first
// byte that is held back.
func (s *scanner) run() int {
	i := 0
	for i < len(s.buf) {
		next, held := s.step(i)
		if held {
			s.plain(next)
			return next
		}
		i = next
	}
	s.plain(i)
	return i
}

// step decides the bytes from i up to next, or says that what begins at next
// is held back. It leaves the state of the line at next.
func (s *scanner) step(i int) (next int, held bool) {
	if s.line == LineMask {
		return s.maskLine(i)
	}
	if s.line != LineStart || s.buf[i] != ':' {
		return s.text(i)
	}
	rest := s.buf[i:]
	limited := rest[:min(len(rest), maxHeld)]
	command := len(rest) == 1 || rest[1] == ':'
	finished := s.final || len(limited) == maxHeld || bytes.IndexByte(limited, '\n') >= 0
	switch {
	case command && !finished:
		return i, true
	case bytes.HasPrefix(limited, []byte(maskPrefix)):
		return s.command(i, limited)
	default:
		return s.text(i)
	}
}

// text decides bytes up to the next line that may be a command.
func (s *scanner) text(from int) (next int, held bool) {
	to := len(s.buf)
	if n := bytes.Index(s.buf[from:], []byte("\n:")); n >= 0 {
		to = from + n + 1
	}
	next = s.scan(s.patterns, from, to, s.final)
	if next > from {
		s.line = LineInside
		if s.buf[next-1] == '\n' {
			s.line = LineStart
		}
	}
	return next, next < to
}

// command takes the ::add-mask:: line at from, of which limited holds all, or the
// first 8 KiB of a longer one, whose rest is masked but no part of the value.
// The prefix is decided before the mask holds, and as a whole: a position inside
// it could not be told from text.
func (s *scanner) command(from int, limited []byte) (next int, held bool) {
	before := s.masker
	next = from + len(maskPrefix)
	if s.scan(s.patterns, from, next, s.final) < next {
		s.masker = before
		return from, true
	}
	value, _, _ := bytes.Cut(limited[len(maskPrefix):], []byte("\n"))
	s.w.announce(Value(bytes.TrimRight(value, "\r")))
	s.patterns = s.w.set.Patterns()
	s.line = LineMask
	return next, false
}

// maskLine masks what is there of the value of an ::add-mask:: line. Matches may begin
// inside it and end behind it.
func (s *scanner) maskLine(from int) (next int, held bool) {
	to := len(s.buf)
	if n := bytes.IndexByte(s.buf[from:], '\n'); n >= 0 {
		to = from + n
		s.mark(from, to)
		if next = s.scan(s.patterns, from, to, s.final); next < to {
			return next, true
		}
		s.line = LineInside
		return to, false
	}
	s.mark(from, to)
	next = s.scan(s.patterns, from, to, s.final)
	return next, next < to
}
