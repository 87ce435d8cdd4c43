package graph

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// conditions that the table can name.
var errCondition = errors.New("the condition is wrong")

func condition(name string, s NeedsStatus) (bool, error) {
	switch name {
	case "success":
		return s.Success, nil
	case "failure":
		return s.Failure, nil
	case "always", "yes":
		return true, nil
	case "canceled":
		return s.Canceled, nil
	case "error":
		return false, errCondition
	}
	return false, nil
}

type want struct {
	ready, skipped, failed string
	verdict                Verdict
}

func TestAdvance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		graph  string
		states string // key=status, others are pending
		ifs    string // key=condition
		cancel Cancel
		want   want
	}{
		{name: "nothing has started", graph: "a; b; c: a b", want: want{ready: "a b"}},
		{name: "one need is running", graph: "a; b; c: a b", states: "a=completed b=running", want: want{}},
		{name: "a waiting need is not terminal", graph: "a; b: a", states: "a=waiting", want: want{}},
		{name: "an interrupted need is not terminal", graph: "a; b: a", states: "a=interrupted", want: want{}},
		{name: "all needs completed", graph: "a; b; c: a b", states: "a=completed b=completed", want: want{ready: "c"}},
		{name: "all completed", graph: "a; b: a", states: "a=completed b=completed", want: want{verdict: VerdictCompleted}},
		{name: "skips cascade", graph: "a; b: a; c: b; d: c; e", states: "a=failed e=completed", want: want{skipped: "b c d", verdict: VerdictFailed}},
		{name: "skips wait for all needs", graph: "a; b; c: a b", states: "a=failed b=running", want: want{}},
		{name: "a time-out is a failure", graph: "a; b: a", states: "a=timed_out", want: want{skipped: "b", verdict: VerdictFailed}},
		{name: "continue-on-error counts as success", graph: "a!; b: a", states: "a=failed", want: want{ready: "b"}},
		{name: "continue-on-error after a time-out", graph: "a!; b: a", states: "a=timed_out b=completed", want: want{verdict: VerdictCompleted}},
		{name: "continue-on-error does not mend a skip", graph: "a!; b: a", states: "a=skipped", want: want{skipped: "b", verdict: VerdictCompleted}},
		{name: "a skipped execution is completed", graph: "a?; b: a", ifs: "a=no", want: want{skipped: "a b", verdict: VerdictCompleted}},

		{name: "a condition waits for its needs", graph: "a; b?: a", states: "a=running", ifs: "b=always", want: want{}},
		{name: "always after a failure", graph: "a; b?: a", states: "a=failed", ifs: "b=always", want: want{ready: "b"}},
		{name: "failure sees beyond a skipped node", graph: "a; b: a; c?: b", states: "a=failed", ifs: "c=failure", want: want{skipped: "b", ready: "c"}},
		{name: "success sees beyond a completed node", graph: "a; b?: a; c?: b", states: "a=failed b=completed", ifs: "b=always c=success", want: want{skipped: "c", verdict: VerdictFailed}},
		{name: "without a condition only the needs count", graph: "a; b?: a; c: b", states: "a=failed b=completed", ifs: "b=always", want: want{ready: "c"}},
		{name: "a skipped ancestor is neither success nor failure", graph: "a?; b?: a; c?: a", ifs: "a=no b=success c=failure", want: want{skipped: "a b c", verdict: VerdictCompleted}},
		{name: "continue-on-error hides a failure from conditions", graph: "a!; b?: a; c?: a", states: "a=failed", ifs: "b=success c=failure", want: want{ready: "b", skipped: "c"}},
		{name: "success without needs", graph: "a?; b?", ifs: "a=success b=failure", want: want{ready: "a", skipped: "b"}},
		{name: "a wrong condition fails its node and cascades", graph: "a?; b: a; c?: b", ifs: "a=error c=failure", want: want{failed: "a", skipped: "b", ready: "c"}},
		{name: "a wrong condition with continue-on-error", graph: "a?!; b: a", ifs: "a=error", want: want{failed: "a", ready: "b"}},
		{name: "a wrong condition ends the execution", graph: "a?", ifs: "a=error", want: want{failed: "a", verdict: VerdictFailed}},

		{name: "cancel skips what has no condition at once", graph: "a; b: a; c", states: "a=running", cancel: Requested, want: want{skipped: "b c"}},
		{name: "cancel waits for running needs of a condition", graph: "a; b?: a", states: "a=running", ifs: "b=canceled", cancel: Requested, want: want{}},
		{name: "cancel runs canceled and always", graph: "a; b?: a; c?: a; d?: a; e?: a", states: "a=canceled", ifs: "b=canceled c=always d=success e=failure", cancel: Requested, want: want{ready: "b c", skipped: "d e"}},
		{name: "cancel outweighs success", graph: "a; b?: a", states: "a=completed", ifs: "b=success", cancel: Requested, want: want{skipped: "b", verdict: VerdictCanceled}},
		{name: "cancel outweighs failure", graph: "a; b?: a", states: "a=failed", ifs: "b=failure", cancel: Requested, want: want{skipped: "b", verdict: VerdictCanceled}},
		{name: "canceled is false without a cancel", graph: "a; b?: a", states: "a=canceled", ifs: "b=canceled", want: want{skipped: "b", verdict: VerdictCompleted}},
		{name: "a second cancel skips all", graph: "a; b?: a; c?: b", states: "a=running", ifs: "b=always c=canceled", cancel: Forced, want: want{skipped: "b c"}},
		{name: "a second cancel leaves what runs", graph: "a?", states: "a=running", ifs: "a=always", cancel: Forced, want: want{}},
		{name: "canceled beats failed", graph: "a; b", states: "a=failed b=canceled", cancel: Requested, want: want{verdict: VerdictCanceled}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := parseGraph(t, tt.graph)
			states := parseStates(g, tt.states)
			ifs := pairs(tt.ifs)
			before := slices.Clone(states)
			out := g.Advance(states, tt.cancel, func(node int, s NeedsStatus) (bool, error) {
				name, ok := ifs[g.Key(node)]
				if !ok {
					t.Errorf("%s was asked", g.Key(node))
				}
				return condition(name, s)
			})
			got := want{ready: keys(g, out.Ready), skipped: keys(g, out.Skipped), verdict: out.Verdict}
			for _, f := range out.Failed {
				if !errors.Is(f.Err, errCondition) {
					t.Errorf("node %s failed with %v", g.Key(f.Node), f.Err)
				}
				got.failed = strings.TrimSpace(got.failed + " " + g.Key(f.Node))
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if out.Done != (out.Verdict != "") {
				t.Errorf("Done %v with verdict %q", out.Done, out.Verdict)
			}
			if !slices.Equal(states, before) {
				t.Error("Advance changed the states")
			}
		})
	}
}

