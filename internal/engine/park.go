package engine

import (
	"time"

	"github.com/google/uuid"

	"foundry/internal/event"
	"foundry/internal/graph"
	"foundry/internal/journal"
)

// Waits that end sooner than these are slept through by the worker: parking costs two commits and a claim (protocols.md, 1).
const (
	sleepRetry = 30 * time.Second
	sleepWait  = 2 * time.Second
)

// maxReasons is how many of the things that a parked execution waits for its event names.
const maxReasons = 20

// park writes into the entry that the execution is given back until a signal or a time, if all that it does is wait for long. It
// reports whether it did.
func (r *run) park() bool {
	if len(r.active) > 0 || r.calls > 0 || len(r.inbox) > 0 || !r.machine.settled() || r.machine.suspected {
		return false
	}
	var due *time.Duration
	reason := ""
	var reasons []map[string]any
	for in := range r.instances() {
		kind, left, waits := r.waits(in)
		switch {
		case !waits:
			continue
		case left != nil && (*left <= sleepWait || kind == "retry" && *left <= sleepRetry):
			return false
		}
		why := map[string]any{"node": r.def.Nodes[in.node].Key, "index": in.index, "kind": kind}
		if left != nil {
			why["due_at"] = r.databaseTime().Add(*left).UTC().Format(time.RFC3339Nano)
			if due == nil || *left < *due {
				due, reason = left, kind
			}
		}
		if len(reasons) < maxReasons {
			reasons = append(reasons, why)
		}
	}
	if len(reasons) == 0 {
		return false // a message is on its way
	}
	r.record(event.ExecutionWaiting, uuid.Nil, map[string]any{"reasons": reasons})
	r.entry.Signal = r.facts.Signal
	r.entry.Park = &journal.Park{DueIn: due, Reason: reason}
	return true
}

// waits says whether an instance waits, for what, and how long yet; nil is until somebody decides.
func (r *run) waits(in *instance) (kind string, left *time.Duration, waits bool) {
	switch {
	case in.status == graph.Waiting:
		kind = string(r.def.Nodes[in.node].Kind)
		if in.due != nil {
			d := time.Until(*in.due)
			left = &d
		}
		return kind, left, true
	case in.status == graph.Running && in.retrying != nil:
		d := time.Until(in.retryAt)
		return "retry", &d, true
	}
	return "", nil, false
}
