package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"foundry/internal/errs"
	"foundry/internal/event"
)

func TestWatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, never)

	t.Run("replays a long history and ends", func(t *testing.T) {
		t.Parallel()
		x := b.execution(t)
		x.add(t, repeat(5*pageRows)...)
		last := x.add(t, record{kind: event.ExecutionCompleted})
		for _, after := range []int64{0, 1, pageRows, last - 1} {
			w := b.watch(t, h, x.id, after, Logs{})
			if diff := cmp.Diff(rise(after, last), collect(t, w, last)); diff != "" {
				t.Errorf("after %d: %s", after, diff)
			}
			if _, _, err := w.Poll(t.Context()); !errors.Is(err, io.EOF) {
				t.Errorf("after %d: the end is %v, want io.EOF", after, err)
			}
		}
	})

	t.Run("has nothing after the end", func(t *testing.T) {
		t.Parallel()
		x := b.execution(t)
		last := x.add(t, record{kind: event.ExecutionFailed})
		for _, after := range []int64{last, last + 10} {
			if _, _, err := b.watch(t, h, x.id, after, Logs{}).Poll(t.Context()); !errors.Is(err, io.EOF) {
				t.Errorf("after %d: %v, want io.EOF", after, err)
			}
		}
	})

	t.Run("waits when it is ahead of this process", func(t *testing.T) {
		t.Parallel()
		x := b.execution(t)
		w := b.watch(t, h, x.id, 3, Logs{}) // another process has shown 3 already
		if batch, _, err := w.Poll(t.Context()); err != nil || len(batch) > 0 {
			t.Fatalf("Poll() = %d events, %v", len(batch), err)
		}
		last := x.add(t, repeat(5)...)
		h.Nudge(x.id)
		if diff := cmp.Diff(rise(3, last), collect(t, w, last)); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("replays no further than the hub has read", func(t *testing.T) {
		t.Parallel()
		x := b.execution(t)
		head := x.add(t, repeat(pageRows+10)...)
		live := b.watch(t, h, x.id, head, Logs{})
		last := x.add(t, repeat(5)...) // the hub has not been told
		late := b.watch(t, h, x.id, 0, Logs{})
		got := collect(t, late, head)
		h.Nudge(x.id)
		if diff := cmp.Diff(rise(0, last), append(got, collect(t, late, last)...)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(rise(head, last), collect(t, live, last)); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("of an unknown execution is not found", func(t *testing.T) {
		t.Parallel()
		if _, err := h.Watch(t.Context(), uuid.New(), 0, Logs{}); !errs.Is(err, errs.NotFound) {
			t.Errorf("Watch() = %v, want not_found", err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for id, topic := range h.topics {
			if topic.refs == 0 {
				t.Errorf("the topic of %s has no watch and is kept", id)
			}
		}
	})

	t.Run("gives up when its caller does", func(t *testing.T) {
		t.Parallel()
		x := b.execution(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if w, err := h.Watch(ctx, x.id, 0, Logs{}); err == nil {
			w.Close() // the start may have been faster
		} else if !errors.Is(err, context.Canceled) {
			t.Errorf("Watch() = %v", err)
		}
	})
}

// Whatever the position at which a watch joins, and however fast the execution grows, it sees every event
// once and in order.
func TestWatchUnderAConcurrentWriter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, never)
	x := b.execution(t)
	build, other := x.nodeRun(t, "build", 1), x.nodeRun(t, "other", 1)
	const rounds = 400
	g, ctx := errgroup.WithContext(t.Context())
	g.Go(func() error {
		for i := range rounds {
			records := repeat(1 + i%3)
			records = append(records, record{nodeRun: build, chunk: []byte("b")}, record{nodeRun: other, chunk: []byte("o")})
			if i == rounds-1 {
				records = append(records, record{kind: event.ExecutionCompleted})
			}
			if _, err := x.tryAdd(ctx, records...); err != nil {
				return err
			}
			h.Nudge(x.id)
		}
		return nil
	})
	seen := make([][]int64, 24)
	filters := []Logs{{}, {None: true}, {Node: "build"}}
	for i := range seen {
		g.Go(func() error {
			// Start when the execution has grown a little further than for the one before.
			probe, err := h.Watch(ctx, x.id, 0, Logs{})
			if err != nil {
				return err
			}
			_, err = collectUntil(ctx, probe, int64(i*60))
			probe.Close()
			if err != nil {
				return err
			}
			seen[i], err = readToEnd(ctx, h, x.id, filters[i%len(filters)])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	all, err := b.sequences(t.Context(), x.id)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range seen {
		if diff := cmp.Diff(all[i%len(filters)], got); diff != "" {
			t.Errorf("watch %d with logs %+v: %s", i, filters[i%len(filters)], diff)
		}
	}
}

// sequences returns what a reader with all logs, none, and those of build has to see.
func (b *testBundle) sequences(ctx context.Context, id uuid.UUID) (all [3][]int64, err error) {
	for i, where := range []string{"true", "kind = 'event'", "kind IN ('event', 'build')"} {
		err := b.pool.QueryRow(ctx, fmt.Sprintf(`SELECT array_agg(seq ORDER BY seq) FROM (
			SELECT seq, 'event' AS kind FROM execution_events WHERE execution_id = $1
			UNION ALL SELECT seq, node_key FROM execution_logs l JOIN node_runs n ON n.id = l.node_run_id WHERE l.execution_id = $1) AS x
			WHERE %s`, where), id).Scan(&all[i])
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// readToEnd reads an execution until it has ended, resuming where it has lagged.
func readToEnd(ctx context.Context, h *Hub, id uuid.UUID, logs Logs) (seqs []int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	after := int64(0)
	for {
		w, err := h.Watch(ctx, id, after, logs)
		if err != nil {
			return nil, err
		}
		for err == nil {
			var batch []*Entry
			batch, err = next(ctx, w)
			for _, e := range batch {
				seqs = append(seqs, e.Seq)
			}
		}
		after = w.Position()
		w.Close()
		if errors.Is(err, io.EOF) {
			return seqs, nil
		}
		if !errors.Is(err, ErrLagged) {
			return nil, err
		}
	}
}

func TestWatchesShareReads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, never)
	x := b.execution(t)
	const watchers = 500
	watches := make([]*Watch, watchers)
	for i := range watches {
		watches[i] = b.watch(t, h, x.id, 0, Logs{})
	}
	all := func(until int64) {
		t.Helper()
		g, ctx := errgroup.WithContext(t.Context())
		for _, w := range watches {
			from := w.Position()
			g.Go(func() error {
				seqs, err := collectUntil(ctx, w, until)
				if err == nil && !cmp.Equal(rise(from, until), seqs) {
					err = fmt.Errorf("saw %v after %d", seqs, from)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	all(1)
	if diff := cmp.Diff(map[string]int{"ExecutionHeads": 1, "EventPage": 1}, b.tracer.take()); diff != "" {
		t.Errorf("queries to open %d watches with a short history: %s", watchers, diff)
	}
	for range 3 {
		last := x.add(t, repeat(5)...)
		h.Nudge(x.id)
		all(last)
		if diff := cmp.Diff(map[string]int{"EventPage": 1}, b.tracer.take()); diff != "" {
			t.Errorf("queries of a wake-up: %s", diff)
		}
	}
	first, err := watches[0].topic.ring[0].Frame()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := watches[0].topic.ring[0].Frame(); &first[0] != &again[0] {
		t.Error("an event was encoded twice")
	}
	other := b.execution(t)
	other.add(t, repeat(1)...)
	h.Nudge(other.id) // nobody watches it
	if counts := b.tracer.take(); len(counts) > 0 {
		t.Errorf("idle watches made queries: %v", counts)
	}
	if err := h.checkOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"ExecutionHeads": 1}, b.tracer.take()); diff != "" {
		t.Errorf("queries of a check: %s", diff)
	}
}

func TestCheckAsksNothingWhenNothingIsWatched(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, never)
	x := b.execution(t)
	w := b.watch(t, h, x.id, 0, Logs{})
	collect(t, w, 1)
	w.Close()
	w.Close() // harmless
	b.tracer.take()
	if err := h.checkOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if counts := b.tracer.take(); len(counts) > 0 {
		t.Errorf("a check with nothing to check made queries: %v", counts)
	}
}

func TestWatchWithoutNotifications(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, 20*time.Millisecond)
	x := b.execution(t)
	w := b.watch(t, h, x.id, 0, Logs{})
	for range 3 {
		last := x.add(t, repeat(2*pageRows)...)
		collect(t, w, last)
	}
	last := x.add(t, record{kind: "execution.ended_in_a_way_of_the_next_release"})
	b.exec(t, `UPDATE executions SET status = 'failed', finished_at = now() WHERE id = $1`, x.id)
	collect(t, w, last)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if _, err := next(ctx, w); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v, want io.EOF", err)
	}
}

func TestWatchOfADeletedExecution(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, 20*time.Millisecond)
	x := b.execution(t)
	w := b.watch(t, h, x.id, 0, Logs{})
	collect(t, w, 1)
	b.exec(t, `DELETE FROM executions WHERE id = $1`, x.id)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if _, err := next(ctx, w); !errs.Is(err, errs.NotFound) {
		t.Errorf("the end is %v, want not_found", err)
	}
}

func TestWatchFollowsANodeThroughItsAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, never)
	x := b.execution(t)
	other := x.nodeRun(t, "other", 1)
	first := x.nodeRun(t, "build", 1)
	for range 2 * pageRows {
		x.add(t, record{nodeRun: other, chunk: []byte("o")}, record{nodeRun: first, chunk: []byte("1")})
	}
	w := b.watch(t, h, x.id, 0, Logs{Node: "build"})
	untilReplayed := x.add(t)
	collect(t, w, untilReplayed)
	b.tracer.take()

	second := x.nodeRun(t, "build", 2)
	last := x.add(t, record{kind: event.NodeStarted, nodeRun: second}, record{nodeRun: other, chunk: []byte("o")},
		record{nodeRun: second, chunk: []byte("2")})
	h.Nudge(x.id)
	if diff := cmp.Diff([]int64{last - 2, last}, collect(t, w, last)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int{"EventPage": 1}, b.tracer.take()); diff != "" {
		t.Errorf("queries for an attempt that starts later: %s", diff)
	}

	t.Run("and a replay asks for the node runs once", func(t *testing.T) {
		late := b.watch(t, b.hub(t, never), x.id, 0, Logs{Node: "build", Attempt: new(2), Index: new(0)})
		if diff := cmp.Diff([]int64{1, last - 2, last}, collect(t, late, last)); diff != "" {
			t.Error(diff)
		}
		if n := b.tracer.take()["NodeRunList"]; n != 1 {
			t.Errorf("%d queries for node runs", n)
		}
	})
}

func TestLaggingWatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, never)
	x := b.execution(t)
	slow, fast := b.watch(t, h, x.id, 0, Logs{}), b.watch(t, h, x.id, 0, Logs{})
	collect(t, slow, 1)
	var last int64
	for last < 2*ringEntries {
		last = x.add(t, repeat(200)...)
		h.Nudge(x.id)
		collect(t, fast, last)
	}
	if n := len(fast.topic.ring); n > ringEntries {
		t.Errorf("the ring holds %d events", n)
	}
	if _, _, err := slow.Poll(t.Context()); !errors.Is(err, ErrLagged) {
		t.Fatalf("Poll() = %v, want ErrLagged", err)
	}
	again := b.watch(t, h, x.id, slow.Position(), Logs{})
	if diff := cmp.Diff(rise(1, last), collect(t, again, last)); diff != "" {
		t.Error(diff)
	}
}

// A topic that nobody keeps up with does not read ahead, and a ring holds no more bytes than its bound and a page.
func TestTopicIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, never)
	x := b.execution(t)
	run := x.nodeRun(t, "build", 1)
	w := b.watch(t, h, x.id, 0, Logs{})
	collect(t, w, 1)
	var last int64
	for range 3 * pageRows {
		last = x.add(t, record{nodeRun: run, chunk: make([]byte, event.MaxChunk)})
	}
	h.Nudge(x.id)
	const page = pageRows * (2*event.MaxChunk + 256)
	waitFor(t, func() bool { return w.topic.position() == 1+pageRows })
	w.topic.mark()
	if w.topic.wantsRead() || w.topic.position() != 1+pageRows {
		t.Fatal("the topic reads on although nobody has taken what there is")
	}
	for w.Position() < last {
		held := func() int {
			w.topic.mu.Lock()
			defer w.topic.mu.Unlock()
			return w.topic.bytes
		}
		if n := held(); n > max(ringBytes, page) {
			t.Fatalf("the ring holds %d bytes", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		batch, err := next(ctx, w)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, e := range batch {
			size += len(e.Chunk)
		}
		if size > batchBytes+event.MaxChunk {
			t.Fatalf("a batch has %d bytes", size)
		}
	}
	if err := h.checkOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.topic.mu.Lock()
	defer w.topic.mu.Unlock()
	if w.topic.bytes > idleBytes {
		t.Errorf("with nobody behind, the ring holds %d bytes", w.topic.bytes)
	}
}

func (t *topic) position() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.head
}

// waitFor waits until the condition holds.
func waitFor(t testing.TB, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(wait)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not happen")
		}
	}
}

func TestWatchSurvivesAFailingRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, never)
	x := b.execution(t)
	w := b.watch(t, h, x.id, 0, Logs{})
	collect(t, w, 1)
	b.tracer.take()
	b.exec(t, `ALTER TABLE node_runs RENAME COLUMN attempt TO gone`)
	last := x.add(t, repeat(1)...)
	h.Nudge(x.id)
	reads := 0
	waitFor(t, func() bool { reads += b.tracer.take()["EventPage"]; return reads >= 2 }) // the first has failed
	b.exec(t, `ALTER TABLE node_runs RENAME COLUMN gone TO attempt`)
	collect(t, w, last)
}

func TestStop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h, stop := b.stoppableHub(t, never)
	x := b.execution(t)
	w := b.watch(t, h, x.id, 0, Logs{})
	collect(t, w, 1)
	_, changed, err := w.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop()
	<-changed
	if _, _, err := w.Poll(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("Poll() = %v, want ErrStopped", err)
	}
	if _, err := h.Watch(t.Context(), x.id, 0, Logs{}); !errors.Is(err, ErrStopped) {
		t.Errorf("Watch() = %v, want ErrStopped", err)
	}
	if _, err := h.WatchOrganization(t.Context(), uuid.New()); !errors.Is(err, ErrStopped) {
		t.Errorf("WatchOrganization() = %v, want ErrStopped", err)
	}
	h.Nudge(x.id) // harmless
	h.OnReset()
}

// TestEnd ends the watches of a hub that still runs, as a server does that drains.
func TestEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, never)
	x := b.execution(t)
	w := b.watch(t, h, x.id, 0, Logs{})
	collect(t, w, 1)
	_, changed, err := w.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := h.WatchOrganization(t.Context(), uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	_, _, moved, err := list.Poll()
	if err != nil {
		t.Fatal(err)
	}
	one, another := uuid.New(), uuid.New()
	for _, principal := range []uuid.UUID{one, one, another} {
		if _, err := h.Open(principal, KindText); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if n := h.End(); n != 3 {
			t.Errorf("End() = %d, want 3", n)
		}
	}
	<-changed
	<-moved
	if _, _, err := w.Poll(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("Poll() = %v, want ErrStopped", err)
	}
	if _, _, _, err := list.Poll(); !errors.Is(err, ErrStopped) {
		t.Errorf("Poll() of a list = %v, want ErrStopped", err)
	}
	if _, err := h.Watch(t.Context(), x.id, 0, Logs{}); !errors.Is(err, ErrStopped) {
		t.Errorf("Watch() = %v, want ErrStopped", err)
	}
}
