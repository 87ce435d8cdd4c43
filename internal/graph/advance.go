package graph

import "slices"

// NeedsStatus is what the status functions of a condition see of all that the node needs,
// directly or through others. After a cancel only Canceled is true.
type NeedsStatus struct {
	// Success: every ancestor completed, or failed with continue-on-error. A skipped
	// ancestor is not a success.
	Success bool
	// Failure: an ancestor failed or timed out without continue-on-error.
	Failure bool
	// Canceled: the execution is being canceled.
	Canceled bool
}

// Condition decides the `if` of a node. It is called at most once per node and Advance,
// only for nodes with HasCondition, and only when all that the node needs is terminal.
// It implies success() where the condition has no status function.
type Condition func(node int, needs NeedsStatus) (bool, error)

// ConditionError is a node whose condition could not be evaluated.
type ConditionError struct {
	Node int
	Err  error
}

// Outcome is what has to happen next. Each list is in topological order, holds only nodes
// that were pending, and no node is in two lists.
type Outcome struct {
	Ready   []int            // start these
	Skipped []int            // these are skipped
	Failed  []ConditionError // these fail: their `if` is wrong
	// Done: with Skipped and Failed written down, every node is terminal.
	Done bool
	// Verdict of the execution, when Done; "" before.
	Verdict Verdict
}

// Advance says what follows from the states, one per node by index; it does not change
// them. Skips and failed conditions cascade within the call, so that when it returns, a
// pending node that is in none of the lists has a need that is still to end. It is
// O(nodes + needs) and never fails. Repeating it with the same states gives the same
// outcome: who starts a node marks it running before the next call.
func (g *Graph) Advance(states []Status, cancel Cancel, cond Condition) Outcome {
	a := advance{
		g: g, cancel: cancel, cond: cond,
		states: slices.Clone(states),
		above:  make([]trouble, len(g.nodes)),
	}
	for _, node := range g.order {
		a.inherit(node)
		if a.states[node] == Pending {
			a.decide(node)
		}
	}
	a.out.Done = len(a.out.Ready) == 0 && !slices.ContainsFunc(a.states, func(s Status) bool { return !s.Terminal() })
	if a.out.Done {
		a.out.Verdict = a.verdict()
	}
	return a.out
}

// trouble collects, as bits, what went wrong among a set of nodes.
type trouble uint8

const (
	notSuccess trouble = 1 << iota
	failure
)

type advance struct {
	g      *Graph
	cancel Cancel
	cond   Condition
	states []Status  // a copy; skips and failed conditions are written into it
	above  []trouble // by node: among all its ancestors, once inherit was called
	out    Outcome
}

// of says what the state of one node means to the nodes below it.
func (a *advance) of(node int) trouble {
	switch a.states[node] {
	case Completed:
		return 0
	case Failed, TimedOut:
		if a.g.nodes[node].continueOnError {
			return 0
		}
		return notSuccess | failure
	case Skipped, Canceled, Pending, Running, Waiting, Interrupted:
	}
	return notSuccess
}

// inherit sums up the ancestors of a node; its needs come before it in the order.
func (a *advance) inherit(node int) {
	for _, need := range a.g.nodes[node].needs {
		a.above[node] |= a.above[need] | a.of(need)
	}
}

func (a *advance) decide(node int) {
	v := &a.g.nodes[node]
	if a.cancel == Forced || a.cancel == Requested && !v.hasCondition {
		a.skip(node)
		return
	}
	direct := trouble(0)
	for _, need := range v.needs {
		if !a.states[need].Terminal() {
			return
		}
		direct |= a.of(need)
	}
	if !v.hasCondition {
		if direct&notSuccess != 0 {
			a.skip(node)
			return
		}
		a.out.Ready = append(a.out.Ready, node)
		return
	}
	a.ask(node)
}

// ask puts the condition. A cancel outweighs what the ancestors did.
func (a *advance) ask(node int) {
	canceled := a.cancel != NotCanceled
	yes, err := a.cond(node, NeedsStatus{
		Success:  !canceled && a.above[node]&notSuccess == 0,
		Failure:  !canceled && a.above[node]&failure != 0,
		Canceled: canceled,
	})
	switch {
	case err != nil:
		a.states[node] = Failed
		a.out.Failed = append(a.out.Failed, ConditionError{Node: node, Err: err})
	case yes:
		a.out.Ready = append(a.out.Ready, node)
	default:
		a.skip(node)
	}
}

func (a *advance) skip(node int) {
	a.states[node] = Skipped
	a.out.Skipped = append(a.out.Skipped, node)
}

func (a *advance) verdict() Verdict {
	if a.cancel != NotCanceled {
		return VerdictCanceled
	}
	for node := range a.states {
		if a.of(node)&failure != 0 {
			return VerdictFailed
		}
	}
	return VerdictCompleted
}
