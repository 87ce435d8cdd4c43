package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/journal"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

// overlapSQL is, for each group, the most executions that were claimed and had not ended at one instant. The time of an event is that of its
// insertion: a claim's is read after the statement has seen the queue row, so after the commit that has put it there, and an end's before the
// commit that makes room. So two intervals overlap only where two executions had begun and not ended.
const overlapSQL = `
WITH steps AS (
    SELECT e.concurrency_group AS name, min(v.time) AS at, 1 AS step
    FROM executions e JOIN execution_events v ON v.execution_id = e.id WHERE v.type = 'execution.claimed' GROUP BY e.id
    UNION ALL
    SELECT e.concurrency_group, v.time, -1
    FROM executions e JOIN execution_events v ON v.execution_id = e.id AND v.seq = e.last_seq WHERE e.finished_at IS NOT NULL AND e.claimed_at IS NOT NULL
), running AS (
    SELECT name, sum(step) OVER (PARTITION BY name ORDER BY at, step) AS running FROM steps
)
SELECT name, max(running)::int AS most FROM running GROUP BY name`

// overlaps returns the greatest overlap of each group.
func (b *testBundle) overlaps() map[string]int {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), overlapSQL)
	if err != nil {
		b.t.Fatal(err)
	}
	most, name, n := map[string]int{}, "", 0
	if _, err := pgx.ForEachRow(rows, []any{&name, &n}, func() error {
		most[name] = n
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
	return most
}

func (b *testBundle) enter(ctx context.Context, name string, limit int, onConflict workflow.OnConflict) uuid.UUID {
	b.t.Helper()
	q, err := b.queue.Enqueue(ctx, queue.Request{
		OrganizationID: b.org, WorkflowID: b.workflow, Version: 1, Source: execution.FromAPI, Inputs: json.RawMessage(`{}`), QueueTimeout: time.Hour,
		Group: &workflow.Group{Name: name, Limit: limit, OnConflict: onConflict},
	})
	if err != nil {
		b.t.Error(err)
	}
	return q.ID
}

// crew is worker processes as far as the database sees them: each has its own connections, claims and journal.
type crew struct {
	*testBundle
	left atomic.Int64 // executions that have not ended
}

func (c *crew) worker(ctx context.Context) {
	pool := pgtest.Open(c.t, c.url, postgres.Options{MaxConns: 3}) //nolint:contextcheck // closed with the test
	store := queue.NewStore(pool, postgres.NewNotifier(pool, zerolog.Nop()))
	j := c.startOn(pool, nil) //nolint:contextcheck // stopped with the test
	id := execution.NewID()
	if err := store.Join(ctx, queue.Worker{ID: id, Host: "crew", PID: 1, Version: "test", Slots: 20, Lease: time.Hour}); err != nil {
		c.t.Error(err)
	}
	slots := make(chan struct{}, 20)
	var engines sync.WaitGroup
	defer engines.Wait()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for c.left.Load() > 0 {
		claimed, err := store.Claim(ctx, id, cap(slots)-len(slots))
		if err != nil {
			c.t.Error(err)
			return
		}
		for _, x := range claimed {
			slots <- struct{}{}
			engines.Go(func() {
				defer func() { <-slots }()
				if err := c.drive(ctx, store, j, x); err != nil {
					c.t.Error(err)
				}
			})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// drive begins an execution and ends it, or gives it back, or parks it for a moment.
func (c *crew) drive(ctx context.Context, store *queue.Store, j *running, x queue.Claimed) error {
	begin := &journal.Entry{ExecutionID: x.ID, Claim: x.Claim, Started: true, Records: []journal.Record{{Type: event.ExecutionStarted}}}
	if _, err := j.Commit(ctx, begin); err != nil {
		return err
	}
	switch rand.IntN(10) {
	case 0:
		return store.Release(ctx, x.ID, x.Claim, "Another one is to go on.")
	case 1:
		due := time.Millisecond
		_, err := j.Commit(ctx, &journal.Entry{
			ExecutionID: x.ID, Claim: x.Claim, Signal: x.Facts.Signal, Records: []journal.Record{{Type: event.ExecutionWaiting}},
			Park: &journal.Park{DueIn: &due, Reason: "wait"},
		})
		return err
	}
	end := completed(x.ID)
	end.Claim = x.Claim
	_, err := j.Commit(ctx, end)
	if err == nil {
		c.left.Add(-1)
	}
	return err
}

// TestGroupsNeverExceedTheirLimit is a target of issue 5: 8 workers, 5,000 executions in groups of limit 1 to 3.
func TestGroupsNeverExceedTheirLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const workers, executions, groups = 8, 5000, 90
	limits := map[string]int{}
	for n := range groups {
		limits[fmt.Sprintf("group %d", n)] = 1 + n%3
	}
	c := &crew{testBundle: b}
	c.left.Store(executions)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() { c.worker(t.Context()) })
	}
	for part := range 4 {
		all.Go(func() {
			for n := part; n < executions; n += 4 {
				group := fmt.Sprintf("group %d", rand.IntN(groups))
				b.enter(t.Context(), group, limits[group], workflow.ConflictQueue)
			}
		})
	}
	timers, stop := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for timers.Err() == nil {
			<-tick.C
			if _, err := b.queue.UnparkDue(timers); err != nil && timers.Err() == nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	stop()
	loop.Wait()
	b.check()

	reached := map[int]bool{}
	for name, most := range b.overlaps() {
		if most > limits[name] {
			t.Errorf("%s: %d at once, and the limit is %d", name, most, limits[name])
		}
		reached[limits[name]] = reached[limits[name]] || most == limits[name]
	}
	if !reached[1] || !reached[2] || !reached[3] {
		t.Errorf("limits that were reached: %v; there was no contention", reached)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE status = 'completed'"); n != executions {
		t.Errorf("%d have completed", n)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM concurrency_slots"); n != 0 {
		t.Errorf("%d slots are left", n)
	}

	// The check finds what it is for: a slot that was lost lets a second one in.
	j := b.start()
	first, second := b.enter(t.Context(), "planted", 1, workflow.ConflictQueue), b.enter(t.Context(), "planted", 1, workflow.ConflictQueue)
	b.claimAll(1)
	if most := b.overlaps()["planted"]; most != 1 {
		t.Fatalf("%d at once before anything is wrong", most)
	}
	pgtest.Exec(t, b.pool, "DELETE FROM concurrency_slots WHERE execution_id = $1", first)
	if err := b.queue.FreeGroups(t.Context(), []uuid.UUID{queue.GroupID(b.org, "planted")}, nil); err != nil {
		t.Fatal(err)
	}
	b.claimAll(1)
	j.commit(t, completed(first))
	j.commit(t, completed(second))
	if most := b.overlaps()["planted"]; most != 2 {
		t.Errorf("the check sees %d at once where there were 2", most)
	}
}

// claimAll claims what is ready, which are to be n.
func (b *testBundle) claimAll(n int) []queue.Claimed {
	b.t.Helper()
	claimed, err := b.queue.Claim(b.t.Context(), b.worker, 100)
	if err != nil || len(claimed) != n {
		b.t.Fatalf("%d claims of %d, %v", len(claimed), n, err)
	}
	return claimed
}

// TestEndsAdmit: whatever ends executions, the journal gives their slots on in the same commit, and wakes the workers with it.
func TestEndsAdmit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	listening, err := b.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer listening.Release()
	enter := func(name string) uuid.UUID { return b.enter(t.Context(), name, 1, workflow.ConflictQueue) }
	lost := execution.Failure{Code: "test", Message: "It is over."}
	for name, end := range map[string]func(id uuid.UUID) error{
		"End":  func(id uuid.UUID) error { _, err := j.Commit(t.Context(), completed(id)); return err },
		"Fail": func(id uuid.UUID) error { return j.Fail(t.Context(), id, 1, lost) },
		"Force": func(id uuid.UUID) error {
			return j.Force(t.Context(), id, 1, execution.Canceled, nil, lost)
		},
		"data that cannot be stored": func(id uuid.UUID) error {
			e := warning(id, 1)
			e.Records[0].Data = json.RawMessage(`{`)
			if _, err := j.Commit(t.Context(), e); !errs.Is(err, errs.Internal) {
				return fmt.Errorf("it was stored: %w", err)
			}
			return nil
		},
	} {
		first := enter(name)
		b.claimAll(1)
		second := enter(name)
		b.claimAll(0)
		if _, err := listening.Exec(t.Context(), "LISTEN "+postgres.ChannelWork); err != nil {
			t.Fatal(err)
		}
		if err := end(first); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := listening.Conn().WaitForNotification(ctx); err != nil {
			t.Errorf("%s wakes nobody: %v", name, err)
		}
		cancel()
		b.check()
		if claimed := b.claimAll(1); claimed[0].ID != second {
			t.Errorf("%s: claimed %s, want %s", name, claimed[0].ID, second)
		}
		if err := end(second); err != nil {
			t.Fatal(err)
		}
	}
	// One batch ends many, of one group and of several, and admits for all.
	var held []uuid.UUID
	for n := range 6 {
		b.enter(t.Context(), fmt.Sprint("many ", n%3), 2, workflow.ConflictQueue)
	}
	for _, x := range b.claimAll(6) {
		held = append(held, x.ID)
	}
	for n := range 9 {
		b.enter(t.Context(), fmt.Sprint("many ", n%3), 2, workflow.ConflictQueue)
	}
	release := b.hold(j)
	answers := make([]<-chan answer, 0, len(held))
	before := j.statements.Count("GroupAdmit")
	for _, id := range held {
		answers = append(answers, j.submit(t, completed(id)))
	}
	release()
	for _, a := range answers {
		if got := <-a; got.err != nil {
			t.Error(got.err)
		}
	}
	if n := j.statements.Count("GroupAdmit") - before; n != 1 {
		t.Errorf("admitted %d times", n)
	}
	b.check()
	b.claimAll(6)
	// Without a group nothing is asked.
	before = j.statements.Count("GroupLock") + j.statements.Count("GroupAdmit")
	for _, id := range b.claimed(2) {
		j.commit(t, completed(id))
	}
	if n := j.statements.Count("GroupLock") + j.statements.Count("GroupAdmit") - before; n != 0 {
		t.Errorf("%d statements about groups for executions of none", n)
	}
}

// TestGroupKeepsOne has many come that each replace what runs: in the end the newest runs, alone.
func TestGroupKeepsOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	const newcomers = 12
	var all sync.WaitGroup
	for range newcomers {
		all.Go(func() { b.enter(t.Context(), "deploy", 1, workflow.ConflictCancelRunning) })
	}
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		all.Wait()
	}()
	newest := func() uuid.UUID {
		return pgtest.Get[uuid.UUID](t, b.pool, "SELECT id FROM executions ORDER BY queued_at DESC, id DESC LIMIT 1")
	}
	await(t, "only the newest to run", func() bool {
		claimed, err := b.queue.Claim(t.Context(), b.worker, 10)
		if err != nil {
			t.Fatal(err)
		}
		_ = claimed
		if _, err := b.queue.CancelSuperseded(t.Context()); err != nil {
			t.Fatal(err)
		}
		held, err := b.queue.Held(t.Context(), b.worker)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range held {
			if x.Facts.CancelForced {
				t.Fatal("a cancel was forced")
			}
			if !x.Facts.Canceled {
				continue
			}
			e := &journal.Entry{
				ExecutionID: x.ID, Claim: x.Claim, Signal: x.Facts.Signal, Records: []journal.Record{{Type: event.ExecutionCanceled}},
				End: &journal.End{Status: execution.Canceled},
			}
			if _, err := j.Commit(t.Context(), e); err != nil && !errs.Is(err, errs.Conflict) {
				t.Fatal(err)
			}
		}
		select {
		case <-settled:
		default:
			return false
		}
		return len(held) == 1 && held[0].ID == newest() && !held[0].Facts.Canceled &&
			pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE status = 'canceled'") == newcomers-1
	})
}

