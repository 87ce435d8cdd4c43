package queue_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// testBundle is a database with one workflow, whose invariants are checked when the test ends.
type testBundle struct {
	t          *testing.T
	url        string
	pool       *pgxpool.Pool
	statements *pgtest.Statements
	queue      *queue.Store
	executions *execution.Store
	org        uuid.UUID
	workflow   uuid.UUID
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	statements := new(pgtest.Statements)
	url := pgtest.Database(t)
	pool := pgtest.Open(t, url, postgres.Options{Tracer: statements, MaxConns: 10})
	b := &testBundle{
		t: t, url: url, pool: pool, statements: statements, executions: execution.NewStore(pool),
		queue: queue.NewStore(pool, postgres.NewNotifier(pool, zerolog.Nop())),
	}
	b.org, b.workflow = pgtest.Workflow(t, pool)
	return b
}

// check is to be deferred: cleanups run when the context that it needs has ended.
func (b *testBundle) check() {
	b.t.Helper()
	pgtest.CheckInvariants(b.t, b.pool)
}

func (b *testBundle) request() queue.Request {
	return queue.Request{
		OrganizationID: b.org, WorkflowID: b.workflow, Version: 1, Source: execution.FromAPI,
		Inputs: json.RawMessage(`{"n": 1}`), QueueTimeout: time.Hour,
	}
}

// enqueue admits an execution, changed by f.
func (b *testBundle) enqueue(f ...func(*queue.Request)) uuid.UUID {
	b.t.Helper()
	r := b.request()
	for _, change := range f {
		change(&r)
	}
	q, err := b.queue.Enqueue(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	return q.ID
}

func (b *testBundle) enqueueMany(n int) []uuid.UUID {
	b.t.Helper()
	ids := make([]uuid.UUID, 0, n)
	for range n {
		ids = append(ids, b.enqueue())
	}
	return ids
}

func priority(p int) func(*queue.Request) {
	return func(r *queue.Request) { r.Priority = p }
}

// join registers a worker with a lease that no test outlives.
func (b *testBundle) join() uuid.UUID {
	b.t.Helper()
	id := execution.NewID()
	if err := b.queue.Join(b.t.Context(), queue.Worker{ID: id, Host: "host", PID: 1, Version: "test", Slots: 10, Lease: queue.DefaultLease}); err != nil {
		b.t.Fatal(err)
	}
	pgtest.Exec(b.t, b.pool, "UPDATE workers SET lease_until = now() + interval '1 day' WHERE id = $1", id)
	return id
}

func (b *testBundle) claim(worker uuid.UUID, limit int) []queue.Claimed {
	b.t.Helper()
	claimed, err := b.queue.Claim(b.t.Context(), worker, limit)
	if err != nil {
		b.t.Fatal(err)
	}
	return claimed
}

func (b *testBundle) get(id uuid.UUID) *execution.Execution {
	b.t.Helper()
	x, err := b.executions.Get(b.t.Context(), b.org, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

// row is what of an execution no store shows.
type row struct {
	Claim    int64
	Signal   int64
	Canceled bool
	Forced   bool
	Passed   bool
}

func (b *testBundle) row(id uuid.UUID) row {
	b.t.Helper()
	var r row
	err := b.pool.QueryRow(b.t.Context(), `SELECT claim, signal, cancel_requested_at IS NOT NULL, cancel_forced_at IS NOT NULL, deadline_passed_at IS NOT NULL
		FROM executions WHERE id = $1`, id).Scan(&r.Claim, &r.Signal, &r.Canceled, &r.Forced, &r.Passed)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// lock holds locks in a transaction of its own until release is called, however long that is.
func (b *testBundle) lock(sql string, args ...any) (release func()) {
	b.t.Helper()
	tx, err := b.pool.Begin(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := tx.Exec(b.t.Context(), "SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
		b.t.Fatal(err)
	}
	tag, err := tx.Exec(b.t.Context(), sql, args...)
	if err != nil || tag.RowsAffected() == 0 {
		b.t.Fatalf("%s: %d rows, %v", sql, tag.RowsAffected(), err)
	}
	return func() {
		if err := tx.Rollback(context.WithoutCancel(b.t.Context())); err != nil && err != pgx.ErrTxClosed { //nolint:errorlint // pgx returns it bare
			b.t.Error(err)
		}
	}
}

func wantCode(t *testing.T, err error, code errs.Code) {
	t.Helper()
	if !errs.Is(err, code) {
		t.Fatalf("error %v, want the code %s", err, code)
	}
}
