package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// terminal writes lines, and on a real terminal keeps a few changing lines below them. Its methods
// may be called concurrently.
type terminal struct {
	out   io.Writer
	color bool
	size  func() (width, height int) // nil: not a terminal

	mu    sync.Mutex
	below []string // the changing lines, as they stand on the screen
}

func newTerminal(out io.Writer, noColor bool) *terminal {
	t := &terminal{out: out}
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return t
	}
	t.color = !noColor
	t.size = func() (int, int) {
		width, height, err := term.GetSize(int(file.Fd()))
		if err != nil || width < 1 || height < 1 {
			return 80, 24
		}
		return width, height
	}
	return t
}

// live reports whether there are lines that change.
func (t *terminal) live() bool { return t.size != nil }

// print writes a line above the changing ones.
func (t *terminal) print(line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b bytes.Buffer
	t.erase(&b)
	b.Write(line)
	b.WriteByte('\n')
	t.draw(&b)
	_, _ = t.out.Write(b.Bytes()) // the reader has gone; nothing can be told to it
}

// printf is print.
func (t *terminal) printf(format string, args ...any) {
	t.print(fmt.Appendf(nil, format, args...))
}

// show replaces the changing lines. It does nothing where there are none.
func (t *terminal) show(lines []string) {
	if !t.live() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var b bytes.Buffer
	t.erase(&b)
	t.below = t.fit(lines)
	t.draw(&b)
	_, _ = t.out.Write(b.Bytes())
}

// fit leaves out what would scroll or wrap, since erase could not find it again.
func (t *terminal) fit(lines []string) []string {
	width, height := t.size()
	room := max(height/2, 1)
	fitted := make([]string, 0, min(len(lines), room))
	for i, line := range lines {
		if i == room {
			break
		}
		if i == room-1 && len(lines) > room {
			line = fmt.Sprintf("… and %d more", len(lines)-i)
		}
		if runes := []rune(line); len(runes) >= width {
			line = string(runes[:width-1])
		}
		fitted = append(fitted, line)
	}
	return fitted
}

func (t *terminal) erase(b *bytes.Buffer) {
	if len(t.below) > 0 {
		fmt.Fprintf(b, "\x1b[%dA\x1b[J", len(t.below))
	}
}

func (t *terminal) draw(b *bytes.Buffer) {
	for _, line := range t.below {
		b.WriteString(t.paint(dim, line))
		b.WriteByte('\n')
	}
}

// colour is the number of an SGR sequence.
type colour int

const (
	dim    colour = 2
	red    colour = 31
	green  colour = 32
	yellow colour = 33
)

// paint returns text in a colour, where there are colours.
func (t *terminal) paint(c colour, text string) string {
	if !t.color || text == "" {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", c, text)
}

// labelColour gives neighbouring labels different colours.
func labelColour(n int) colour {
	palette := [...]colour{36, 35, 34, 33, 32, 96, 95, 94}
	return palette[n%len(palette)]
}

// table writes rows in columns, two spaces apart.
func table(w io.Writer, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-len([]rune(cell))+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}
