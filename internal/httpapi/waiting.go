package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
)

// positionCounted is how far a position is counted.
const positionCounted = 1000

// waitingFor says why an execution in the queue does not run yet, what a parked one waits for, and what holds up one that runs;
// nil for any other.
func (h *handlers) waitingFor(ctx context.Context, e *execution.Execution) (*openapi.WaitingFor, error) {
	switch {
	case e.Status == execution.Running && e.WorkerID != nil:
		return h.heldUp(ctx, e)
	case e.Status != execution.Queued && e.Status != execution.Waiting && e.Status != execution.Running:
		return nil, nil //nolint:nilnil // waiting for nothing is not an error
	}
	place, queued, err := h.executions.QueuePosition(ctx, e.ID)
	if err == nil && !queued && e.Status == execution.Queued {
		return h.blocked(ctx, e)
	}
	if err != nil || !queued && e.Status != execution.Waiting { // not in the queue: claimed since it was read
		return nil, err
	}
	now, err := h.machines.Capacity(ctx)
	if err != nil {
		return nil, err
	}
	if !queued {
		nodes, err := h.executions.WaitingNodes(ctx, e.ID)
		if err != nil || len(nodes) == 0 { // claimed since it was read
			return nil, err
		}
		return parkedJSON(nodes, now), nil
	}
	given := ""
	if e.Status == execution.Running {
		kind, reason, err := h.executions.Hold(ctx, e.ID)
		if err != nil {
			return nil, err
		}
		if kind == string(event.ExecutionReleased) {
			given = reason
		}
	}
	return queuedJSON(place, now, given), nil
}

// blocked says what an execution waits for whose concurrency group has no room; nil when it was admitted since it was read.
func (h *handlers) blocked(ctx context.Context, e *execution.Execution) (*openapi.WaitingFor, error) {
	block, ok, err := h.executions.Blocked(ctx, e.ID)
	if err != nil || !ok {
		return nil, err
	}
	now, err := h.machines.Capacity(ctx)
	if err != nil {
		return nil, err
	}
	w := &openapi.WaitingFor{
		Workers: now.Workers, Nodes: []openapi.WaitingNode{},
		Group: &openapi.WaitingGroup{Name: block.Group, Limit: block.Limit, Held: block.Held, Holders: block.Holders},
	}
	becausePaused(w, block.Place)
	if block.PausedSince == nil || block.Held >= block.Limit {
		because(w, openapi.WaitingForReasonGroup, fmt.Sprintf("The concurrency group %q has room for %d, and %d have begun or are about to.", block.Group, block.Limit, block.Held))
	}
	showPosition(w, block.Place, "among those that wait for it")
	return w, nil
}

// heldUp says what an execution that a worker holds waits for; nil when it is at work.
func (h *handlers) heldUp(ctx context.Context, e *execution.Execution) (*openapi.WaitingFor, error) {
	kind, reason, err := h.executions.Hold(ctx, e.ID)
	if err != nil || kind != string(event.SandboxWaiting) {
		return nil, err
	}
	now, err := h.machines.Capacity(ctx)
	if err != nil {
		return nil, err
	}
	w := &openapi.WaitingFor{Workers: now.Workers, Nodes: []openapi.WaitingNode{}}
	because(w, openapi.WaitingForReasonSandbox, "There is no sandbox for it yet. "+reason)
	return w, nil
}

// queuedJSON says every reason why an execution in the queue does not run. given is why a worker gave it back, if one did.
func queuedJSON(place execution.Place, now capacity, given string) *openapi.WaitingFor {
	w := &openapi.WaitingFor{Workers: now.Workers, Nodes: []openapi.WaitingNode{}}
	becausePaused(w, place)
	if given != "" {
		because(w, openapi.WaitingForReasonReleased, "A worker gave it back: "+given)
	}
	switch {
	case now.Workers == 0 && now.Asleep > 0:
		because(w, openapi.WaitingForReasonWorker, fmt.Sprintf("No worker is awake; %d asleep.", now.Asleep))
	case now.Workers == 0:
		because(w, openapi.WaitingForReasonWorker, "No worker is alive.")
	case now.Held >= now.Slots:
		because(w, openapi.WaitingForReasonSlot, fmt.Sprintf("All %d slots of the workers are taken.", now.Slots))
	case len(w.Reasons) == 0:
		because(w, openapi.WaitingForReasonTurn, "A worker has a free slot and is about to take it.")
	}
	showPosition(w, place, "in the queue")
	return w
}

func becausePaused(w *openapi.WaitingFor, place execution.Place) {
	if place.PausedSince != nil {
		by := cmp.Or(place.PausedBy, "somebody")
		because(w, openapi.WaitingForReasonPaused, fmt.Sprintf("The workflow is paused since %s, by %s.", place.PausedSince.UTC().Format(time.RFC3339), by))
	}
}

// showPosition says where an execution stands, unless it is passed over.
func showPosition(w *openapi.WaitingFor, place execution.Place, where string) {
	if place.PausedSince != nil {
		return
	}
	position := strconv.Itoa(place.Ahead + 1)
	if place.Ahead+1 > positionCounted {
		position = strconv.Itoa(positionCounted) + "+"
	}
	w.Position = &position
	w.Message += " Position " + where + ": " + position + "."
}

// because adds a reason; the first is the one that counts most.
func because(w *openapi.WaitingFor, reason openapi.WaitingForReason, sentence string) {
	if len(w.Reasons) == 0 {
		w.Reason = reason
	}
	w.Reasons = append(w.Reasons, string(reason))
	w.Message = strings.TrimSpace(w.Message + " " + sentence)
}