// TestGroupSurvivesACrash has a worker be gone right before and right after the commit that ends an execution.
func TestGroupSurvivesACrash(t *testing.T) {
	t.Parallel()
	boom := errors.New("the worker is gone")
	for _, point := range []string{"journal.commit" + failpoint.Before, "journal.commit" + failpoint.After} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			defer b.check()
			b.enter(t.Context(), "a", 1, workflow.ConflictQueue)
			first := b.claimAll(1)[0].ID
			second := b.enter(t.Context(), "a", 1, workflow.ConflictQueue)
			pool := pgtest.Open(t, b.url, postgres.Options{})
			j := journal.New(journal.Config{Pool: pool, Notifier: postgres.NewNotifier(pool, zerolog.Nop()), Logger: zerolog.Nop()})
			ctx, gone := context.WithCancel(failpoint.With(t.Context(), func(_ context.Context, name string) failpoint.Answer {
				if name == point {
					return failpoint.Answer{Err: errs.E(errs.Unknown, "The answer is lost.").Because(boom)}
				}
				return failpoint.Answer{}
			}))
			var run sync.WaitGroup
			run.Go(func() { _ = j.Run(ctx) })
			if _, err := j.Commit(t.Context(), completed(first)); !errors.Is(err, boom) {
				t.Fatal(err)
			}
			gone()
			run.Wait()
			b.check()
			if point == "journal.commit"+failpoint.After {
				if claimed := b.claimAll(1); claimed[0].ID != second {
					t.Errorf("claimed %s", claimed[0].ID)
				}
				return
			}
			// The slot stays with the execution until whoever takes it over has ended it.
			b.claimAll(0)
			pgtest.Exec(t, b.pool, "UPDATE workers SET lease_until = now() - interval '1 second'")
			if _, err := b.queue.Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.check()
			b.worker = execution.NewID()
			if err := b.queue.Join(t.Context(), queue.Worker{ID: b.worker, Host: "host", PID: 2, Version: "test", Slots: 10, Lease: time.Hour}); err != nil {
				t.Fatal(err)
			}
			again := b.claimAll(1)[0]
			end := completed(again.ID)
			end.Claim = again.Claim
			b.start().commit(t, end)
			if claimed := b.claimAll(1); again.ID != first || claimed[0].ID != second {
				t.Errorf("claimed %s and %s", again.ID, claimed[0].ID)
			}
		})
	}
}
