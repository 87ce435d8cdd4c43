package engine

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/graph"
	"foundry/internal/journal"
	"foundry/internal/queue"
	"foundry/internal/reconcile"
)

// load rebuilds the state of an execution that has been begun before, by this worker or another. Where
// nothing of it had become durable, it only takes in the facts.
func (r *run) load(settled execution.Settled) error {
	r.facts = factsOf(settled)
	if !settled.Started && !r.c.Rerun || r.def.fault != nil {
		return nil // without a text there are no nodes to tell its runs by: it is going to end
	}
	r.nodeSeen = settled.Started
	runs, err := r.e.Executions.NodeRuns(r.ctx, r.c.ID)
	if err != nil {
		return err
	}
	for i := range runs {
		node, ok := r.def.Graph.Index(runs[i].Key)
		if !ok {
			return fmt.Errorf("a node run of the unknown node %q", runs[i].Key)
		}
		if err := r.recall(node, &runs[i], settled.CanceledAt); err != nil {
			return err
		}
	}
	r.tail.refused = r.tail.stored > maxExecutionLog
	r.recallFailures()
	return r.recallSandbox()
}

func factsOf(s execution.Settled) queue.Facts {
	return queue.Facts{Signal: s.Signal, Canceled: s.CanceledAt != nil, CancelForced: s.CancelForced, DeadlinePassed: s.DeadlinePassed}
}

// recall takes in one node run; those of a node come in the order of their attempts. One that was
// started after the cancel runs because of it.
func (r *run) recall(node int, nr *execution.NodeRun, canceledAt *time.Time) error {
	n := &r.nodes[node]
	n.attempt, n.failure, n.outputs = nr.Attempt, nr.Failure, nil
	r.states[node] = graph.Status(nr.Status)
	r.tail.stored += nr.StdoutBytes + nr.StderrBytes
	switch nr.Status {
	case execution.NodeCompleted, execution.NodeFailed, execution.NodeTimedOut:
		if nr.Outputs != nil {
			if err := json.Unmarshal(nr.Outputs, &n.outputs); err != nil {
				return fmt.Errorf("decoding the outputs of %q: %w", nr.Key, err)
			}
		}
		if nr.Status == execution.NodeCompleted {
			return nil
		}
		n.charged++
		// One that never had a sandbox failed before it began, which is final.
		if delay, again := r.retryDelay(node, nr.ExitCode); again && nr.SandboxID != nil {
			if nr.RetryIn != nil {
				delay = max(*nr.RetryIn, 0)
			}
			r.states[node] = graph.Running
			n.retryDue = delay
		}
	case execution.NodeInterrupted:
		n.interruptions++
		r.states[node] = graph.Pending
	case execution.NodeRunning:
		cursor := journal.Cursor{NodeRunID: nr.ID, StdoutBytes: nr.StdoutBytes, StderrBytes: nr.StderrBytes}
		if nr.Cursor != nil {
			if err := json.Unmarshal(nr.Cursor, &cursor.Position); err != nil {
				return fmt.Errorf("decoding the cursor of %q: %w", nr.Key, err)
			}
		}
		n.current, n.retryDue = nr.ID, 0
		n.afterCancel = canceledAt != nil && nr.StartedAt != nil && nr.StartedAt.After(*canceledAt)
		r.active[nr.ID] = node
		r.recalled[nr.ID] = cursor
	case execution.NodeWaiting:
		n.current = nr.ID
		n.setDue(nr.DueIn)
	case execution.NodePending, execution.NodeSkipped, execution.NodeCanceled:
	}
	return nil
}

// recallFailures arms the retries that are due and the times that end a wait, and remembers the first failure.
func (r *run) recallFailures() {
	for node := range r.nodes {
		n := &r.nodes[node]
		switch {
		case r.states[node] == graph.Running && n.current == uuid.Nil:
			delay := n.retryDue
			r.then(func() { r.schedule(node, delay) })
		case r.states[node] == graph.Waiting:
			r.then(func() { r.arm(node) })
		case r.states[node] == graph.Failed || r.states[node] == graph.TimedOut:
			r.noteFailure(node)
		}
	}
}

// recallSandbox takes up the execution's sandbox where its row says it is.
func (r *run) recallSandbox() error {
	current, err := r.e.Sandboxes.current(r.ctx, r.c.ID)
	if err != nil {
		return err
	}
	switch {
	case current == nil, current.broken && len(r.active) == 0:
	case current.expired:
		r.machine = machine{state: machineFailed, id: current.id, failure: &execution.Failure{Code: "sandbox_expired", Message: reconcile.ReasonExpired}}
	case current.provider != r.e.Provider.Name() || current.host != r.e.Place:
		return errs.E(Elsewhere, "The execution's sandbox is on %s (%s), which this worker cannot reach.", current.host, current.provider)
	default:
		r.machine.resume(r, *current)
		return nil
	}
	for nodeRun := range r.active {
		r.interrupt(nodeRun, "it has no sandbox")
	}
	return nil
}

// attachAll takes up the commands that ran when the execution was loaded. Starting them again is how: a
// command that was started is left alone, and one that was not is started now.
func (r *run) attachAll() {
	for id, cursor := range r.recalled {
		delete(r.recalled, id)
		node, ok := r.active[id]
		if !ok {
			continue
		}
		env, failure := r.commandEnv(node, r.nodes[node].attempt)
		if failure != nil {
			r.endNodeRun(id, execution.NodeFailed, journal.NodeRun{Failure: failure})
			continue
		}
		r.record(event.NodeAttached, id, map[string]any{"claim": r.c.Claim})
		if r.mustEnd(node) {
			r.then(func() { r.attachToEnd(node, id, cursor) })
			continue
		}
		r.then(func() { r.launch(node, id, cursor, env) })
	}
}

// mustEnd reports whether a cancel or a deadline ends the command of a node that was recalled.
func (r *run) mustEnd(node int) bool {
	return r.facts.DeadlinePassed || r.facts.CancelForced || r.facts.Canceled && !r.nodes[node].afterCancel
}

// attachToEnd follows a command only to see it end. One that was never started never will be.
func (r *run) attachToEnd(node int, id uuid.UUID, cursor journal.Cursor) {
	r.nodes[node].signaled = true
	sh, ctx := r.machine.shim, r.machine.ctx
	r.tail.follow(ctx, sh, cursor)
	r.work.Go(func() { r.endCommand(ctx, sh, id) })
}
