package stream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"foundry/internal/execution"
)

const (
	// pendingMax bounds the summaries that wait for one slow stream.
	pendingMax = 1000
	// summariesPerQuery bounds one query for summaries.
	summariesPerQuery = 1000
	// checkedPerOrganization is how many of an organization's newest executions the safety net looks
	// at: what list screens can show.
	checkedPerOrganization = 200
)

// organization is one whose executions are watched as a list. Guarded by Hub.mu, like its fields.
type organization struct {
	watches map[*OrganizationWatch]struct{}
	// seen holds the last_seq of the newest executions, as they were at the last check or when they were
	// published since. nil: the first look at the table has yet to come.
	seen map[uuid.UUID]int64
}

// OrganizationWatch follows the executions of an organization. Safe for concurrent use.
type OrganizationWatch struct {
	hub            *Hub
	organizationID uuid.UUID

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when any of the following has changed
	pending map[uuid.UUID][]byte
	reset   bool
	stopped bool
}

// WatchOrganization follows the organization's executions from now on. When it returns, every later commit
// will be seen. ErrStopped after End.
func (h *Hub) WatchOrganization(ctx context.Context, organizationID uuid.UUID) (*OrganizationWatch, error) {
	w := &OrganizationWatch{
		hub: h, organizationID: organizationID, changed: make(chan struct{}), pending: make(map[uuid.UUID][]byte),
	}
	h.mu.Lock()
	if h.stopped {
		h.mu.Unlock()
		return nil, ErrStopped
	}
	o, ok := h.organizations[organizationID]
	if !ok {
		o = &organization{watches: make(map[*OrganizationWatch]struct{})}
		h.organizations[organizationID] = o
	}
	o.watches[w] = struct{}{}
	known := o.seen != nil
	h.mu.Unlock()
	if known {
		return w, nil
	}
	if err := h.checkOrganization(ctx, organizationID); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close ends the watch. Closing again does nothing.
func (w *OrganizationWatch) Close() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	o, ok := h.organizations[w.organizationID]
	if !ok {
		return
	}
	delete(o.watches, w)
	if len(o.watches) == 0 {
		delete(h.organizations, w.organizationID)
	}
	if len(h.organizations) == 0 {
		h.throttle.clear()
	}
}

// Poll returns the newest summaries since the last Poll as server-sent events, and whether the client
// has to read its lists again, which comes first. changed closes when there may be more. ErrStopped: the hub has stopped.
func (w *OrganizationWatch) Poll() (frames [][]byte, reset bool, changed <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return nil, false, nil, ErrStopped
	}
	frames = make([][]byte, 0, len(w.pending))
	for _, frame := range w.pending {
		frames = append(frames, frame)
	}
	reset = w.reset
	clear(w.pending)
	w.reset = false
	return frames, reset, w.changed, nil
}

func (w *OrganizationWatch) push(id uuid.UUID, frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[id] = frame
	if len(w.pending) > pendingMax {
		clear(w.pending)
		w.reset = true
		w.hub.metrics.lagged.Inc()
	}
	w.broadcast()
}

func (w *OrganizationWatch) pushReset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.pending) // the lists that the client reads now are newer
	w.reset = true
	w.broadcast()
}

func (w *OrganizationWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.broadcast()
}

func (w *OrganizationWatch) broadcast() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// runSummaries reads and publishes summaries as the throttle allows.
func (h *Hub) runSummaries(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.summaryWake:
		case <-timer.C:
		}
		wait, err := h.publishDue(ctx, time.Now())
		if err != nil && ctx.Err() == nil {
			h.log.Error().Err(err).Msg("reading summaries failed; trying again")
			wait = retryAfter
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// publishDue does what is due and returns after how long more will be; 0: not before a wake-up.
func (h *Hub) publishDue(ctx context.Context, now time.Time) (time.Duration, error) {
	h.mu.Lock()
	ids, reset, wait := h.throttle.due(now)
	if reset {
		for _, o := range h.organizations {
			for w := range o.watches {
				w.pushReset()
			}
		}
	}
	h.mu.Unlock()
	for len(ids) > 0 {
		n := min(len(ids), summariesPerQuery)
		summaries, err := h.executions.Summaries(ctx, ids[:n])
		if err != nil {
			h.mu.Lock()
			h.throttle.add(ids)
			h.mu.Unlock()
			return 0, err
		}
		h.publish(summaries)
		ids = ids[n:]
	}
	return wait, nil
}

// publish gives each summary to the streams of its organization, encoded once, unless one as new was
// published before.
func (h *Hub) publish(summaries []execution.Summary) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range summaries {
		s := &summaries[i]
		o, ok := h.organizations[s.OrganizationID]
		if !ok || o.seen[s.ID] >= s.Execution.LastSeq {
			continue
		}
		frame, err := summaryFrame(s)
		if err != nil {
			h.log.Error().Err(err).Stringer("execution_id", s.ID).Msg("encoding a summary failed")
			continue
		}
		if o.seen != nil {
			o.seen[s.ID] = s.Execution.LastSeq
		}
		for w := range o.watches {
			w.push(s.ID, frame)
		}
	}
}

// checkOrganizations is the safety net of the organizations' streams: one query for each that has any.
func (h *Hub) checkOrganizations(ctx context.Context) error {
	h.mu.Lock()
	ids := make([]uuid.UUID, 0, len(h.organizations))
	for id := range h.organizations {
		ids = append(ids, id)
	}
	h.mu.Unlock()
	for _, id := range ids {
		if err := h.checkOrganization(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// checkOrganization compares the newest executions with what was published, and has those read that have
// moved. The first time it only remembers.
func (h *Hub) checkOrganization(ctx context.Context, organizationID uuid.UUID) error {
	list, err := h.executions.List(ctx, execution.ListParams{OrganizationID: organizationID, Limit: checkedPerOrganization})
	if err != nil {
		return fmt.Errorf("looking at organization %s: %w", organizationID, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	o, ok := h.organizations[organizationID]
	if !ok {
		return nil
	}
	seen := make(map[uuid.UUID]int64, len(list))
	var moved []uuid.UUID
	for i := range list {
		id, version := list[i].ID, list[i].LastSeq
		if o.seen != nil && version > o.seen[id] {
			moved = append(moved, id)
		}
		seen[id] = o.seen[id]
		if o.seen == nil {
			seen[id] = version
		}
	}
	o.seen = seen
	if len(moved) > 0 {
		h.throttle.add(moved)
		h.wakeSummaries()
	}
	return nil
}
