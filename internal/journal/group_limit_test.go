package journal_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"foundry/internal/event"
	"foundry/internal/execution"
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

// What a crew has.
const (
	crewSize  = 8
	crewSlots = 20
)

// crew is worker processes as far as the database sees them: each has its own connections, claims and journal. None ends anything before
// all of their slots are taken.
type crew struct {
	*testBundle
	left atomic.Int64  // executions that have not ended
	free atomic.Int64  // slots that were never taken
	full chan struct{} // closed when there is none
}

func (c *crew) worker(ctx context.Context) {
	pool := pgtest.Open(c.t, c.url, postgres.Options{MaxConns: 3}) //nolint:contextcheck // closed with the test
	store := queue.NewStore(pool, postgres.NewNotifier(pool, zerolog.Nop()))
	j := c.startOn(pool, nil) //nolint:contextcheck // stopped with the test
	id := execution.NewID()
	if err := store.Join(ctx, queue.Worker{ID: id, Host: "crew", PID: 1, Version: "test", Slots: crewSlots, Lease: time.Hour}); err != nil {
		c.t.Error(err)
	}
	slots := make(chan struct{}, crewSlots)
	var engines sync.WaitGroup
	defer engines.Wait()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for c.left.Load() > 0 {
		claimed, err := store.Claim(ctx, id, cap(slots)-len(slots))
		if err != nil {
			c.t.Error(err)
			return
		}
		for _, x := range claimed {
			slots <- struct{}{}
			if c.free.Add(-1) == 0 {
				close(c.full)
			}
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

// drive ends an execution, or gives it back, or parks it for a moment.
func (c *crew) drive(ctx context.Context, store *queue.Store, j *running, x queue.Claimed) error {
	select {
	case <-c.full:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	switch rand.IntN(20) {
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
	end.Claim, end.Started = x.Claim, true
	_, err := j.Commit(ctx, end)
	if err == nil {
		c.left.Add(-1)
	}
	return err
}

// enqueue queues executions, four at a time, in the groups that group says. Their limits are 1 to 3.
func (c *crew) enqueue(ctx context.Context, executions int, group func(n int) int) {
	var all sync.WaitGroup
	for part := range 4 {
		all.Go(func() {
			for n := part; n < executions; n += 4 {
				g := group(n)
				c.enter(ctx, fmt.Sprintf("group %d", g), 1+g%3, workflow.ConflictQueue)
			}
		})
	}
	all.Wait()
}

// TestGroupsNeverExceedTheirLimit is a target of issue 5: 8 workers, 5,000 executions in groups of limit 1 to 3.
func TestGroupsNeverExceedTheirLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const executions, groups, early = 5000, 90, 3 * 90
	limits := map[string]int{}
	for n := range groups {
		limits[fmt.Sprintf("group %d", n)] = 1 + n%3
	}
	c := &crew{testBundle: b, full: make(chan struct{})}
	c.left.Store(executions)
	c.free.Store(crewSize * crewSlots)
	// Every group is full before the workers come: 180 executions are ready, for 160 slots. So of the 30 groups with each limit some are held whole.
	c.enqueue(t.Context(), early, func(n int) int { return n % groups })
	var all sync.WaitGroup
	for range crewSize {
		all.Go(func() { c.worker(t.Context()) })
	}
	all.Go(func() { c.enqueue(t.Context(), executions-early, func(int) int { return rand.IntN(groups) }) })
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
