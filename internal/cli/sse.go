package cli

import (
	"bufio"
	"bytes"
	"io"
)

// maxFrameLine bounds a line of a stream. The longest is a log chunk of 64 KiB as JSON, six
// characters a byte at worst.
const maxFrameLine = 1 << 20

// frame is one server-sent event. Comments and retry fields are skipped.
type frame struct {
	id    string
	event string // "" is "message"
	data  []byte
}

// frameReader reads text/event-stream (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type frameReader struct {
	lines *bufio.Scanner
	// alive is called for every line, comments included.
	alive func()
}

func newFrameReader(r io.Reader, alive func()) *frameReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxFrameLine)
	return &frameReader{lines: lines, alive: alive}
}

// next returns the next frame. io.EOF is the end of the stream; a frame without the blank line
// that ends it has been cut off and is dropped.
func (r *frameReader) next() (frame, error) {
	var f frame
	var some, data bool
	for r.lines.Scan() {
		r.alive()
		line := r.lines.Bytes()
		if len(line) == 0 {
			if some {
				return f, nil
			}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "id":
			f.id, some = string(value), true
		case "event":
			f.event, some = string(value), true
		case "data":
			if data {
				f.data = append(f.data, '\n')
			}
			f.data = append(f.data, value...)
			some, data = true, true
		}
	}
	if err := r.lines.Err(); err != nil {
		return frame{}, err
	}
	return frame{}, io.EOF
}
