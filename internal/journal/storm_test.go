package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
	"foundry/internal/workflow"
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
	blocked  atomic.Int64 // how many waited for a concurrency group, each time that it was looked at
	ended    atomic.Int64 // by the journal, of what is in no place
	others   []uuid.UUID  // workflows of the same organization
}

// TestNoDeadlocks runs claim, cancel, deadlines, timers, reaper, approve, pauses, admissions of several at once and two journals, which also park, against
// each other, most executions being in concurrency groups. Nobody may meet a deadlock:
// neither as an error, nor hidden in a retry (the server's count, of which TestDeadlockIsRetried shows that it counts).
func TestNoDeadlocks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := &storm{testBundle: b, journals: []*running{b.start(), b.start()}, rounds: 150, live: make([]atomic.Pointer[uuid.UUID], 6)}
	for range 2 {
		_, other := pgtest.Workflow(t, b.pool)
		pgtest.Exec(t, b.pool, "UPDATE workflows SET organization_id = $1 WHERE id = $2", b.org, other)
		s.others = append(s.others, other)
	}
	for i := range s.live {
		s.replace(t.Context(), i)
	}
	var group sync.WaitGroup
	for _, f := range []func(ctx context.Context){s.claim, s.claim, s.cancel, s.cancel, s.deadlines, s.timers, s.reap, s.approve, s.approve, s.pause, s.admit, s.admit, s.superseded, s.write(0), s.write(1), s.write(0), s.write(1)} {
		group.Go(func() {
			for n := 0; n < s.rounds || n < 100*s.rounds && !s.happened(); n++ {
				f(t.Context())
			}
		})
	}
	group.Wait()
	for _, paused := range []bool{true, false} {
		s.setPaused(t.Context(), b.workflow, paused)
	}
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
	t.Logf("%d executions ended, %d parks, %d decisions, %d freed, %d blocked, %d others ended", s.finished.Load(), s.parked.Load(), s.approved.Load(), s.reaped.Load(), s.blocked.Load(), s.ended.Load())
	if !s.happened() {
		t.Error("something has not happened: the storm was none")
	}
}

// happened reports whether everything has happened that the storm is for.
func (s *storm) happened() bool {
	return s.finished.Load() > 0 && s.parked.Load() > 0 && s.approved.Load() > 0 && s.reaped.Load() > 0 && s.blocked.Load() > 0 && s.ended.Load() > 100
}

func (s *storm) any() (place int, id uuid.UUID) {
	place = rand.IntN(len(s.live))
	return place, *s.live[place].Load()
}

// replace puts a new execution into a place whose execution has ended.
func (s *storm) replace(ctx context.Context, place int) {
	q, err := s.queue.Enqueue(ctx, s.request())
	if err != nil {
		s.t.Error(err)
		return
	}
	s.live[place].Store(&q.ID)
	s.finished.Add(1)
}

// request is of any workflow, in any group or none.
func (s *storm) request() queue.Request {
	r := queue.Request{
		OrganizationID: s.org, WorkflowID: s.workflow, Version: 1, Source: execution.FromAPI, Inputs: json.RawMessage(`{}`),
		Timeout: time.Millisecond, QueueTimeout: 20 * time.Millisecond,
	}
	if n := rand.IntN(2 + len(s.others)); n < len(s.others) {
		r.WorkflowID = s.others[n]
	}
	if n := rand.IntN(4); n < 3 {
		r.Group = &workflow.Group{Name: strconv.Itoa(n), Limit: 1 + rand.IntN(2), OnConflict: workflow.ConflictQueue}
		if rand.IntN(4) == 0 {
			r.Group.OnConflict = workflow.ConflictCancelRunning
		}
	}
	return r
}

// admit locks executions as a journal does, and admits several in the same transaction.
func (s *storm) admit(ctx context.Context) {
	locked := make([]uuid.UUID, 0, 2)
	for range cap(locked) {
		_, id := s.any()
		locked = append(locked, id)
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT 1 FROM executions WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE", locked); err != nil {
			return err
		}
		_, err := queue.Admit(ctx, tx, queue.Admission{Requests: []queue.Request{s.request(), s.request(), s.request()}, Leaving: locked})
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
}

func (s *storm) pause(ctx context.Context) {
	s.setPaused(ctx, s.workflow, rand.IntN(2) == 0)
	s.blocked.Add(pgtest.Get[int64](s.t, s.pool, "SELECT count(*) FROM concurrency_waiters")) //nolint:contextcheck // the test's context is in t
}

func (s *storm) setPaused(ctx context.Context, id uuid.UUID, paused bool) {
	by := audit.Actor{Kind: audit.User, Name: "storm", OrganizationID: s.org}
	params := workflow.ChangeParams{OrganizationID: s.org, WorkflowID: id, Actor: by}
	if _, err := workflow.NewStore(s.pool).Update(ctx, params, workflow.Update{Paused: &paused}); err != nil {
		s.t.Error(err)
	}
}

// superseded is what else the control plane does with groups.
func (s *storm) superseded(ctx context.Context) {
	_, err := s.queue.CancelSuperseded(ctx)
	_, swept := s.queue.SweepGroups(ctx)
	groups, left, looked := s.queue.StuckGroups(ctx)
	if err := errors.Join(err, swept, looked); err != nil || len(groups)+len(left) > 0 {
		s.t.Errorf("groups %v are stuck, %v are left behind, %v", groups, left, err)
	}
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
		others := s.endOthers(ctx, n)
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
		others.Wait()
	}
}

// endOthers submits the ends of what is held and in no place of the storm, so that slots of groups go on.
func (s *storm) endOthers(ctx context.Context, n int) *sync.WaitGroup {
	var all sync.WaitGroup
	live := make([]uuid.UUID, 0, len(s.live))
	for i := range s.live {
		live = append(live, *s.live[i].Load())
	}
	rows, err := s.pool.Query(ctx, "SELECT id, claim FROM executions WHERE worker_id IS NOT NULL AND id <> ALL ($1) ORDER BY random()", live)
	if err != nil {
		s.t.Error(err)
		return &all
	}
	var id uuid.UUID
	var claim int64
	_, err = pgx.ForEachRow(rows, []any{&id, &claim}, func() error {
		end := completed(id)
		end.Claim, end.Signal = claim, math.MaxInt64
		all.Add(1)
		return s.journals[n].Submit(ctx, end, func(_ journal.Receipt, err error) {
			defer all.Done()
			if err == nil {
				s.ended.Add(1)
			} else if !errs.Is(err, errs.StaleClaim) {
				s.t.Error(err)
			}
		})
	})
	if err != nil {
		s.t.Error(err)
	}
	return &all
}
