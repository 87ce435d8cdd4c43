package queue_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
)

func TestReap(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	lost, live := b.join(), b.join()
	b.enqueueMany(3)
	held := b.claim(lost, 2)
	kept := b.claim(live, 1)
	if len(held) != 2 || len(kept) != 1 {
		t.Fatalf("%d and %d claims", len(held), len(kept))
	}
	if r, err := b.queue.Reap(t.Context()); err != nil || len(r.Gone)+len(r.Freed) != 0 {
		t.Fatalf("reaped %+v, %v", r, err)
	}
	pgtest.Exec(t, b.pool, "UPDATE workers SET lease_until = now() - interval '1 second' WHERE id = $1", lost)
	r, err := b.queue.Reap(t.Context())
	if err != nil || len(r.Gone) != 1 || r.Gone[0] != lost || len(r.Freed) != 2 {
		t.Fatalf("reaped %+v, %v", r, err)
	}
	for _, c := range held {
		if row := b.row(c.ID); row.Claim != c.Claim+1 {
			t.Errorf("the claim is %d, it was %d", row.Claim, c.Claim)
		}
	}
	last := pgtest.Get[string](t, b.pool, "SELECT type || ' ' || (data->>'worker_id') FROM execution_events WHERE execution_id = $1 ORDER BY seq DESC LIMIT 1", held[0].ID)
	if want := "execution.released " + lost.String(); last != want {
		t.Errorf("the last event is %s, want %s", last, want)
	}
	if r, err = b.queue.Reap(t.Context()); err != nil || len(r.Gone)+len(r.Freed) != 0 {
		t.Errorf("reaped twice: %+v, %v", r, err)
	}
	first := b.enqueue(priority(10))
	for range 2 { // what was freed goes before all else
		if c := b.claim(live, 1); len(c) != 1 || c[0].ID == first {
			t.Errorf("claimed %v", c)
		}
	}
}

// TestFreeingLeavesLiveWorkersAlone has the reaper meet an execution that is locked, given back and claimed by a live worker.
func TestFreeingLeavesLiveWorkersAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	dead, live := b.join(), b.join()
	b.enqueueMany(2)
	held := b.claim(dead, 2)
	pgtest.Exec(t, b.pool, "UPDATE workers SET state = 'gone', gone_at = now() WHERE id = $1", dead)
	release := b.lock("SELECT 1 FROM executions WHERE id = $1 FOR NO KEY UPDATE", held[0].ID)
	if r, err := b.queue.Reap(t.Context()); err != nil || len(r.Freed) != 1 || r.Freed[0] != held[1].ID {
		t.Errorf("freed %v, want only what nobody locks; %v", r.Freed, err)
	}
	release()
	if ids, err := b.queue.FreeAll(t.Context(), dead, "It leaves."); err != nil || len(ids) != 1 {
		t.Fatalf("given back %v, %v", ids, err)
	}
	if c := b.claim(live, 2); len(c) != 2 {
		t.Fatalf("%d claims", len(c))
	}
	if r, err := b.queue.Reap(t.Context()); err != nil || len(r.Freed) != 0 {
		t.Errorf("freed %v of a live worker, %v", r.Freed, err)
	}
}

// TestFreeingComparesWithTheNewWorker has the statement wait, after its snapshot, until what it saw was freed and claimed by a live
// worker: the row as it is then decides, not the one that was seen first.
func TestFreeingComparesWithTheNewWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	dead, live := b.join(), b.join()
	b.enqueue()
	b.claim(dead, 1)
	pgtest.Exec(t, b.pool, "UPDATE workers SET state = 'gone', gone_at = now() WHERE id = $1", dead)
	if _, err := b.queue.Reap(t.Context()); err != nil { // for the text of the statement
		t.Fatal(err)
	}
	pgtest.Exec(t, b.pool, "UPDATE executions SET worker_id = $1, claimed_at = now(), status = 'running'", dead)
	pgtest.Exec(t, b.pool, "DELETE FROM execution_queue")
	const order = "ORDER BY e.id LIMIT 100"
	sql := b.statements.Last(t, "QueueFreeLost").SQL
	waiting := strings.Replace(sql, order, "AND (SELECT pg_advisory_xact_lock(7) IS NOT NULL) "+order, 1)
	if waiting == sql {
		t.Fatalf("there is no %q in %s", order, sql)
	}
	conn, err := postgres.Connect(t.Context(), b.url, "test") // which waits as long as it takes
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	release := b.lock("SELECT pg_advisory_xact_lock(7)")
	freed := make(chan error, 1)
	go func() {
		tag, err := conn.Exec(t.Context(), waiting, "The worker is gone.")
		if err == nil && tag.RowsAffected() > 0 {
			err = errors.New("it was taken from a live worker")
		}
		freed <- err
	}()
	b.awaitLock()
	if ids, err := b.queue.FreeAll(t.Context(), dead, "It leaves."); err != nil || len(ids) != 1 {
		t.Fatalf("given back %v, %v", ids, err)
	}
	if c := b.claim(live, 1); len(c) != 1 {
		t.Fatalf("%d claims", len(c))
	}
	release()
	if err := <-freed; err != nil {
		t.Error(err)
	}
}