func pairs(text string) map[string]string {
	m := make(map[string]string)
	for part := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(part, "=")
		m[key] = value
	}
	return m
}

func parseStates(g *Graph, text string) []Status {
	states := slices.Repeat([]Status{Pending}, g.Len())
	for key, status := range pairs(text) {
		node, _ := g.Index(key)
		states[node] = Status(status)
	}
	return states
}

// TestAdvanceEnds drives random graphs with random outcomes, orders of events, conditions
// and cancels: the execution ends, every node ends exactly once, and none starts before all
// it needs is terminal.
func TestAdvanceEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		g, err := New(drawNodes(t, 40))
		if err != nil {
			t.Fatal(err)
		}
		d := driver{t: t, g: g, states: slices.Repeat([]Status{Pending}, g.Len()), running: make(map[int]bool)}
		for steps := 0; !d.step(); steps++ {
			if steps > 3*g.Len()+3 {
				t.Fatalf("not done after %d steps: %v", steps, d.states)
			}
		}
	})
}

// driver plays the engine.
type driver struct {
	t       *rapid.T
	g       *Graph
	states  []Status
	running map[int]bool
	cancel  Cancel
	asked   []int // whose conditions were asked in this step
}

// step advances once and lets something happen; it is true at the end.
func (d *driver) step() bool {
	out := d.g.Advance(d.states, d.cancel, d.decide)
	for _, node := range out.Skipped {
		d.end(node, Skipped)
	}
	for _, f := range out.Failed {
		d.end(f.Node, Failed)
	}
	for _, node := range d.asked {
		d.terminalNeeds(node)
	}
	d.asked = nil
	for _, node := range out.Ready {
		d.start(node)
	}
	if out.Done {
		d.finished(out)
		return true
	}
	if len(d.running) == 0 {
		d.t.Fatalf("nothing runs, and it is not done: %v", d.states)
	}
	again := d.g.Advance(d.states, d.cancel, d.decide)
	if len(again.Ready)+len(again.Skipped)+len(again.Failed) > 0 {
		d.t.Fatalf("a second call without news says %+v", again)
	}
	d.happen()
	return false
}

