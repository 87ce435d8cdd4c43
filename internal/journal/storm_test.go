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

	"foundry/internal/audit"
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
	parked   atomic.Int64
	approved atomic.Int64
	reaped   atomic.Int64
}

// TestNoDeadlocks runs claim, cancel, deadlines, timers, reaper, approve and two journals, which also park, against each other. Nobody may meet a deadlock:
// neither as an error, nor hidden in a retry (the server's count, of which TestDeadlockIsRetried shows that it counts).
func TestNoDeadlocks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := &storm{testBundle: b, journals: []*running{b.start(), b.start()}, rounds: 150, live: make([]atomic.Pointer[uuid.UUID], 6)}
	for i := range s.live {
		s.replace(t.Context(), i)
	}
	var group sync.WaitGroup
	for _, f := range []func(ctx context.Context){s.claim, s.claim, s.cancel, s.cancel, s.deadlines, s.timers, s.reap, s.approve, s.approve, s.write(0), s.write(1), s.write(0), s.write(1)} {
		group.Go(func() {
			for n := 0; n < s.rounds || n < 100*s.rounds && !s.happened(); n++ {
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
	t.Logf("%d executions ended, %d parks, %d decisions, %d freed", s.finished.Load(), s.parked.Load(), s.approved.Load(), s.reaped.Load())
	if !s.happened() {
		t.Error("something has not happened: the storm was none")
	}
}

// happened reports whether everything has happened that the storm is for.
func (s *storm) happened() bool {
	return s.finished.Load() > 0 && s.parked.Load() > 0 && s.approved.Load() > 0 && s.reaped.Load() > 0
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
	if rand.IntN(4) > 0 {
		return // else nothing lives for long enough to wait
	}
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

func (s *storm) timers(ctx context.Context) {
	if _, err := s.queue.UnparkDue(ctx); err != nil {
		s.t.Error(err)
	}
}

// reap has a second worker claim one, and vanish.
func (s *storm) reap(ctx context.Context) {
	id := execution.NewID()
	if err := s.queue.Join(ctx, queue.Worker{ID: id, Host: "storm", PID: 1, Version: "test", Slots: 1, Lease: queue.DefaultLease}); err != nil {
		s.t.Error(err)
	}
	if _, err := s.queue.Claim(ctx, id, 1); err != nil {
		s.t.Error(err)
	}
	pgtest.Exec(s.t, s.pool, "UPDATE workers SET lease_until = now() - interval '1 second' WHERE id = $1", id) //nolint:contextcheck // the test's context is in t
	reaped, err := s.queue.Reap(ctx)
	if err != nil {
		s.t.Error(err)
	}
	s.reaped.Add(int64(len(reaped.Freed)))
}

// approve decides what waits in one of the executions, if anything does.
func (s *storm) approve(ctx context.Context) {
	_, id := s.any()
	node := pgtest.Get[string](s.t, s.pool, "SELECT COALESCE(min(node_key), '') FROM node_runs WHERE execution_id = $1 AND status = 'waiting'", id) //nolint:contextcheck // the test's context is in t
	err := s.queue.Decide(ctx, queue.Decision{
		ExecutionID: id, Node: node, Approved: true, Permit: func([]string) error { return nil },
		By: audit.Actor{Kind: audit.User, Name: "storm", OrganizationID: s.org},
	})
	switch errs.CodeOf(err) {
	case "":
		s.approved.Add(1)
	case errs.NotFound, errs.Finished, queue.AlreadyDecided, queue.CancelRequested, queue.NotWaiting:
	default:
		s.t.Error(err)
	}
}

// park has the entry make an approval wait, and give the claim back.
func (s *storm) park(e *journal.Entry) {
	run := journal.NodeRun{
		ID: execution.NewID(), Key: execution.NewID().String(), Attempt: 1, Status: execution.NodeWaiting, Prompt: json.RawMessage(`{"roles": []}`),
	}
	e.NodeRuns = append(e.NodeRuns, run)
	e.Records = append(e.Records, journal.Record{Type: event.NodeWaiting, NodeRunID: run.ID}, journal.Record{Type: event.ExecutionWaiting})
	due := time.Duration(rand.IntN(50)) * time.Millisecond
	e.Park, e.Signal = &journal.Park{DueIn: &due, Reason: "wait"}, math.MaxInt64
}

// write submits for all executions at once, in any order, and ends one now and then.
func (s *storm) write(n int) func(ctx context.Context) {
	return func(ctx context.Context) {
		answers := make(chan error, len(s.live))
		for _, place := range rand.Perm(len(s.live)) {
			id := *s.live[place].Load()
			e, run := started(id, execution.NewID().String())
			// What nobody holds nobody writes.
			e.Claim = pgtest.Get[int64](s.t, s.pool, "SELECT CASE WHEN worker_id IS NULL THEN -1 ELSE claim END FROM executions WHERE id = $1", id) //nolint:contextcheck // the test's context is in t
			e.Cursors = []journal.Cursor{{NodeRunID: run.ID}}
			parks := rand.IntN(4) == 0
			if parks {
				s.park(e)
			} else if rand.IntN(8) == 0 {
				e.End, e.Signal = &journal.End{Status: execution.Failed}, math.MaxInt64 // whatever was signaled
				e.Records = append(e.Records, journal.Record{Type: event.ExecutionFailed})
			}
			if err := s.journals[n].Submit(ctx, e, func(_ journal.Receipt, err error) {
				if parks && err == nil {
					s.parked.Add(1)
				}
				answers <- err
			}); err != nil {
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
