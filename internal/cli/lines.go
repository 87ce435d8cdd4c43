package cli

import "bytes"

// maxLine is how many bytes of an unfinished line are held before it is shown in pieces.
const maxLine = 64 << 10

// lineBuffer cuts one stream of output into lines for people. Its zero value works.
type lineBuffer struct{ rest []byte }

// add calls show for every line that text completes, without the newline.
func (b *lineBuffer) add(text []byte, show func(line []byte)) {
	for {
		line, after, found := bytes.Cut(text, []byte("\n"))
		if !found {
			break
		}
		show(append(b.rest, line...))
		b.rest, text = b.rest[:0], after
	}
	b.rest = append(b.rest, text...)
	for len(b.rest) >= maxLine {
		show(b.rest[:maxLine])
		b.rest = append(b.rest[:0], b.rest[maxLine:]...)
	}
}

// flush shows what has no newline at its end.
func (b *lineBuffer) flush(show func(line []byte)) {
	if len(b.rest) > 0 {
		show(b.rest)
		b.rest = nil
	}
}

// visible returns what a terminal would show of a line in the end: after a carriage return the
// line starts again, and of the control characters only tabs and colours stay, so that output
// cannot move the cursor or talk to the terminal.
func visible(line []byte) []byte {
	line = bytes.TrimRight(line, "\r")
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	out := make([]byte, 0, len(line))
	for i := 0; i < len(line); {
		if n := colourLength(line[i:]); n > 0 {
			out = append(out, line[i:i+n]...)
			i += n
			continue
		}
		if c := line[i]; c == '\t' || (c >= ' ' && c != 0x7f) {
			out = append(out, c)
		}
		i++
	}
	return out
}

// colourLength returns the length of the SGR sequence (ECMA-48, 8.3.117) at the start of text, or 0.
func colourLength(text []byte) int {
	if !bytes.HasPrefix(text, []byte("\x1b[")) {
		return 0
	}
	for i := 2; i < len(text); i++ {
		switch c := text[i]; {
		case c == 'm':
			return i + 1
		case (c < '0' || c > '9') && c != ';' && c != ':':
			return 0
		}
	}
	return 0
}