func (d *driver) decide(node int, s NeedsStatus) (bool, error) {
	d.asked = append(d.asked, node) // its needs may be skipped in this very call
	if s.Canceled != (d.cancel != NotCanceled) || s.Success && (s.Failure || s.Canceled) || s.Failure && s.Canceled {
		d.t.Fatalf("node %d sees %+v with cancel %d", node, s, d.cancel)
	}
	// The answer depends on the node and what it sees only, as that of an expression does.
	names := []string{"success", "failure", "always", "canceled", "no", "error"}
	return condition(names[node%len(names)], s)
}

func (d *driver) terminalNeeds(node int) {
	for _, need := range d.g.Needs(node) {
		if !d.states[need].Terminal() {
			d.t.Fatalf("node %d is decided while %d is %s", node, need, d.states[need])
		}
	}
}

func (d *driver) start(node int) {
	d.terminalNeeds(node)
	if d.states[node] != Pending || d.running[node] || d.cancel == Forced {
		d.t.Fatalf("node %d starts in state %s with cancel %d", node, d.states[node], d.cancel)
	}
	d.states[node] = Running
	d.running[node] = true
}

func (d *driver) end(node int, status Status) {
	if d.states[node].Terminal() {
		d.t.Fatalf("node %d ends twice: %s, then %s", node, d.states[node], status)
	}
	d.states[node] = status
	delete(d.running, node)
}

// happen ends one running node, changes its state or raises the cancel.
func (d *driver) happen() {
	if d.cancel < Forced && rapid.IntRange(0, 9).Draw(d.t, "cancel") == 0 {
		d.cancel++
		return
	}
	node := rapid.SampledFrom(slices.Sorted(maps.Keys(d.running))).Draw(d.t, "node")
	d.states[node] = Running
	status := rapid.SampledFrom([]Status{Completed, Completed, Failed, TimedOut, Canceled}).Draw(d.t, "status")
	d.end(node, status)
	if len(d.running) > 0 {
		other := slices.Min(slices.Collect(maps.Keys(d.running)))
		d.states[other] = rapid.SampledFrom([]Status{Running, Waiting, Interrupted}).Draw(d.t, "other")
	}
}

func (d *driver) finished(out Outcome) {
	failed := false
	for node, status := range d.states {
		if !status.Terminal() {
			d.t.Fatalf("done with node %d in %s", node, status)
		}
		failed = failed || (status == Failed || status == TimedOut) && !d.g.nodes[node].continueOnError
	}
	want := VerdictCompleted
	if failed {
		want = VerdictFailed
	}
	if d.cancel != NotCanceled {
		want = VerdictCanceled
	}
	if out.Verdict != want {
		d.t.Fatalf("verdict %s, want %s: %v", out.Verdict, want, d.states)
	}
}

// BenchmarkAdvance is one call in the middle of 1,000 nodes in ten layers.
func BenchmarkAdvance(b *testing.B) {
	var nodes []Node
	for i := range 1000 {
		n := Node{Key: fmt.Sprintf("n%d", i), HasCondition: i%3 == 0}
		for need := range 5 {
			if i >= 100 {
				n.Needs = append(n.Needs, fmt.Sprintf("n%d", (i/100-1)*100+(i+need*7)%100))
			}
		}
		nodes = append(nodes, n)
	}
	g, err := New(nodes)
	if err != nil {
		b.Fatal(err)
	}
	states := slices.Repeat([]Status{Pending}, 1000)
	for i := range 500 {
		states[i] = Completed
	}
	b.ReportAllocs()
	for b.Loop() {
		if out := g.Advance(states, NotCanceled, func(_ int, s NeedsStatus) (bool, error) { return s.Success, nil }); len(out.Ready) != 100 {
			b.Fatal(len(out.Ready))
		}
	}
}
