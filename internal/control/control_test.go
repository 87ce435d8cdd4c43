package control

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// testBundle is a database of two control planes, of which none runs its loops yet.
type testBundle struct {
	t         *testing.T
	pool      *pgxpool.Pool
	queue     *queue.Store
	events    *event.Store
	one, two  *Loops
	org, work uuid.UUID
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	url := pgtest.Database(t)
	pool := pgtest.Open(t, url, postgres.Options{})
	b := &testBundle{t: t, pool: pool, queue: queue.NewStore(pool, postgres.NewNotifier(pool, zerolog.Nop())), events: event.NewStore(pool)}
	config := Config{DirectURL: url, Queue: b.queue, Events: b.events, Logger: zerolog.Nop()}
	b.one, b.two = New(config), New(config)
	b.org, b.work = pgtest.Workflow(t, pool)
	return b
}

// background runs f until the test ends, and returns what it returned.
func (b *testBundle) background(f func(ctx context.Context) error) (stop func(), result <-chan error) {
	b.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(b.t.Context()))
	results, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		results <- f(ctx)
	}()
	b.t.Cleanup(func() {
		stop()
		<-done
	})
	return stop, results
}

// leader is the backend that holds the lock, or 0.
func (b *testBundle) leader() int {
	b.t.Helper()
	return pgtest.Get[int](b.t, b.pool, `SELECT COALESCE(min(pid), 0) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE d.datname = current_database() AND locktype = 'advisory' AND granted AND (classid::bigint << 32 | objid::bigint) = $1`, int64(lockKey))
}

// due makes an execution whose queue deadline has passed.
func (b *testBundle) due() uuid.UUID {
	b.t.Helper()
	q, err := b.queue.Enqueue(b.t.Context(), queue.Request{
		OrganizationID: b.org, WorkflowID: b.work, Version: 1, Source: execution.FromAPI, Inputs: []byte(`{}`), QueueTimeout: time.Hour,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	pgtest.Exec(b.t, b.pool, "UPDATE executions SET queue_deadline_at = now() WHERE id = $1", q.ID)
	return q.ID
}

func (b *testBundle) awaitTimedOut(id uuid.UUID) {
	b.t.Helper()
	await(b.t, "a deadline to pass", func() bool {
		return pgtest.Get[string](b.t, b.pool, "SELECT status FROM executions WHERE id = $1", id) == "timed_out"
	})
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("still waiting for %s", what)
		case <-tick.C:
		}
	}
}

func TestOneLeads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	missing := "execution_logs" + time.Now().UTC().AddDate(0, 0, 9).Format("_20060102")
	pgtest.Exec(t, b.pool, "DROP TABLE "+missing)

	stop, ended := b.background(b.one.lead)
	b.awaitTimedOut(b.due())
	first := b.leader()
	if first == 0 {
		t.Fatal("somebody passes deadlines without the lock")
	}
	if n, err := b.events.PartitionsAhead(t.Context()); err != nil || n != event.DaysAhead {
		t.Errorf("partitions for %d days, %v", n, err)
	}
	// The second finds the lock taken and returns at once: it is Run that tries again.
	if err := b.two.lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pid := b.leader(); pid != first {
		t.Fatalf("the lock went from %d to %d", first, pid)
	}

	pgtest.Get[bool](t, b.pool, "SELECT pg_terminate_backend($1, 10000)", first)
	if err := <-ended; err == nil {
		t.Error("a leader whose connection was lost goes on")
	}
	stop()
	id := b.due() // there is no leader
	b.background(b.two.Run)
	b.awaitTimedOut(id)
	if pid := b.leader(); pid == 0 || pid == first {
		t.Errorf("the lock is held by %d, it was by %d", pid, first)
	}
}

// TestRunTakesOver lets both processes run: after the leader's connection is gone somebody leads again, and
// an end of the context ends both without an error.
func TestRunTakesOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stopOne, one := b.background(b.one.Run)
	stopTwo, two := b.background(b.two.Run)
	b.awaitTimedOut(b.due())
	first := b.leader()
	pgtest.Get[bool](t, b.pool, "SELECT pg_terminate_backend($1, 10000)", first)
	// Whoever led may be in the middle of a round, which ends without the lock: deadlines alone do not tell that somebody leads.
	await(t, "another leader", func() bool { pid := b.leader(); return pid != 0 && pid != first })
	b.awaitTimedOut(b.due())
	stopOne()
	stopTwo()
	for _, ended := range []<-chan error{one, two} {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	await(t, "the lock to be given back", func() bool { return b.leader() == 0 })
}

// TestRefusedDeadline holds that a row which Postgres refuses to change stops neither the partitions nor other deadlines.
func TestRefusedDeadline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refused := b.due()
	pgtest.Exec(t, b.pool, "INSERT INTO execution_events (day, execution_id, seq, type) VALUES (execution_day($1), $1, 2, 'warning')", refused)
	pgtest.Exec(t, b.pool, "DROP TABLE execution_logs"+time.Now().UTC().AddDate(0, 0, 9).Format("_20060102"))
	other := b.due()
	b.background(b.one.Run)
	b.awaitTimedOut(other)
	if n, err := b.events.PartitionsAhead(t.Context()); err != nil || n != event.DaysAhead {
		t.Errorf("partitions for %d days, %v", n, err)
	}
}

// TestOneRefusalHoldsNothingUp has Postgres refuse to end one execution, again and again: workers are declared gone all the same.
func TestOneRefusalHoldsNothingUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.due()
	pgtest.Exec(t, b.pool, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.status = 'timed_out' THEN RAISE EXCEPTION 'refused' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$`)
	pgtest.Exec(t, b.pool, `CREATE TRIGGER refuse BEFORE UPDATE ON executions FOR EACH ROW WHEN (NEW.queue_deadline_at <= now()) EXECUTE FUNCTION refuse()`)
	worker := execution.NewID()
	if err := b.queue.Join(t.Context(), queue.Worker{ID: worker, Host: "x", PID: 1, Version: "x", Slots: 1, Lease: time.Second}); err != nil {
		t.Fatal(err)
	}
	b.one.Lease = 2 * time.Second
	b.background(b.one.Run)
	await(t, "the worker to be gone", func() bool {
		return pgtest.Get[string](t, b.pool, "SELECT state FROM workers WHERE id = $1", worker) == "gone"
	})
}
