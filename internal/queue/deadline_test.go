package queue_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
)

// passAll calls PassDeadlines from several processes at once, and returns what all of them changed.
func (b *testBundle) passAll() int {
	b.t.Helper()
	var changed atomic.Int64
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			n, err := b.queue.PassDeadlines(b.t.Context())
			if err != nil {
				b.t.Error(err)
			}
			changed.Add(int64(n))
		})
	}
	group.Wait()
	return int(changed.Load())
}

func TestPassDeadlines(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()

	t.Run("of a held execution is a signal, once", func(t *testing.T) {
		id := b.enqueue(func(r *queue.Request) { r.Timeout = time.Hour })
		b.claim(worker, 1)
		if n := b.passAll(); n != 0 {
			t.Fatalf("%d deadlines passed before their time", n)
		}
		pgtest.Exec(t, b.pool, "UPDATE executions SET deadline_at = now() WHERE id = $1", id)
		if n := b.passAll(); n != 1 {
			t.Errorf("one deadline passed %d times", n)
		}
		if n := b.passAll(); n != 0 {
			t.Errorf("it passed again %d times", n)
		}
		if diff := cmp.Diff(row{Claim: 1, Signal: 1, Passed: true}, b.row(id)); diff != "" {
			t.Error(diff)
		}
		if x := b.get(id); x.Status != execution.Running || *x.WorkerID != worker {
			t.Errorf("execution %+v", x)
		}
	})

	t.Run("of the queue is the end", func(t *testing.T) {
		id, other := b.enqueue(), b.enqueue()
		if n := b.passAll(); n != 0 {
			t.Fatalf("%d queue deadlines passed before their time", n)
		}
		pgtest.Exec(t, b.pool, "UPDATE executions SET queue_deadline_at = now() WHERE id = $1", id)
		if n := b.passAll(); n != 1 {
			t.Errorf("one queue deadline passed %d times", n)
		}
		x := b.get(id)
		if x.Status != execution.TimedOut || x.FinishedAt == nil || x.Failure == nil || x.Failure.Code != "queue_timeout" {
			t.Errorf("execution %+v", x)
		}
		if r := b.row(id); r.Claim != 1 {
			t.Errorf("claim %d", r.Claim)
		}
		if diff := cmp.Diff([]event.Type{event.ExecutionQueued, event.ExecutionTimedOut}, b.types(id)); diff != "" {
			t.Error(diff)
		}
		claimed := b.claim(worker, 5)
		if len(claimed) != 1 || claimed[0].ID != other {
			t.Errorf("claimed %+v, want only %s", claimed, other)
		}
		pgtest.Exec(t, b.pool, "UPDATE executions SET queue_deadline_at = now() WHERE id = $1", other)
		if n := b.passAll(); n != 0 {
			t.Error("a claimed execution has a queue deadline")
		}
	})
}

func TestPassDeadlinesGoesOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := b.enqueueMany(3)
	// A row that Postgres refuses to end: its next number is taken.
	pgtest.Exec(t, b.pool, "INSERT INTO execution_events (day, execution_id, seq, type) VALUES (execution_day($1), $1, 2, 'warning')", ids[0])
	pgtest.Exec(t, b.pool, "UPDATE executions SET queue_deadline_at = now()")
	n, err := b.queue.PassDeadlines(t.Context())
	if n != 2 || err == nil {
		t.Fatalf("%d changed, %v", n, err)
	}
	if s := b.get(ids[0]).Status; s != execution.Queued {
		t.Errorf("the refused one is %s", s)
	}
}

