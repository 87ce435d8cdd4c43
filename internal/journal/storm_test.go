package journal_test

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
)

// storm is everybody at once on the same few executions.
type storm struct {
	*testBundle
	journals []*running
	rounds   int
	live     []atomic.Pointer[uuid.UUID] // the executions of the moment
	finished atomic.Int64
}

// TestNoDeadlocks runs claim, cancel, deadlines and two journals against each other. Nobody may meet a deadlock:
// neither as an error, nor hidden in a retry (the server's count, of which TestDeadlockIsRetried shows that it counts).
func TestNoDeadlocks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := &storm{testBundle: b, journals: []*running{b.start(), b.start()}, rounds: 60, live: make([]atomic.Pointer[uuid.UUID], 6)}
	for i := range s.live {
		s.replace(t.Context(), i)
	}
	var group sync.WaitGroup
	for _, f := range []func(ctx context.Context){s.claim, s.claim, s.cancel, s.cancel, s.deadlines, s.write(0), s.write(1), s.write(0), s.write(1)} {
		group.Go(func() {
			for range s.rounds {
				f(t.Context())
			}
		})
	}
	group.Wait()
	b.check()
	// Sessions report what they have counted at the latest when they end.
	for _, j := range s.journals {
		j.stop()
		j.pool.Close()
	}
	b.pool.Reset()
	await(t, "the other sessions to end", func() bool {
		return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'") == 1
	})
	if n := pgtest.Get[int](t, b.pool, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"); n != 0 {
		t.Errorf("%d deadlocks", n)
	}
	if s.finished.Load() == 0 {
		t.Error("nothing has ended: the storm was none")
	}
	t.Logf("%d executions ended", s.finished.Load())
}

func (s *storm) any() (place int, id uuid.UUID) {
	place = rand.IntN(len(s.live))
	return place, *s.live[place].Load()
}

// replace puts a new execution into a place whose execution has ended.
func (s *storm) replace(ctx context.Context, place int) {
	q, err := s.queue.Enqueue(ctx, queue.Request{
		OrganizationID: s.org, WorkflowID: s.workflow, Version: 1, Source: execution.FromAPI, Inputs: json.RawMessage(`{}`),
		Timeout: time.Millisecond, QueueTimeout: 20 * time.Millisecond,
	})
	if err != nil {
		s.t.Error(err)
		return
	}
	s.live[place].Store(&q.ID)
	s.finished.Add(1)
}

func (s *storm) claim(ctx context.Context) {
	if _, err := s.queue.Claim(ctx, s.worker, 2); err != nil {
		s.t.Error(err)
	}
}

func (s *storm) cancel(ctx context.Context) {
	place, id := s.any()
	switch err := s.queue.Cancel(ctx, s.org, id, "storm"); {
	case errs.Is(err, errs.Finished):
		s.replace(ctx, place)
	case err != nil:
		s.t.Error(err)
	}
}

func (s *storm) deadlines(ctx context.Context) {
	if _, err := s.queue.PassDeadlines(ctx); err != nil {
		s.t.Error(err)
	}
}

// write submits for all executions at once, in any order, and ends one now and then.
func (s *storm) write(n int) func(ctx context.Context) {
	return func(ctx context.Context) {
		answers := make(chan error, len(s.live))
		for _, place := range rand.Perm(len(s.live)) {
			id := *s.live[place].Load()
			e, run := started(id, execution.NewID().String())
			e.Cursors = []journal.Cursor{{NodeRunID: run.ID}}
			if rand.IntN(8) == 0 {
				e.End, e.Signal = &journal.End{Status: execution.Failed}, math.MaxInt64 // whatever was signaled
				e.Records = append(e.Records, journal.Record{Type: event.ExecutionFailed})
			}
			if err := s.journals[n].Submit(ctx, e, func(_ journal.Receipt, err error) { answers <- err }); err != nil {
				s.t.Error(err)
				return
			}
		}
		for range s.live {
			if err := <-answers; err != nil && !errs.Is(err, errs.StaleClaim) {
				s.t.Error(err)
			}
		}
	}
}