func TestFreeAllGivesBackInBatches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	b.enqueueMany(230)
	if c := b.claim(worker, 230); len(c) != 230 {
		t.Fatalf("%d claims", len(c))
	}
	if ids, err := b.queue.FreeAll(t.Context(), worker, "It leaves."); err != nil || len(ids) != 230 {
		t.Errorf("%d given back, %v", len(ids), err)
	}
	if ids, err := b.queue.FreeAll(t.Context(), worker, "It leaves."); err != nil || len(ids) != 0 {
		t.Errorf("%d given back twice, %v", len(ids), err)
	}
}

// TestDeadlinesWaitForNobody has somebody hold the rows: a process that was frozen in a transaction must not hold up the round.
func TestDeadlinesWaitForNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	held, queued := b.enqueue(priority(10)), b.enqueue()
	b.claim(b.join(), 1)
	pgtest.Exec(t, b.pool, "UPDATE executions SET deadline_at = now() - interval '1 second' WHERE id = $1", held)
	pgtest.Exec(t, b.pool, "UPDATE executions SET queue_deadline_at = now() - interval '1 second' WHERE id = $1", queued)
	release := b.lock("SELECT 1 FROM executions FOR NO KEY UPDATE")
	pgtest.Exec(t, b.pool, "ALTER DATABASE "+pgtest.Get[string](t, b.pool, "SELECT quote_ident(current_database())")+" SET lock_timeout = '1ms'")
	pool := pgtest.Open(t, b.url, postgres.Options{MaxConns: 2})
	store := queue.NewStore(pool, postgres.NewNotifier(pool, zerolog.Nop()))
	if n, err := store.PassDeadlines(t.Context()); err != nil || n != 0 {
		t.Errorf("%d passed while others hold the rows, %v", n, err)
	}
	release()
	if n, err := store.PassDeadlines(t.Context()); err != nil || n != 2 {
		t.Errorf("%d passed, %v", n, err)
	}
}

// TestCancelIsDatedWhenItCounts has a cancel wait for a transaction that starts a node: it comes after that node, in time too.
func TestCancelIsDatedWhenItCounts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.enqueue()
	b.claim(b.join(), 1)
	release := b.lock("SELECT 1 FROM executions WHERE id = $1 FOR NO KEY UPDATE", id)
	done := make(chan error, 1)
	go func() { done <- b.queue.Cancel(t.Context(), b.org, id, "test") }()
	b.awaitLock()
	started := pgtest.Get[time.Time](t, b.pool, "SELECT clock_timestamp()")
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if canceled := pgtest.Get[time.Time](t, b.pool, "SELECT cancel_requested_at FROM executions WHERE id = $1", id); canceled.Before(started) {
		t.Errorf("it is dated %s before what it waited for", started.Sub(canceled))
	}
}

func TestTimersAndMisplaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	park := func(due string) uuid.UUID {
		id := b.enqueue()
		pgtest.Exec(t, b.pool, "DELETE FROM execution_queue WHERE execution_id = $1", id)
		pgtest.Exec(t, b.pool, "UPDATE executions SET status = 'waiting', parked_at = now() WHERE id = $1", id)
		pgtest.Exec(t, b.pool, "INSERT INTO execution_timers VALUES ($1, now() + $2::interval, 'wait')", id, due)
		return id
	}
	due, later := park("-1 second"), park("1 hour")
	if n, err := b.queue.UnparkDue(t.Context()); err != nil || n != 1 {
		t.Fatalf("%d are ready, %v", n, err)
	}
	if n, err := b.queue.UnparkDue(t.Context()); err != nil || n != 0 {
		t.Fatalf("%d are ready again, %v", n, err)
	}
	if ids, err := b.queue.Misplaced(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("misplaced %v, %v", ids, err)
	}
	if c := b.claim(b.join(), 5); len(c) != 1 || c[0].ID != due {
		t.Errorf("claimed %v, want only the one whose time has come and not %s", c, later)
	}

	lost := b.enqueue()
	pgtest.Exec(t, b.pool, "DELETE FROM execution_queue WHERE execution_id = $1", lost)
	ids, err := b.queue.Misplaced(t.Context())
	if err != nil || len(ids) != 1 || ids[0] != lost {
		t.Fatalf("misplaced %v, %v", ids, err)
	}
	for _, want := range []bool{true, false} {
		if got, err := b.queue.Replace(t.Context(), lost); err != nil || got != want {
			t.Errorf("replaced: %t, %v", got, err)
		}
	}
}
