package cli

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestFrameReader(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     []frame
	}{
		{"fields", "id: 7\nevent: log\ndata: {}\n\n", []frame{{"7", "log", []byte("{}")}}},
		{"no space behind the colon", "id:7\ndata:x\n\n", []frame{{"7", "", []byte("x")}}},
		{"only one space is taken", "data:  x\n\n", []frame{{"", "", []byte(" x")}}},
		{"several data lines", "data: a\ndata:\ndata: b\n\n", []frame{{"", "", []byte("a\n\nb")}}},
		{"CRLF", "id: 7\r\ndata: x\r\n\r\n", []frame{{"7", "", []byte("x")}}},
		{"comments and retry alone are no frame", ": ping\n\nretry: 2000\n\ndata: x\n\n", []frame{{"", "", []byte("x")}}},
		{"event without data", "event: end\n\n", []frame{{"", "end", nil}}},
		{"a cut frame is dropped", "data: x\n\nid: 8\ndata: y\n", []frame{{"", "", []byte("x")}}},
		{"nothing", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := readFrames(iotest.OneByteReader(strings.NewReader(tt.in)))
			if !errors.Is(err, io.EOF) {
				t.Errorf("ended with %v, want EOF", err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(frame{})); diff != "" {
				t.Errorf("frames (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFrameReaderReportsErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	if _, err := readFrames(io.MultiReader(strings.NewReader("data: x\n\n"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("got %v, want broken", err)
	}
	if _, err := readFrames(strings.NewReader("data: " + strings.Repeat("x", maxFrameLine))); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("an endless line gives %v, want an error", err)
	}
}

func TestFrameReaderTellsThatTheStreamLives(t *testing.T) {
	t.Parallel()
	n := 0
	r := newFrameReader(strings.NewReader(": ping\n\n: ping\n\n"), func() { n++ })
	if _, err := r.next(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if n != 4 {
		t.Errorf("alive was called %d times, want once a line", n)
	}
}

func readFrames(in io.Reader) ([]frame, error) {
	r := newFrameReader(in, func() {})
	var frames []frame
	for {
		f, err := r.next()
		if err != nil {
			return frames, err
		}
		frames = append(frames, f)
	}
}
