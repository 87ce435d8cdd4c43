package reconcile

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// testBundle is a database, a provider, and a reconciler whose clock stands still.
type testBundle struct {
	t            *testing.T
	pool         *pgxpool.Pool
	fake         *sandboxtest.Fake
	r            *Reconciler
	clock        time.Time
	org, work    uuid.UUID
	installation string

	mu    sync.Mutex
	calls []Call
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	return open(t, pgtest.Pool(t), sandboxtest.NewFake(t))
}

func open(t *testing.T, pool *pgxpool.Pool, fake *sandboxtest.Fake) *testBundle {
	t.Helper()
	b := &testBundle{t: t, pool: pool, fake: fake, clock: time.Now()}
	b.org, b.work = pgtest.Workflow(t, pool)
	b.installation = pgtest.Get[string](t, pool, "SELECT id::text FROM installation")
	b.restart()
	return b
}

// restart forgets what the rounds before have seen, as a new process does.
func (b *testBundle) restart() {
	b.r = New(Config{
		Store: NewStore(b.pool), Provider: b.fake, Host: "here", Logger: zerolog.New(zerolog.NewTestWriter(b.t)),
		Observe: func(c Call) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.calls = append(b.calls, c)
		},
	})
	b.r.now = func() time.Time { return b.clock }
}

func (b *testBundle) round() {
	b.t.Helper()
	if err := b.r.Round(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// execution makes an execution in a place: ready, held, parked or ended.
func (b *testBundle) execution(place string) uuid.UUID {
	b.t.Helper()
	store := queue.NewStore(b.pool, postgres.NewNotifier(b.pool, zerolog.Nop()))
	q, err := store.Enqueue(b.t.Context(), queue.Request{
		OrganizationID: b.org, WorkflowID: b.work, Version: 1, Source: execution.FromAPI, Inputs: []byte(`{}`), QueueTimeout: time.Hour,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if place == "ready" {
		return q.ID
	}
	worker := execution.NewID()
	if err := store.Join(b.t.Context(), queue.Worker{ID: worker, Host: "here", PID: 1, Version: "test", Slots: 1, Lease: time.Minute}); err != nil {
		b.t.Fatal(err)
	}
	pgtest.Exec(b.t, b.pool, "DELETE FROM execution_queue WHERE execution_id = $1", q.ID)
	pgtest.Exec(b.t, b.pool, "UPDATE executions SET status = 'running', worker_id = $2, claim = 1, claimed_at = now() WHERE id = $1", q.ID, worker)
	switch place {
	case "held":
	case "parked":
		pgtest.Exec(b.t, b.pool, "UPDATE executions SET status = 'waiting', worker_id = NULL, parked_at = now(), claim = 2 WHERE id = $1", q.ID)
	case "ended":
		b.endExecution(q.ID)
	default:
		b.t.Fatalf("there is no place %s", place)
	}
	return q.ID
}

func (b *testBundle) endExecution(id uuid.UUID) {
	b.t.Helper()
	pgtest.Exec(b.t, b.pool, `
WITH ended AS (
    UPDATE executions SET status = 'completed', worker_id = NULL, parked_at = NULL, finished_at = now(), last_seq = last_seq + 1 WHERE id = $1 RETURNING id, last_seq
)
INSERT INTO execution_events (day, execution_id, seq, type) SELECT execution_day(id), id, last_seq, 'execution.completed' FROM ended`, id)
}

// sandbox makes a row in a state, and its sandbox.
func (b *testBundle) sandbox(executionID uuid.UUID, state string) uuid.UUID {
	b.t.Helper()
	id := execution.NewID()
	b.create(id, b.installation)
	b.row(id, executionID, state, "here")
	return id
}

// create makes a sandbox without a row.
func (b *testBundle) create(id uuid.UUID, installation string) {
	b.t.Helper()
	spec := sandbox.Spec{ID: id, Labels: map[string]string{sandbox.LabelInstallation: installation, sandbox.LabelSandbox: id.String()}}
	if _, err := b.fake.Create(b.t.Context(), spec); err != nil {
		b.t.Fatal(err)
	}
}

// row makes a row without a sandbox. The fake's ids are ours.
func (b *testBundle) row(id, executionID uuid.UUID, state, host string) {
	b.t.Helper()
	pgtest.Exec(b.t, b.pool, `
INSERT INTO sandboxes (id, execution_id, provider, host, provider_id, state, claim, keep_until, ended_at)
SELECT x.id, $2, 'fake', $4, CASE WHEN x.state <> 'creating' THEN x.id::text END, x.state, 1, CASE WHEN x.state = 'kept' THEN now() + interval '1 hour' END,
    CASE WHEN x.state IN ('destroyed', 'failed') THEN now() END FROM (SELECT $1::uuid AS id, $3::text AS state) AS x`, id, executionID, state, host)
}

func (b *testBundle) want(id uuid.UUID, state string) {
	b.t.Helper()
	if got := pgtest.Get[string](b.t, b.pool, "SELECT state FROM sandboxes WHERE id = $1", id); got != state {
		b.t.Fatalf("the row says %s, want %s", got, state)
	}
}

// wantThere asks the provider for a sandbox's state; "" is none.
func (b *testBundle) wantThere(id uuid.UUID, state sandbox.State) {
	b.t.Helper()
	infos, err := b.fake.List(b.t.Context(), map[string]string{sandbox.LabelSandbox: id.String()})
	if err != nil {
		b.t.Fatal(err)
	}
	got := sandbox.State("")
	if len(infos) == 1 {
		got = infos[0].State
	}
	if got != state {
		b.t.Fatalf("the sandbox is %q, want %q", got, state)
	}
}

// passed moves an instant of a row into the past.
func (b *testBundle) passed(column, table string, id uuid.UUID, by time.Duration) {
	b.t.Helper()
	pgtest.Exec(b.t, b.pool, "UPDATE "+table+" SET "+column+" = "+column+" - make_interval(secs => $2) WHERE id = $1", id, by.Seconds())
}
