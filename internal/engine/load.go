package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/graph"
	"foundry/internal/journal"
)

// load rebuilds the state of an execution that has been begun before, by this worker or another. It reports
// whether nothing of it had become durable, so that the execution begins now.
func (r *run) load(ctx context.Context) (fresh bool, err error) {
	started, err := r.e.Executions.Settle(ctx, r.c.ID, r.c.Claim)
	if err != nil || !started {
		return err == nil, err
	}
	if r.def.fault != nil {
		return false, nil // there are no nodes to tell its runs by: it is going to end
	}
	r.nodeSeen = true
	runs, err := r.e.Executions.NodeRuns(ctx, r.c.ID)
	if err != nil {
		return false, err
	}
	for i := range runs {
		node, ok := r.def.Graph.Index(runs[i].Key)
		if !ok {
			return false, fmt.Errorf("a node run of the unknown node %q", runs[i].Key)
		}
		if err := r.recall(node, &runs[i]); err != nil {
			return false, err
		}
	}
	r.recallFailures()
	return false, r.recallSandbox(ctx)
}

// recall takes in one node run; those of a node come in the order of their attempts.
func (r *run) recall(node int, nr *execution.NodeRun) error {
	n := &r.nodes[node]
	n.attempt, n.failure = nr.Attempt, nr.Failure
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
		if delay, again := r.retryDelay(node, nr.ExitCode); again {
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
		r.active[nr.ID] = node
		r.recalled[nr.ID] = cursor
	case execution.NodePending, execution.NodeWaiting, execution.NodeSkipped, execution.NodeCanceled:
	}
	return nil
}

// recallFailures arms the retries that are due and remembers the first failure.
func (r *run) recallFailures() {
	for node := range r.nodes {
		n := &r.nodes[node]
		switch {
		case r.states[node] == graph.Running && n.current == uuid.Nil:
			delay := n.retryDue
			r.then(func() { r.schedule(node, delay) })
		case r.states[node] == graph.Failed || r.states[node] == graph.TimedOut:
			r.noteFailure(node)
		}
	}
}

// recallSandbox takes up the execution's sandbox where its row says it is.
func (r *run) recallSandbox(ctx context.Context) error {
	id, found, err := r.e.Sandboxes.Current(ctx, r.c.ID)
	if err != nil {
		return err
	}
	if found {
		r.machine.resume(r, id)
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
		r.then(func() { r.launch(node, id, cursor, env) })
	}
	if r.facts.Canceled || r.facts.DeadlinePassed {
		r.then(r.endCommands)
	}
}
