package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLineBuffer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"whole lines", []string{"a\nb\n"}, []string{"a", "b"}},
		{"a line over three chunks", []string{"a", "b", "c\nd\n"}, []string{"abc", "d"}},
		{"no newline at the end", []string{"a\nb"}, []string{"a", "b"}},
		{"empty lines", []string{"\n\na\n"}, []string{"", "", "a"}},
		{"too long", []string{strings.Repeat("x", maxLine+3), "y\nz\n"}, []string{strings.Repeat("x", maxLine), "xxxy", "z"}},
		{"nothing", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var b lineBuffer
			var got []string
			show := func(line []byte) { got = append(got, string(line)) }
			for _, c := range tt.chunks {
				b.add([]byte(c), show)
			}
			b.flush(show)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVisible(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"text", "plain, ümläut\ttab", "plain, ümläut\ttab"},
		{"the last of a progress bar", "10%\r50%\r100%", "100%"},
		{"a DOS line", "text\r", "text"},
		{"colours stay", "\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"},
		{"the cursor does not move", "a\x1b[2Jb\x1b[Hc", "a[2Jb[Hc"},
		{"no title is set", "\x1b]0;owned\x07x", "]0;ownedx"},
		{"NUL and DEL", "a\x00b\x7fc", "abc"},
		{"a cut sequence", "a\x1b[31", "a[31"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := visible([]byte(tt.in)); !bytes.Equal(got, []byte(tt.want)) {
				t.Errorf("visible(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}