func TestQueueDeadlineRacesClaim(t *testing.T) {
	t.Parallel()
	b := setup(t)
	worker := b.join()
	defer b.check()
	for range 50 {
		id := b.enqueue()
		pgtest.Exec(t, b.pool, "UPDATE executions SET queue_deadline_at = now() WHERE id = $1", id)
		var claimed []queue.Claimed
		var passed int
		var claimErr, passErr error
		var group sync.WaitGroup
		group.Go(func() { claimed, claimErr = b.queue.Claim(t.Context(), worker, 1) })
		group.Go(func() { passed, passErr = b.queue.PassDeadlines(t.Context()) })
		group.Wait()
		if claimErr != nil || passErr != nil || len(claimed)+passed != 1 {
			t.Fatalf("%d claims and %d ends, %v, %v", len(claimed), passed, claimErr, passErr)
		}
	}
}

// TestInvariants plants what CheckInvariants is there to find.
func TestInvariants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	worker := b.join()
	held := func() uuid.UUID {
		id := b.enqueue()
		if c := b.claim(worker, 1); len(c) != 1 || c[0].ID != id {
			t.Fatalf("claimed %+v", c)
		}
		return id
	}
	ended := func() uuid.UUID {
		id := b.enqueue()
		if err := b.queue.Cancel(t.Context(), b.org, id, "me"); err != nil {
			t.Fatal(err)
		}
		return id
	}
	ready := func() uuid.UUID { return b.enqueue() }
	for _, c := range []struct {
		name string
		of   func() uuid.UUID
		sql  string
		want int
	}{
		{"ready", ready, "SELECT $1::uuid", 0},
		{"held", held, "SELECT $1::uuid", 0},
		{"ended", ended, "SELECT $1::uuid", 0},
		{"parked", held, "UPDATE executions SET status = 'waiting', parked_at = now(), worker_id = NULL WHERE id = $1", 0},
		{"parked and signaled", held, "WITH x AS (UPDATE executions SET status = 'waiting', parked_at = now(), worker_id = NULL WHERE id = $1 RETURNING id) INSERT INTO execution_queue SELECT id, now() FROM x", 0},
		{"a timer of one that is held", held, "INSERT INTO execution_timers VALUES ($1, now(), 'wait')", 1},
		{"a timer of one that is ready", ready, "INSERT INTO execution_timers VALUES ($1, now(), 'wait')", 1},
		{"queued in no place", ready, "DELETE FROM execution_queue WHERE execution_id = $1", 1},
		{"running in no place", held, "UPDATE executions SET worker_id = NULL WHERE id = $1", 1},
		{"held and ready", held, "INSERT INTO execution_queue VALUES ($1, now())", 1},
		{"ended and ready", ended, "INSERT INTO execution_queue VALUES ($1, now())", 1},
		{"a gap", held, "DELETE FROM execution_events WHERE execution_id = $1 AND seq = 1", 1},
		{"a number too many", held, "UPDATE executions SET last_seq = 3 WHERE id = $1", 1},
		{"a number twice", held, "INSERT INTO execution_logs (day, execution_id, seq, node_run_id, stream, byte_offset, data) VALUES (execution_day($1), $1, 2, $1, 'stdout', 0, 'x')", 1},
		{"something after the end", ended, "WITH x AS (UPDATE executions SET last_seq = 3 WHERE id = $1) INSERT INTO execution_events (day, execution_id, seq, type) VALUES (execution_day($1), $1, 3, 'warning')", 1},
		{"another end than its event says", ended, "UPDATE executions SET status = 'failed' WHERE id = $1", 2},
		{"an end without an event", held, "UPDATE executions SET status = 'failed', finished_at = now(), worker_id = NULL WHERE id = $1", 1},
	} {
		id := c.of()
		pgtest.Exec(t, b.pool, c.sql, id)
		found, err := pgtest.Violations(t.Context(), b.pool)
		if err != nil || len(found) != c.want {
			t.Errorf("%s: %v, found %q, want %d", c.name, err, found, c.want)
		}
		pgtest.Exec(t, b.pool, "DELETE FROM execution_events WHERE execution_id = $1", id)
		pgtest.Exec(t, b.pool, "DELETE FROM execution_logs WHERE execution_id = $1", id)
		pgtest.Exec(t, b.pool, "DELETE FROM executions WHERE id = $1", id)
	}
}
