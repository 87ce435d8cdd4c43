package plan

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// File is an artifact: its path and its size in bytes.
type File struct {
	Path string
	Size int
}

// checkpointSize is how much longer in bytes a checkpoint is than the one before.
const checkpointSize = 3000

// Content is what a run of the command under the index has in an artifact.
func (n *Node) Content(index int, f File) []byte { return n.fill(index, f.Path, f.Size) }

// Checkpoint is the name of the i-th checkpoint of a run, from 1, and what a run under the index has in it.
func (n *Node) Checkpoint(index, i int) (name string, content []byte) {
	name = fmt.Sprintf("c%d", i)
	return name, n.fill(index, name, i*checkpointSize)
}

// fill repeats a line that says where the bytes belong.
func (n *Node) fill(index int, name string, size int) []byte {
	line := fmt.Sprintf("%s.%d %s\n", n.Key, index, name)
	return bytes.Repeat([]byte(line), size/len(line)+1)[:size]
}

// Checkpoints is how many a run of the command makes that comes to its own end.
func (n *Node) Checkpoints() int {
	if n.Saves == 0 {
		return 0
	}
	return n.Lines / n.every()
}

// every is how many lines there are to a checkpoint.
func (n *Node) every() int { return max(1, n.Lines/n.Saves) }

// files is for commands that print lines: some leave artifacts, of which one may be of several chunks, and some checkpoints.
func (g generator) files(n *Node) {
	if !slices.Contains([]Kind{Steady, Flaky, Broken, Stuck}, n.Kind) {
		return
	}
	if g.oneIn(3) {
		for i := range g.between(1, 3) {
			f := File{Path: fmt.Sprintf("a%d", i), Size: g.IntN(20_000)}
			if i == 0 && !n.Fan.Fans() && g.oneIn(3) {
				f.Size = g.between(1<<20, 5<<19)
			}
			if i > 0 && g.oneIn(2) {
				f.Path = "some/where/" + f.Path
			}
			n.Leaves = append(n.Leaves, f)
		}
	}
	if g.oneIn(4) {
		n.Saves = g.between(1, 4)
	}
}

// The functions of a script that write files, as often as it takes where the disk is full for a while. What they write is that of fill.
const (
	leaveFunction = `fill() { until head -c "$3" < <(yes "$FOUNDRY_NODE.$FOUNDRY_INDEX $1" 2>/dev/null) 2>/dev/null > "$2"; do sleep 0.1; done; }
leave() { mkdir -p "$FOUNDRY_ARTIFACTS/$(dirname "$1")"; fill "$1" "$FOUNDRY_ARTIFACTS/$1" "$2"; }
`
	saveFunction = `save() { fill "$1" "$FOUNDRY_CHECKPOINTS/.new" "$2"; mv "$FOUNDRY_CHECKPOINTS/.new" "$FOUNDRY_CHECKPOINTS/$1"; }
`
)

// writeFunctions begins the script of a command that leaves files. One that saves notes what it was given of the attempt before.
func (n *Node) writeFunctions(s *strings.Builder) {
	if len(n.Leaves) > 0 || n.Saves > 0 {
		s.WriteString(leaveFunction)
	}
	if n.Saves > 0 {
		s.WriteString(saveFunction)
		s.WriteString("note \"found=$(ls \"$FOUNDRY_CHECKPOINTS\" | tr '\\n' ,)\"\n")
	}
}

func (n *Node) writeLeaves(s *strings.Builder) {
	for _, f := range n.Leaves {
		fmt.Fprintf(s, "leave %s %d\n", f.Path, f.Size)
	}
}

// writeSave is one line of the loop that prints.
func (n *Node) writeSave(s *strings.Builder) {
	if n.Saves > 0 {
		fmt.Fprintf(s, "  if ((n %% %d == 0)); then save c$((n / %d)) $((n / %d * %d)); fi\n", n.every(), n.every(), n.every(), checkpointSize)
	}
}
