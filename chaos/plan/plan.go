package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Workflow is a generated workflow.
type Workflow struct {
	Slug   string
	Nodes  []Node // in topological order; the last is a report that always runs
	Secret string // the value of SecretKey, empty without one
	Output string // the node whose value is the output "result"
	Group  *Group // nil: it is in none
	Depth  int    // of workflows that its nodes call, and those call
}

// Group is the concurrency group of a workflow. All workflows that name one agree about its limit.
type Group struct {
	Name     string
	Limit    int
	Conflict Conflict
}

// Conflict is what becomes of an execution that finds no room in its group.
type Conflict string

// The ways out of a conflict.
const (
	Queue   Conflict = "queue"
	Replace Conflict = "cancel-running"
	Refuse  Conflict = "reject"
)

// maxDepth is how far workflows call each other. The machinery allows more, which a run has no time for.
const maxDepth = 2

// SecretKey is the one secret that a workflow may have.
const SecretKey = "CHAOS_TOKEN"

// Kind is what a node does.
type Kind string

// The kinds of nodes. Those from Steady to Full run a command.
const (
	Steady   Kind = "steady"   // prints lines with pauses
	Burst    Kind = "burst"    // prints many lines at once
	Odd      Kind = "odd"      // prints bytes that are no text, and no line's end at last
	Flaky    Kind = "flaky"    // fails Fails times, and is retried as often
	Broken   Kind = "broken"   // always exits with ExitCode
	Stuck    Kind = "stuck"    // never ends, and has a timeout
	Full     Kind = "full"     // fills up what it may write, and fails by it
	Set      Kind = "set"      // joins the values of what it needs
	Approval Kind = "approval" // waits for somebody
	Wait     Kind = "wait"     // waits for a time
	Call     Kind = "call"     // runs another workflow
)

// Runs reports whether nodes of this kind run a command.
func (k Kind) Runs() bool { return k != Set && k != Approval && k != Wait && k != Call }

// Node is one node of a Workflow.
type Node struct {
	Key             string
	Kind            Kind
	Needs           []string
	Always          bool // runs whatever became of what it needs
	ContinueOnError bool

	// Of a command.
	Lines    int
	Pause    time.Duration // after each line
	Padding  int           // bytes of each line on top
	Secret   bool          // prints the secret
	Fails    int           // of Flaky
	ExitCode int           // of Broken; Flaky fails with it too
	FailsAt  int           // of a Broken node that fans out: the index that fails, and no other does

	Approve bool          // of an Approval: the answer to be given
	For     time.Duration // of a Wait
	Calls   string        // of a Call: the slug of the workflow

	Leaves []File // artifacts that each run of the command leaves, before it ends
	Saves  int    // checkpoints that each run makes on the way

	Fan Fan
}

// Shape bounds what New makes.
type Shape struct {
	Nodes    int           // at most, beside the report
	Duration time.Duration // of one command, about, at most
	// Parking adds nodes that wait for people and times.
	Parking bool
	// Groups puts some workflows into concurrency groups.
	Groups bool
	// Fans has some nodes run more than once, by a matrix or a repeat.
	Fans bool
	// Files has some commands leave artifacts and checkpoints.
	Files bool
	// Calls has some nodes run workflows of lower numbers. One that calls is in no group, so that none is refused to what it calls.
	Calls bool
}

// New returns the n-th workflow of a seed.
func New(seed uint64, n int, shape Shape) Workflow {
	g := generator{Rand: rand.New(rand.NewPCG(seed, uint64(n))), shape: shape, seed: seed, n: n} //nolint:gosec // it is to be repeatable
	w := Workflow{Slug: fmt.Sprintf("chaos-%d", n)}
	if g.oneIn(3) {
		w.Secret = fmt.Sprintf("hunter-%d-%d-%x", seed, n, g.Uint64())
	}
	for i := range 1 + g.IntN(shape.Nodes) {
		w.Nodes = append(w.Nodes, g.node(i, &w))
	}
	w.Output = w.Nodes[g.IntN(len(w.Nodes))].Key
	report := Node{Key: "report", Kind: Steady, Lines: 2, Always: true}
	for i := range w.Nodes {
		report.Needs = append(report.Needs, w.Nodes[i].Key)
	}
	w.Nodes = append(w.Nodes, report)
	if shape.Groups && w.Depth == 0 && g.oneIn(3) {
		w.Group = g.group()
	}
	return w
}

type generator struct {
	*rand.Rand
	shape Shape
	seed  uint64
	n     int
}

func (g generator) oneIn(n int) bool { return g.IntN(n) == 0 }

