package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"foundry/internal/event"
)

// Watch follows one execution from a position. It belongs to one goroutine.
type Watch struct {
	hub   *Hub
	topic *topic
	logs  Logs

	closed bool

	pos      int64 // the last event that was taken or passed over; guarded by topic.mu once joined
	joined   bool  // takes from the ring; guarded by topic.mu
	caughtUp bool  // has once had all that there was

	// While it replays: up to where, and what to ask for. Node runs that start later have all their
	// logs behind target, where the ring filters by name.
	target   int64
	resolved int64 // the target that filter was made for; 0: none
	filter   event.LogFilter
}

// Watch follows an execution: first all that Logs lets pass after the sequence after, then live. The caller has
// checked that the execution may be seen, and closes the watch. errs.NotFound if there is no such
// execution, ErrStopped after End.
func (h *Hub) Watch(ctx context.Context, id uuid.UUID, after int64, logs Logs) (*Watch, error) {
	t, err := h.join(id, after)
	if err != nil {
		return nil, err
	}
	w := &Watch{hub: h, topic: t, logs: logs, pos: after}
	select {
	case <-t.started:
	case <-ctx.Done():
		h.leave(t)
		return nil, fmt.Errorf("waiting for the stream's start: %w", context.Cause(ctx))
	}
	t.mu.Lock()
	t.watches[w] = struct{}{}
	err = t.err
	t.mu.Unlock()
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close ends the watch. Closing again does nothing.
func (w *Watch) Close() {
	if w.closed {
		return
	}
	w.closed = true
	w.topic.mu.Lock()
	delete(w.topic.watches, w)
	w.topic.mu.Unlock()
	w.hub.leave(w.topic)
}

// Position returns the sequence from which another watch goes on without gap or duplicate.
func (w *Watch) Position() int64 { return w.pos }

// Live reports whether the watch has once had all that there was: what comes now is new.
func (w *Watch) Live() bool { return w.caughtUp }

// Poll returns the next events, in order. It waits for the database only while it replays. changed closes when it is worth asking again;
// without it, that is so at once, and the batch is not empty.
//
// io.EOF: the execution has ended and everything was delivered. ErrLagged: this watch was too slow, and
// another one goes on from Position. ErrStopped: the hub has stopped. errs.NotFound: the execution was deleted.
func (w *Watch) Poll(ctx context.Context) (batch []*Entry, changed <-chan struct{}, err error) {
	for {
		batch, changed, err = w.topic.take(w)
		if errors.Is(err, ErrLagged) {
			w.hub.metrics.lagged.Inc()
		}
		if !errors.Is(err, errBehind) {
			return batch, changed, err
		}
		for w.pos < w.target {
			batch, err = w.replay(ctx)
			if err != nil || len(batch) > 0 {
				return batch, nil, err
			}
		}
	}
}

// replay reads the next page on its own, no further than target.
func (w *Watch) replay(ctx context.Context) ([]*Entry, error) {
	if err := w.resolve(ctx); err != nil {
		return nil, err
	}
	events, err := w.hub.page(ctx, w.hub.replays, w.topic.id, w.pos, w.filter)
	if err != nil {
		return nil, err
	}
	full := len(events) == pageRows
	for i := range events {
		if events[i].Seq > w.target {
			events, full = events[:i], false
			break
		}
	}
	// A page that is not full has shown all there is up to the target, whatever the filter left out.
	w.pos = w.target
	if full {
		w.pos = events[len(events)-1].Seq
	}
	return entries(events), nil
}

// resolve turns a node's name into the ids of its runs, once per target. A run's row commits no later
// than its first log, so the rows read now cover every log up to target.
func (w *Watch) resolve(ctx context.Context) error {
	if w.resolved == w.target {
		return nil
	}
	if w.logs.None || w.logs.Node == "" {
		w.filter = w.logs.Filter(nil)
	} else {
		runs, err := w.hub.executions.NodeRuns(ctx, w.topic.id)
		if err != nil {
			return err
		}
		w.filter = w.logs.Filter(runs)
	}
	w.resolved = w.target
	return nil
}
