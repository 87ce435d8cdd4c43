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

// beginWaiting makes an approval or wait node durable as waiting. Nothing waits once the execution is canceled.
func (r *run) beginWaiting(node int) bool {
	if r.cancel() != graph.NotCanceled {
		r.skip(node)
		return true
	}
	prompt, due, err := r.waitFor(node)
	if err != nil {
		r.failUnstarted(node, &execution.Failure{Code: "expression", Message: err.Error()})
		return true
	}
	id := r.addNodeRun(node, journal.NodeRun{Status: execution.NodeWaiting, Prompt: prompt, DueIn: due})
	data := map[string]any{"kind": string(r.def.Nodes[node].Kind)}
	if prompt != nil {
		data["prompt"] = prompt
	}
	if due != nil {
		data["due_at"] = r.databaseTime().Add(*due).UTC().Format(time.RFC3339Nano)
	}
	r.record(event.NodeStarted, id, nil)
	r.record(event.NodeWaiting, id, data)
	r.states[node] = graph.Waiting
	r.nodes[node].current = id
	r.nodes[node].setDue(due)
	r.then(func() { r.arm(node) })
	return true
}

// waitFor evaluates what a node waits for: an approval's prompt, and the time that ends it, from now. The error is a sentence.
func (r *run) waitFor(node int) (prompt json.RawMessage, due *time.Duration, err error) {
	n := &r.def.Nodes[node]
	if n.Kind == workflow.KindApproval {
		if n.Timeout > 0 {
			due = &n.Timeout
		}
		prompt, err = r.prompt(node)
		return prompt, due, err
	}
	d, err := r.waitTime(n.Wait, r.contexts(node))
	return nil, &d, err
}

// prompt is what an approval asks, and of whom.
func (r *run) prompt(node int) (json.RawMessage, error) {
	a := r.def.Nodes[node].Approval
	message := ""
	if a.Message != nil {
		v, err := a.Message.Eval(r.contexts(node))
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
func (n *node) setDue(in *time.Duration) {
	n.due = nil
	if in != nil {
		at := time.Now().Add(*in)
		n.due = &at
	}
}

// arm ends a waiting node when its time has come, if this worker still holds the execution then.
func (r *run) arm(node int) {
	n := &r.nodes[node]
	if n.due == nil {
		return
	}
	ctx, id := r.ctx, n.current
	n.dueTimer = time.AfterFunc(time.Until(*n.due), func() {
		r.tell(ctx, func() {
			if n.current == id {
				r.waited(node)
			}
		})
	})
}

// waited ends a node whose time has come. A decision that was made meanwhile is a newer fact, and refuses the entry.
func (r *run) waited(node int) {
	if r.def.Nodes[node].Kind == workflow.KindWait {
		r.endWaiting(node, execution.NodeCompleted, nil)
		return
	}
	r.endWaiting(node, execution.NodeTimedOut, &execution.Failure{
		Code: "timed_out", Message: fmt.Sprintf("Nobody decided within %s.", r.def.Nodes[node].Timeout),
	})
	r.noteFailure(node)
}

// endWaiting writes the end of a waiting node run into the entry.
func (r *run) endWaiting(node int, status execution.NodeStatus, failure *execution.Failure) {
	n := &r.nodes[node]
	data := map[string]any{}
	if failure != nil {
		data["error"] = failure
	}
	r.entry.NodeRuns = append(r.entry.NodeRuns, journal.NodeRun{
		ID: n.current, Key: r.def.Nodes[node].Key, Attempt: n.attempt, Status: status, Failure: failure,
	})
	r.record(event.Type("node."+string(status)), n.current, data)
	r.entry.Guarded, r.entry.Signal = true, r.facts.Signal
	r.states[node] = graph.Status(status)
	n.current, n.failure = uuid.Nil, failure
}

// cancelWaiting ends every wait: the execution is canceled, or its time is over.
func (r *run) cancelWaiting() {
	for node := range r.states {
		if r.states[node] == graph.Waiting {
			r.endWaiting(node, execution.NodeCanceled, nil)
		}
	}
}

// takeDecisions takes in what people have decided about approvals, which is durable with its event already.
func (r *run) takeDecisions() error {
	waiting := map[uuid.UUID]int{}
	for node := range r.states {
		if r.states[node] == graph.Waiting && r.def.Nodes[node].Kind == workflow.KindApproval {
			waiting[r.nodes[node].current] = node
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	runs, err := r.e.Executions.NodeRuns(r.ctx, r.c.ID)
	if err != nil {
		return fmt.Errorf("reading decisions: %w", err)
	}
	for i := range runs {
		node, ok := waiting[runs[i].ID]
		if !ok || !runs[i].Status.Terminal() {
			continue
		}
		n := &r.nodes[node]
		n.current, n.failure = uuid.Nil, runs[i].Failure
		r.states[node] = graph.Status(runs[i].Status)
		if runs[i].Outputs != nil {
			if err := json.Unmarshal(runs[i].Outputs, &n.outputs); err != nil {
				return fmt.Errorf("decoding a decision: %w", err)
			}
		}
		if runs[i].Status == execution.NodeFailed {
			r.noteFailure(node)
		}
	}
	return nil
}
