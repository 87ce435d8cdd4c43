package engine

import (
	"github.com/google/uuid"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/expr"
	"foundry/internal/graph"
	"foundry/internal/journal"
	"foundry/internal/workflow"
)

// begin starts a node that is ready, by its kind. It reports whether the node has left the state pending;
// one that has not (there is no room, or no sandbox yet) is asked again later.
func (r *run) begin(node int) bool {
	switch r.def.Nodes[node].Kind {
	case workflow.KindSet:
		return r.beginSet(node)
	case workflow.KindRun:
		return r.beginRun(node)
	case workflow.KindApproval, workflow.KindWait:
		return r.beginWaiting(node)
	}
	r.failUnstarted(node, &execution.Failure{Code: "workflow", Message: "This worker does not know the kind of the node."})
	return true
}

// decide writes into the entry all that follows from the present states.
func (r *run) decide() {
	for r.entry.End == nil {
		out := r.def.Graph.Advance(r.states, r.cancel(), r.condition)
		for _, node := range out.Skipped {
			r.skip(node)
		}
		for _, failed := range out.Failed {
			r.failUnstarted(failed.Node, &execution.Failure{Code: "expression", Message: sentence("The condition cannot be evaluated", failed.Err)})
		}
		moved := false
		for _, node := range out.Ready {
			moved = r.begin(node) || moved
		}
		if out.Done && r.machine.settled() {
			r.conclude(out.Verdict)
			return
		}
		if out.Done {
			r.machine.abort() // nothing needs it any more
		}
		if !moved {
			return
		}
	}
}

// condition evaluates a node's `if`.
func (r *run) condition(node int, needs graph.NeedsStatus) (bool, error) {
	n := &r.def.Nodes[node]
	if !n.If.UsesStatus() && !needs.Success {
		return false, nil
	}
	env := r.contexts(node)
	env.Status = &expr.Status{Success: needs.Success, Failure: needs.Failure, Canceled: needs.Canceled}
	v, err := n.If.Eval(env)
	return expr.Truthy(v), err
}

// skip ends a node that is not going to run.
func (r *run) skip(node int) {
	reason := "condition"
	switch {
	case r.facts.DeadlinePassed:
		reason = "timed_out"
	case r.facts.Canceled:
		reason = "canceled"
	case r.def.Nodes[node].If == nil:
		reason = "needs"
	}
	r.states[node] = graph.Skipped
	id := r.addNodeRun(node, journal.NodeRun{Status: execution.NodeSkipped})
	r.record(event.NodeSkipped, id, map[string]any{"reason": reason})
}

// failUnstarted ends a node that could not even begin.
func (r *run) failUnstarted(node int, failure *execution.Failure) {
	r.states[node] = graph.Failed
	failure = r.maskFailure(failure)
	r.nodes[node].failure = failure
	id := r.addNodeRun(node, journal.NodeRun{Status: execution.NodeFailed, Failure: failure})
	r.record(event.NodeFailed, id, map[string]any{"error": failure})
	r.noteFailure(node)
}

// addNodeRun puts a new node run, the node's next attempt, into the entry and returns its id.
func (r *run) addNodeRun(node int, run journal.NodeRun) uuid.UUID {
	n := &r.nodes[node]
	n.attempt++
	run.ID, run.Key, run.Attempt = execution.NewID(), r.def.Nodes[node].Key, n.attempt
	r.entry.NodeRuns = append(r.entry.NodeRuns, run)
	return run.ID
}

// beginSet evaluates a set node, which starts and ends in one entry.
func (r *run) beginSet(node int) bool {
	outputs, err := evalOutputs(r.def.Nodes[node].Set, r.contexts(node))
	if err != nil {
		r.failUnstarted(node, &execution.Failure{Code: "expression", Message: sentence("An output cannot be evaluated", err)})
		return true
	}
	outputs, masked := r.maskOutputs(outputs)
	raw, err := encodeOutputs(outputs, maxNodeOutputs)
	if err != nil {
		r.failUnstarted(node, &execution.Failure{Code: "too_large", Message: err.Error()})
		return true
	}
	r.states[node] = graph.Completed
	r.nodes[node].outputs = outputs
	id := r.addNodeRun(node, journal.NodeRun{Status: execution.NodeCompleted, Outputs: raw})
	r.record(event.NodeStarted, id, nil)
	r.warnMasked(id, masked)
	r.record(event.NodeCompleted, id, map[string]any{"outputs": brief(raw)})
	return true
}
