package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/expr"
	"foundry/internal/graph"
	"foundry/internal/journal"
	"foundry/internal/workflow"
)

// beginWaiting makes an instance of an approval or wait node durable as waiting. Nothing waits once the execution is canceled.
func (r *run) beginWaiting(in *instance) bool {
	if r.cancel() != graph.NotCanceled {
		r.skip(in, r.stopReason())
		return true
	}
	prompt, due, err := r.waitFor(in)
	if err != nil {
		r.failUnstarted(in, &execution.Failure{Code: "expression", Message: err.Error()})
		return true
	}
	id := r.addNodeRun(in, journal.NodeRun{Status: execution.NodeWaiting, Prompt: prompt, DueIn: due})
	data := map[string]any{"kind": string(r.def.Nodes[in.node].Kind)}
	if prompt != nil {
		data["prompt"] = prompt
	}
	if due != nil {
		data["due_at"] = r.databaseTime().Add(*due).UTC().Format(time.RFC3339Nano)
	}
	r.recordStart(in, id, nil)
	r.record(event.NodeWaiting, id, data)
	in.current = id
	in.setDue(due)
	r.move(in, graph.Waiting)
	r.then(func() { r.arm(in) })
	return true
}

// waitFor evaluates what an instance waits for: an approval's prompt, and the time that ends it, from now. The error is a sentence.
func (r *run) waitFor(in *instance) (prompt json.RawMessage, due *time.Duration, err error) {
	n := &r.def.Nodes[in.node]
	if n.Kind == workflow.KindApproval {
		if n.Timeout > 0 {
			due = &n.Timeout
		}
		prompt, err = r.prompt(in)
		return prompt, due, err
	}
	d, err := r.waitTime(n.Wait, r.contextsOf(in))
	return nil, &d, err
}

// prompt is what an approval asks, and of whom.
func (r *run) prompt(in *instance) (json.RawMessage, error) {
	a := r.def.Nodes[in.node].Approval
	message := ""
	if a.Message != nil {
		v, err := a.Message.Eval(r.contextsOf(in))
		if err != nil {
			return nil, errors.New(sentence("The message cannot be evaluated", err))
		}
		message = storable(r.mask(expr.String(v)), maxMessage)
	}
	roles := a.Roles
	if roles == nil {
		roles = []string{}
	}
	raw, err := json.Marshal(map[string]any{"message": message, "roles": roles})
	if err != nil {
		return nil, fmt.Errorf("encoding a prompt: %w", err)
	}
	return raw, nil
}

// waitTime evaluates how long a wait node waits; what lies in the past is no time. The error is a sentence.
func (r *run) waitTime(w *workflow.Wait, env expr.Env) (time.Duration, error) {
	template, what := w.For, "The pause"
	if template == nil {
		template, what = w.Until, "The instant"
	}
	v, err := template.Eval(env)
	if err != nil {
		return 0, errors.New(sentence(what+" cannot be evaluated", err))
	}
	text := r.mask(expr.String(v))
	if w.For != nil {
		return workflow.ParseWait(text)
	}
	until, err := workflow.ParseInstant(text)
	if err != nil {
		return 0, err
	}
	return max(until.Sub(r.databaseTime()), 0), nil
}

// databaseTime estimates the database's clock, to a round trip.
func (r *run) databaseTime() time.Time {
	return r.c.ClaimedAt.Add(time.Since(r.c.ReceivedAt))
}

// setDue takes in when a wait ends by itself; nil is never.
func (in *instance) setDue(d *time.Duration) {
	in.due = nil
	if d != nil {
		at := time.Now().Add(*d)
		in.due = &at
	}
}

// arm ends a waiting instance when its time has come, if this worker still holds the execution then.
func (r *run) arm(in *instance) {
	if in.due == nil {
		return
	}
	ctx, id := r.ctx, in.current
	in.dueTimer = time.AfterFunc(time.Until(*in.due), func() {
		r.tell(ctx, func() {
			if in.current == id {
				r.waited(in)
			}
		})
	})
}

// waited ends an instance whose time has come. A decision that was made meanwhile is a newer fact, and refuses the entry.
func (r *run) waited(in *instance) {
	if r.def.Nodes[in.node].Kind == workflow.KindWait {
		r.endWaiting(in, execution.NodeCompleted, nil)
		return
	}
	r.endWaiting(in, execution.NodeTimedOut, &execution.Failure{
		Code: "timed_out", Message: fmt.Sprintf("Nobody decided within %s.", r.def.Nodes[in.node].Timeout),
	})
}

// endWaiting writes the end of a waiting node run into the entry.
func (r *run) endWaiting(in *instance, status execution.NodeStatus, failure *execution.Failure) {
	data := map[string]any{}
	if failure != nil {
		data["error"] = failure
	}
	r.writeNodeRun(in, journal.NodeRun{ID: in.current, Status: status, Failure: failure})
	r.record(event.Type("node."+string(status)), in.current, data)
	r.entry.Guarded, r.entry.Signal = true, r.facts.Signal
	in.current, in.failure = uuid.Nil, failure
	r.move(in, graph.Status(status))
}

// cancelWaiting ends every wait: the execution is canceled, or its time is over.
func (r *run) cancelWaiting() {
	for in := range r.instances() {
		if in.status == graph.Waiting {
			r.cancelWait(in)
		}
	}
}

// cancelWait ends the wait of one instance. An execution that it waits for is canceled, and its end is waited for.
func (r *run) cancelWait(in *instance) {
	if r.def.Nodes[in.node].Kind == workflow.KindWorkflow {
		r.cancelChild(in)
		return
	}
	r.endWaiting(in, execution.NodeCanceled, nil)
}

// waiting are the instances of a kind that wait, by the id of their node run.
func (r *run) waiting(kind workflow.Kind) map[uuid.UUID]*instance {
	waiting := map[uuid.UUID]*instance{}
	for in := range r.instances() {
		if in.status == graph.Waiting && r.def.Nodes[in.node].Kind == kind {
			waiting[in.current] = in
		}
	}
	return waiting
}

// takeDecisions takes in what people have decided about approvals, which is durable with its event already.
func (r *run) takeDecisions() error {
	waiting := r.waiting(workflow.KindApproval)
	if len(waiting) == 0 {
		return nil
	}
	runs, err := r.e.Executions.NodeRuns(r.ctx, r.c.ID)
	if err != nil {
		return fmt.Errorf("reading decisions: %w", err)
	}
	for i := range runs {
		in, ok := waiting[runs[i].ID]
		if !ok || !runs[i].Status.Terminal() {
			continue
		}
		in.current, in.failure = uuid.Nil, runs[i].Failure
		if runs[i].Outputs != nil {
			if err := json.Unmarshal(runs[i].Outputs, &in.outputs); err != nil {
				return fmt.Errorf("decoding a decision: %w", err)
			}
		}
		r.move(in, graph.Status(runs[i].Status))
	}
	return nil
}
