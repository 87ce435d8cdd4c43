package engine

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/graph"
	"foundry/internal/journal"
)

const defaultKeepFor = 4 * time.Hour

// conclude ends the execution by the graph's verdict.
func (r *run) conclude(verdict graph.Verdict) {
	switch {
	case r.facts.DeadlinePassed:
		r.finish(execution.TimedOut, &execution.Failure{
			Code: "timed_out", Message: fmt.Sprintf("The execution did not end within its timeout of %s.", r.def.Timeout),
		})
	case verdict == graph.VerdictCanceled:
		r.finish(execution.Canceled, nil)
	case verdict == graph.VerdictFailed:
		r.finish(execution.Failed, r.failure())
	default:
		r.finish(execution.Completed, nil)
	}
}

// noteFailure remembers the first instance that failed for good.
func (r *run) noteFailure(in *instance) {
	if r.firstFailed == nil && !r.def.Nodes[in.node].ContinueOnError {
		r.firstFailed = in
	}
}

// failure is that of the first node that failed.
func (r *run) failure() *execution.Failure {
	if r.firstFailed == nil {
		return &execution.Failure{Code: "node_failed", Message: "A node failed."}
	}
	f := execution.Failure{Code: "node_failed", Message: "The node failed."}
	if cause := r.firstFailed.failure; cause != nil {
		f = *cause
	}
	n := &r.def.Nodes[r.firstFailed.node]
	f.Node = n.Key
	if n.Fans() && !r.nodes[r.firstFailed.node].whole {
		f.Index = &r.firstFailed.index
	}
	return &f
}

// finish writes the end of the execution into the entry: its last event, its outputs, and the
// intent for its sandbox.
func (r *run) finish(status execution.Status, failure *execution.Failure) {
	var outputs json.RawMessage
	if status == execution.Completed {
		raw, err := r.outputs()
		if err != nil {
			status, failure = execution.Failed, &execution.Failure{Code: "outputs", Message: err.Error()}
		}
		outputs = raw
	}
	data := map[string]any{}
	if outputs != nil {
		data["outputs"] = brief(outputs)
	}
	if failure != nil {
		failure = r.maskFailure(failure)
		data["error"] = failure
	}
	r.machine.end(r, status)
	r.record(event.Type("execution."+string(status)), uuid.Nil, data)
	r.entry.Signal, r.entry.Parent = r.facts.Signal, r.c.ParentID
	r.entry.End = &journal.End{Status: status, Outputs: outputs, Failure: failure}
	r.then(func() { r.ended = true })
}

// outputs evaluates the outputs of the execution; nil when the text names none. The error is a sentence.
func (r *run) outputs() (json.RawMessage, error) {
	if len(r.def.Outputs) == 0 {
		return nil, nil
	}
	values, err := evalOutputs(r.def.Outputs, r.finalContexts())
	if err != nil {
		return nil, fmt.Errorf("%s", sentence("The execution's outputs cannot be evaluated", err))
	}
	values, masked := r.maskOutputs(values)
	r.warnMasked(uuid.Nil, masked)
	return encodeOutputs(values, maxExecutionOutputs)
}
