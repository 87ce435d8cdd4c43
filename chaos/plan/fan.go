package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Fan says that a node runs more than once; the zero value is one that does not. A matrix has two axes, whose lengths are Rows and Columns.
type Fan struct {
	Rows, Columns int
	MaxParallel   int  // of a matrix
	Patient       bool // of a matrix: one that fails leaves the others alone
	Computed      bool // of a matrix: its rows come from an expression

	Times int // of a repeat, at most
	Until int // the index of its last iteration, which its outputs name; -1: all of Times
}

// Matrix reports whether the node has a matrix.
func (f Fan) Matrix() bool { return f.Rows > 0 }

// Fans reports whether the node runs more than once.
func (f Fan) Fans() bool { return f.Rows > 0 || f.Times > 0 }

// Count is how often the node runs when nothing fails.
func (f Fan) Count() int {
	switch {
	case f.Matrix():
		return f.Rows * f.Columns
	case f.Times > 0 && f.Until >= 0:
		return min(f.Times, f.Until+1)
	case f.Times > 0:
		return f.Times
	}
	return 1
}

// Parallel is how many of them run at a time.
func (f Fan) Parallel() int {
	if f.Matrix() {
		return f.MaxParallel
	}
	return 1
}

// Item is what the matrix has for an index: the last axis turns fastest.
func (f Fan) Item(index int) string {
	return fmt.Sprintf("r%dc%d", index/f.Columns, index%f.Columns)
}

// fan is for kinds that may end well.
func (g generator) fan(kind Kind) Fan {
	if !slices.Contains([]Kind{Steady, Odd, Flaky, Broken, Set, Call}, kind) {
		return Fan{}
	}
	if kind == Call { // each is an execution
		if !g.oneIn(3) {
			return Fan{}
		}
		if g.oneIn(3) {
			return Fan{Times: 2, Until: -1}
		}
		return Fan{Rows: 2, Columns: 1, MaxParallel: g.between(1, 2), Patient: g.oneIn(2)}
	}
	switch g.IntN(8) {
	case 0, 1:
		rows, columns := g.between(1, 3), g.between(1, 3)
		return Fan{Rows: rows, Columns: columns, MaxParallel: g.between(1, 4), Patient: g.oneIn(2), Computed: g.oneIn(2)}
	case 2:
		f := Fan{Times: g.between(2, 4), Until: -1}
		if g.oneIn(2) {
			f.Until = g.IntN(f.Times)
		}
		return f
	}
	return Fan{}
}

// write writes the keys of the node, and the environment that tells its commands what they run for.
func (f Fan) write(b *strings.Builder, n *Node) {
	switch {
	case f.Matrix():
		rows := labels("r", f.Rows)
		if f.Computed {
			rows = fmt.Sprintf("\"${{ fromJSON('%s') }}\"", strings.ReplaceAll(rows, `"`, `\"`))
		}
		fmt.Fprintf(b, "    matrix: { row: %s, column: %s }\n    max-parallel: %d\n", rows, labels("c", f.Columns), f.MaxParallel)
		if f.Patient {
			b.WriteString("    fail-fast: false\n")
		}
	case f.Fans():
		fmt.Fprintf(b, "    repeat: { times: %d%s }\n", f.Times, f.until(n))
	default:
		return
	}
	if !n.Kind.Runs() {
		return
	}
	before := ""
	if !f.Matrix() {
		before = "${{ repeat.outputs.value }}"
	}
	fmt.Fprintf(b, "    env: { LABEL: \"${{ %s }}\", BEFORE: %q }\n", strings.Join(f.parts(), " }}${{ "), before)
}

// until is the end of a repeat. What a Set node answers, or a Call, is known only when it runs.
func (f Fan) until(n *Node) string {
	switch {
	case f.Until < 0:
		return ""
	case n.Kind == Set || n.Kind == Call:
		return fmt.Sprintf(", until: repeat.index == %d", f.Until)
	}
	return fmt.Sprintf(", until: \"repeat.outputs.value == '%s'\"", n.Value(f.Until))
}

// parts are the expressions that say together what the node runs for.
func (f Fan) parts() []string {
	switch {
	case f.Matrix():
		return []string{"matrix.row", "matrix.column"}
	case f.Fans():
		return []string{"repeat.index"}
	}
	return nil
}

// labels is a list of so many words.
func labels(prefix string, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%q", fmt.Sprint(prefix, i))
	}
	return "[" + strings.Join(list, ", ") + "]"
}
