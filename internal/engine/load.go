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
	r.recallFans()
	r.tail.refused = r.tail.stored > maxExecutionLog
	r.recallFailures()
	if err := r.takeChildren(true); err != nil {
		return err
	}
	return r.recallSandbox()
}

func factsOf(s execution.Settled) queue.Facts {
	return queue.Facts{Signal: s.Signal, Canceled: s.CanceledAt != nil, CancelForced: s.CancelForced, DeadlinePassed: s.DeadlinePassed}
}

// recall takes in one node run; those of an instance come in the order of their attempts. One that was
// started after the cancel runs because of it.
func (r *run) recall(node int, nr *execution.NodeRun, canceledAt *time.Time) error {
	in := r.instance(node, nr.Index)
	in.attempt, in.failure, in.outputs, in.interrupted, in.combination.shown = nr.Attempt, nr.Failure, nil, false, nr.Combination
	in.reused = nr.ReusedFrom != nil
	in.afterCancel = canceledAt != nil && nr.StartedAt != nil && nr.StartedAt.After(*canceledAt)
	r.state(in, graph.Status(nr.Status))
	r.nodeRuns++
	r.tail.stored += nr.StdoutBytes + nr.StderrBytes
	switch nr.Status {
	case execution.NodeCompleted, execution.NodeFailed, execution.NodeTimedOut:
		if nr.Outputs != nil {
			if err := json.Unmarshal(nr.Outputs, &in.outputs); err != nil {
				return fmt.Errorf("decoding the outputs of %q: %w", nr.Key, err)
			}
		}
		if nr.Status == execution.NodeCompleted {
			return nil
		}
		in.charged++
		// One that never had a sandbox failed before it began, which is final.
		if delay, again := r.retryDelay(in, nr.ExitCode); again && (nr.SandboxID != nil || nr.RetryIn != nil) {
			if nr.RetryIn != nil {
				delay = max(*nr.RetryIn, 0)
			}
			r.state(in, graph.Running)
			in.retryDue = delay
		}
	case execution.NodeInterrupted:
		in.interruptions++
		in.interrupted = true
		r.state(in, graph.Pending)
	case execution.NodeRunning:
		cursor := journal.Cursor{NodeRunID: nr.ID, StdoutBytes: nr.StdoutBytes, StderrBytes: nr.StderrBytes}
		if nr.Cursor != nil {
			if err := json.Unmarshal(nr.Cursor, &cursor.Position); err != nil {
				return fmt.Errorf("decoding the cursor of %q: %w", nr.Key, err)
			}
		}
		in.current, in.retryDue = nr.ID, 0
		r.active[nr.ID] = in
		r.recalled[nr.ID] = cursor
	case execution.NodeWaiting:
		in.current = nr.ID
		in.setDue(nr.DueIn)
	case execution.NodePending, execution.NodeSkipped, execution.NodeCanceled:
	}
	return nil
}

// state sets the state of an instance that was loaded.
func (r *run) state(in *instance, status graph.Status) {
	in.status = status
	if !r.def.Nodes[in.node].Fans() {
		r.states[in.node] = status
	}
}

// recallFailures arms the retries that are due and the times that end a wait, and remembers the first failure.
func (r *run) recallFailures() {
	for in := range r.instances() {
		switch {
		case in.status == graph.Running && in.current == uuid.Nil:
			delay := in.retryDue
			r.then(func() { r.schedule(in, delay) })
		case in.status == graph.Waiting:
			r.then(func() { r.arm(in) })
		case in.status == graph.Failed || in.status == graph.TimedOut:
			r.noteFailure(in)
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
		in, ok := r.active[id]
		if !ok {
			continue
		}
		env, failure := r.commandEnv(in, in.attempt)
		if failure != nil {
			r.endNodeRun(id, execution.NodeFailed, journal.NodeRun{Failure: failure})
			continue
		}
		r.record(event.NodeAttached, id, map[string]any{"claim": r.c.Claim})
		if r.mustEnd(in) {
			r.then(func() { r.attachToEnd(in, id, cursor) })
			continue
		}
		r.then(func() { r.launch(in, id, cursor, env) })
	}
}

// mustEnd reports whether a cancel, a deadline or the failure of its matrix ends the command of an instance that was recalled.
func (r *run) mustEnd(in *instance) bool {
	f := r.nodes[in.node].fan
	return r.facts.DeadlinePassed || r.facts.CancelForced || r.facts.Canceled && !in.afterCancel || f != nil && f.failing
}

// attachToEnd follows a command only to see it end. One that was never started never will be.
func (r *run) attachToEnd(in *instance, id uuid.UUID, cursor journal.Cursor) {
	in.signaled = true
	sh, ctx := r.machine.shim, r.machine.ctx
	r.tail.follow(ctx, sh, cursor)
	r.work.Go(func() { r.endCommand(ctx, sh, id) })
}
