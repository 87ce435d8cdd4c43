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

// begin starts a node that is ready. It reports whether the node has left the state pending; one that has not (there is no
// room, or no sandbox yet) is asked again later.
func (r *run) begin(node int) bool {
	if r.def.Nodes[node].Fans() {
		r.fanOut(node)
		return true
	}
	return r.beginInstance(r.instance(node, 0))
}

// beginInstance starts an instance, by the kind of its node. It reports whether the instance has left the state pending.
func (r *run) beginInstance(in *instance) bool {
	switch r.def.Nodes[in.node].Kind {
	case workflow.KindSet:
		return r.beginSet(in)
	case workflow.KindRun:
		return r.beginRun(in)
	case workflow.KindApproval, workflow.KindWait:
		return r.beginWaiting(in)
	case workflow.KindWorkflow:
		return r.beginChild(in)
	}
	r.failUnstarted(in, &execution.Failure{Code: "workflow", Message: "This worker does not know the kind of the node."})
	return true
}

// decide writes into the entry all that follows from the present states.
func (r *run) decide() {
	for r.entry.End == nil && r.broken == nil {
		out := r.def.Graph.Advance(r.states, r.cancel(), r.condition)
		for _, node := range out.Skipped {
			r.skipNode(node)
		}
		for _, failed := range out.Failed {
			r.endWhole(failed.Node, execution.NodeFailed, &execution.Failure{Code: "expression", Message: sentence("The condition cannot be evaluated", failed.Err)})
		}
		moved := false
		for _, node := range out.Ready {
			moved = r.begin(node) || moved
		}
		moved = r.advanceFans() || moved
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

// skipNode ends a node that is not going to run.
func (r *run) skipNode(node int) {
	reason := "condition"
	switch {
	case r.cancel() != graph.NotCanceled:
		reason = r.stopReason()
	case r.def.Nodes[node].If == nil:
		reason = "needs"
	}
	n := &r.nodes[node]
	n.whole = true
	r.skip(r.instance(node, 0), reason)
}

// stopReason says why nothing is begun any more.
func (r *run) stopReason() string {
	if r.facts.DeadlinePassed {
		return "timed_out"
	}
	return "canceled"
}

// skip ends an instance that is not going to run.
func (r *run) skip(in *instance, reason string) {
	id := r.addNodeRun(in, journal.NodeRun{Status: execution.NodeSkipped})
	r.record(event.NodeSkipped, id, map[string]any{"reason": reason})
	r.move(in, graph.Skipped)
}

// endWhole ends a node as a whole, before any instance of it has begun. One node run stands for all.
func (r *run) endWhole(node int, status execution.NodeStatus, failure *execution.Failure) {
	r.nodes[node].whole = true
	in := r.instance(node, 0)
	if failure != nil {
		r.failUnstarted(in, failure)
		return
	}
	id := r.addNodeRun(in, journal.NodeRun{Status: status})
	r.record(event.Type("node."+string(status)), id, nil)
	r.move(in, graph.Status(status))
}

// failUnstarted ends an instance that could not even begin.
func (r *run) failUnstarted(in *instance, failure *execution.Failure) {
	in.failure = r.maskFailure(failure)
	id := r.addNodeRun(in, journal.NodeRun{Status: execution.NodeFailed, Failure: in.failure})
	r.record(event.NodeFailed, id, map[string]any{"error": in.failure})
	r.move(in, graph.Failed)
}

// addNodeRun puts a new node run, the instance's next attempt, into the entry and returns its id.
func (r *run) addNodeRun(in *instance, run journal.NodeRun) uuid.UUID {
	in.attempt++
	in.interrupted = false
	r.nodeRuns++
	run.ID = execution.NewID()
	r.writeNodeRun(in, run)
	return run.ID
}

// writeNodeRun puts the newest state of an instance's node run into the entry.
func (r *run) writeNodeRun(in *instance, run journal.NodeRun) {
	run.Key, run.Index, run.Attempt = r.def.Nodes[in.node].Key, in.index, in.attempt
	run.Combination = in.combination.shown
	r.entry.NodeRuns = append(r.entry.NodeRuns, run)
}

// recordStart adds the event of a node run's start. That of a node which fans out says of how many it is one, at most, and for which
// combination. It may add to data.
func (r *run) recordStart(in *instance, id uuid.UUID, data map[string]any) {
	if f := r.nodes[in.node].fan; f != nil {
		if data == nil {
			data = map[string]any{}
		}
		data["of"] = max(f.times, len(r.nodes[in.node].instances))
		if in.combination.shown != nil {
			data["matrix"] = in.combination.shown
		}
	}
	r.record(event.NodeStarted, id, data)
}

// beginSet evaluates an instance of a set node, which starts and ends in one entry.
func (r *run) beginSet(in *instance) bool {
	outputs, err := evalOutputs(r.def.Nodes[in.node].Set, r.contextsOf(in))
	if err != nil {
		r.failUnstarted(in, &execution.Failure{Code: "expression", Message: sentence("An output cannot be evaluated", err)})
		return true
	}
	outputs, masked := r.maskOutputs(outputs)
	raw, err := r.encodeOutputs(in, outputs)
	if err != nil {
		r.failUnstarted(in, &execution.Failure{Code: "too_large", Message: err.Error()})
		return true
	}
	in.outputs = outputs
	id := r.addNodeRun(in, journal.NodeRun{Status: execution.NodeCompleted, Outputs: raw})
	r.recordStart(in, id, nil)
	r.warnMasked(id, masked)
	r.record(event.NodeCompleted, id, map[string]any{"outputs": brief(raw)})
	r.move(in, graph.Completed)
	return true
}
