package stream

import (
	"context"
	"errors"
	"io"
	"sort"
	"sync"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
)

const (
	// pageRows is how many events are read at once. Chunks are at most 64 KiB, so a page is at most
	// 4 MiB, and every watch holds at most one.
	pageRows = 64
	// ringEntries and ringBytes bound what a topic keeps for those who are behind; the newest page
	// always fits. idleBytes is what it keeps while nobody is.
	ringEntries = 1024
	ringBytes   = 4 << 20
	idleBytes   = 256 << 10
	// batchBytes bounds what one Poll takes, and so what a stuck stream holds on to beyond the ring.
	batchBytes = 256 << 10

	retryAfter = time.Second
)

// topic is one watched execution: the newest events, read once for all who watch. It lives from the
// first watch to the last. A goroutine of its own reads.
type topic struct {
	id      uuid.UUID
	refs    int           // guarded by Hub.mu
	wake    chan struct{} // cap 1: there may be something to read
	started chan struct{} // closed when head is known, or err is set
	done    chan struct{} // closed when the last watch has gone

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when any of the following has changed
	watches map[*Watch]struct{}
	ring    []*Entry // in order, every event from above floor to head
	bytes   int      // of the ring
	floor   int64
	head    int64 // the newest event that was read
	last    int64 // the last event that there will ever be; 0: not known
	dirty   bool  // the table may hold more than head
	err     error // what ends every watch
}

func newTopic(id uuid.UUID) *topic {
	return &topic{
		id: id, wake: make(chan struct{}, 1), started: make(chan struct{}), done: make(chan struct{}),
		changed: make(chan struct{}), watches: make(map[*Watch]struct{}),
	}
}

// run finds out where the execution stands and then reads whenever there is more and somebody waits
// for it. after is the position of the first watch.
func (t *topic) run(ctx context.Context, h *Hub, after int64) {
	t.start(ctx, h, after)
	close(t.started)
	for {
		select {
		case <-ctx.Done():
			t.fail(ErrStopped)
			return
		case <-t.done:
			return
		case <-t.wake:
		}
		for t.wantsRead() {
			if err := t.read(ctx, h); err != nil && !t.pause(ctx, h, err) {
				break
			}
		}
	}
}

// start sets the position from which this topic reads. A first watch that is at most a page behind sets
// its own, so that all who come with it share the page.
func (t *topic) start(ctx context.Context, h *Hub, after int64) {
	heads, err := h.executions.Heads(ctx, []uuid.UUID{t.id})
	if ctx.Err() != nil {
		t.fail(ErrStopped)
		return
	}
	if err != nil {
		t.fail(err)
		return
	}
	head, ok := heads[t.id]
	if !ok {
		t.fail(errGone())
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.head = head.LastSeq
	if behind := head.LastSeq - after; behind > 0 && behind <= pageRows {
		t.head = after
		t.dirty = true
	}
	t.floor = t.head
	if head.Finished {
		t.last = head.LastSeq
	}
}

// wantsRead reports whether there may be more, and at least one watch has taken all that there is. With
// that, reading goes at the pace of the fastest watch, never ahead of all of them.
func (t *topic) wantsRead() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.dirty || t.err != nil || t.finished() {
		return false
	}
	for w := range t.watches {
		if w.joined && w.pos >= t.head {
			return true
		}
	}
	return false
}

func (t *topic) finished() bool { return t.last > 0 && t.head >= t.last }

// read appends the next page. dirty is cleared before the query, so that what commits after the query's
// snapshot is not missed.
func (t *topic) read(ctx context.Context, h *Hub) error {
	t.mu.Lock()
	t.dirty = false
	after := t.head
	t.mu.Unlock()
	events, err := h.page(ctx, h.reads, t.id, after, event.LogFilter{})
	if err != nil {
		t.mark()
		return err
	}
	t.append(entries(events))
	return nil
}

// pause waits after an error and reports whether to try again.
func (t *topic) pause(ctx context.Context, h *Hub, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	h.log.Error().Err(err).Stringer("execution_id", t.id).Msg("reading events for streams failed; trying again")
	select {
	case <-ctx.Done():
		return false
	case <-t.done:
		return false
	case <-time.After(retryAfter):
		return true
	}
}

func (t *topic) append(page []*Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(page) == 0 {
		return
	}
	for _, e := range page {
		t.bytes += e.size()
		if e.Type.EndsExecution() {
			t.last = e.Seq
		}
	}
	old := len(t.ring)
	t.ring = append(t.ring, page...)
	t.head = page[len(page)-1].Seq
	t.dirty = t.dirty || len(page) == pageRows
	t.evict(ringBytes, ringEntries, old)
	t.broadcast()
}

// evict drops the oldest entries, at most limit of them, until the ring is within the bounds.
func (t *topic) evict(maxBytes, maxEntries, limit int) {
	n := 0
	for n < limit && (t.bytes > maxBytes || len(t.ring)-n > maxEntries) {
		t.bytes -= t.ring[n].size()
		t.floor = t.ring[n].Seq
		t.ring[n] = nil // the array outlives the slice's start
		n++
	}
	t.ring = t.ring[n:]
}

// trim lets go of most of the ring when nobody is behind.
func (t *topic) trim() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.watches {
		if w.joined && w.pos < t.head {
			return
		}
	}
	t.evict(idleBytes, ringEntries, len(t.ring))
}

// mark says that the table may hold more than was read.
func (t *topic) mark() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dirty = true
	t.signal()
}

// observe compares what was read with a head from the table. Its absence means that the execution has
// been deleted.
func (t *topic) observe(head execution.Head, exists bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !exists {
		t.failLocked(errGone())
		return
	}
	if head.Finished && t.last == 0 {
		t.last = head.LastSeq
		t.broadcast() // it may have been read already: a newer release's name for an end is unknown here
	}
	if head.LastSeq > t.head {
		t.dirty = true
		t.signal()
	}
}

// signal wakes the reader. The caller holds mu.
func (t *topic) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// broadcast wakes every watch. The caller holds mu.
func (t *topic) broadcast() {
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *topic) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failLocked(err)
}

func (t *topic) failLocked(err error) {
	if t.err == nil {
		t.err = err
		t.broadcast()
	}
}

// errBehind is take's answer to a watch that has to replay up to the head first.
var errBehind = errors.New("behind")

// take gives a watch what it has not seen of the ring. changed, unless it is nil, closes when there may be more; with nil there may be
// more already.
func (t *topic) take(w *Watch) (batch []*Entry, changed <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return nil, nil, t.err
	}
	if w.pos < t.floor {
		if w.joined {
			return nil, nil, ErrLagged
		}
		w.target = t.head
		return nil, nil, errBehind
	}
	w.joined = true
	size := 0
	next := sort.Search(len(t.ring), func(i int) bool { return t.ring[i].Seq > w.pos })
	for _, e := range t.ring[next:] {
		if size > batchBytes {
			return batch, nil, nil
		}
		w.pos = e.Seq
		if w.logs.wants(&e.Event) {
			batch = append(batch, e)
			size += len(e.Chunk) + len(e.Data)
		}
	}
	switch {
	case t.finished() && len(batch) > 0:
		return batch, nil, nil
	case t.finished():
		return nil, nil, io.EOF
	case t.dirty:
		t.signal()
	}
	w.caughtUp = true
	return batch, t.changed, nil
}

func errGone() error {
	return errs.E(errs.NotFound, "There is no execution with this id.")
}