func (g generator) between(least, most int) int { return least + g.IntN(most-least+1) }

func (g generator) kind(first bool) Kind {
	weights := []struct {
		kind   Kind
		weight int
	}{{Steady, 12}, {Burst, 2}, {Odd, 2}, {Flaky, 3}, {Broken, 1}, {Stuck, 1}, {Full, 1}, {Set, 2}, {Approval, 2}, {Wait, 2}, {Call, 4}}
	total := 0
	for _, w := range weights {
		total += w.weight
	}
	for {
		at := g.IntN(total)
		for _, w := range weights {
			if at -= w.weight; at >= 0 {
				continue
			}
			if first && w.kind == Set || !g.shape.Parking && (w.kind == Approval || w.kind == Wait) || w.kind == Call && (!g.shape.Calls || g.n == 0) {
				break // draw again
			}
			return w.kind
		}
	}
}

// group is one of three, whose limits are 1, 2 and 3.
func (g generator) group() *Group {
	limit := g.between(1, 3)
	group := Group{Name: fmt.Sprintf("group-%d", limit), Limit: limit, Conflict: Queue}
	switch g.IntN(8) {
	case 0:
		group.Conflict = Replace
	case 1, 2:
		group.Conflict = Refuse
	}
	return &group
}

// callee finds a workflow that may be called, and reports whether there is one.
func (g generator) callee() (Workflow, bool) {
	for range 4 {
		w := New(g.seed, g.IntN(g.n), g.shape)
		if w.Depth < maxDepth && (w.Group == nil || w.Group.Conflict == Queue) {
			return w, true
		}
	}
	return Workflow{}, false
}

func (g generator) node(i int, w *Workflow) Node {
	n := Node{Key: fmt.Sprintf("n%d", i), Kind: g.kind(i == 0), ContinueOnError: g.oneIn(6)}
	if n.Kind == Call {
		if callee, ok := g.callee(); ok {
			n.Calls, w.Depth = callee.Slug, max(w.Depth, callee.Depth+1)
		} else {
			n.Kind = Steady
		}
	}
	for range g.IntN(3) {
		if i > 0 {
			n.Needs = append(n.Needs, w.Nodes[g.IntN(i)].Key)
		}
	}
	slices.Sort(n.Needs)
	n.Needs = slices.Compact(n.Needs)
	if n.Kind == Set && len(n.Needs) == 0 {
		n.Needs = []string{w.Nodes[i-1].Key}
	}
	n.Always = len(n.Needs) > 0 && g.oneIn(8)
	n.Secret = w.Secret != "" && g.oneIn(2)
	if g.shape.Fans {
		n.Fan = g.fan(n.Kind)
	}
	switch n.Kind {
	case Steady, Flaky, Broken, Stuck, Full:
		n.Pause = time.Duration(g.between(20, 100)) * time.Millisecond
		n.Lines = g.between(1, max(1, int(g.shape.Duration/n.Pause)))
		n.Padding = g.IntN(80)
	case Burst:
		n.Lines, n.Padding = g.between(500, 3000), g.IntN(120)
	case Odd:
		n.Lines = g.between(1, 20)
	case Set, Call:
	case Approval:
		n.Approve = !g.oneIn(4)
	case Wait:
		n.For = time.Duration(g.between(1, 4)) * time.Second
	}
	switch n.Kind {
	case Flaky:
		n.Fails, n.ExitCode = g.between(1, 2), g.between(1, 100)
		n.Lines = n.Lines/(n.Fails+1) + 1
	case Broken:
		n.ExitCode = g.between(1, 100)
	case Full:
		n.ExitCode = fullCode
	case Steady, Burst, Odd, Stuck, Set, Approval, Wait, Call:
	}
	if times := n.Fan.Count(); times > 1 {
		n.Lines = max(1, n.Lines*min(n.Fan.Parallel(), times)/times)
		n.FailsAt = g.IntN(times)
	}
	if g.shape.Files {
		g.files(&n)
	}
	return n
}

// Node returns the node with the key, nil if there is none.
func (w *Workflow) Node(key string) *Node {
	for i := range w.Nodes {
		if w.Nodes[i].Key == key {
			return &w.Nodes[i]
		}
	}
	return nil
}

// String is for people.
func (w *Workflow) String() string {
	var b strings.Builder
	b.WriteString(w.Slug)
	for i := range w.Nodes {
		fmt.Fprintf(&b, " %s:%s", w.Nodes[i].Key, w.Nodes[i].Kind)
	}
	return b.String()
}
