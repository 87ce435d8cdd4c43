package journal_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// testBundle is a database with a worker that claims for the test, and no journal yet.
type testBundle struct {
	t          *testing.T
	url        string
	pool       *pgxpool.Pool // not the journals'
	queue      *queue.Store
	executions *execution.Store
	events     *event.Store
	org        uuid.UUID
	workflow   uuid.UUID
	worker     uuid.UUID
	flush      time.Duration // of journals that start from now on; 0 is the default
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	url := pgtest.Database(t)
	pool := pgtest.Open(t, url, postgres.Options{})
	b := &testBundle{
		t: t, url: url, pool: pool, worker: execution.NewID(),
		queue:      queue.NewStore(pool, postgres.NewNotifier(pool, zerolog.Nop())),
		executions: execution.NewStore(pool), events: event.NewStore(pool),
	}
	b.org, b.workflow = pgtest.Workflow(t, pool)
	if err := b.queue.Join(t.Context(), queue.Worker{ID: b.worker, Host: "host", PID: 1, Version: "test", Slots: 10, Lease: queue.DefaultLease}); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, pool, "UPDATE workers SET lease_until = now() + interval '1 day'")
	return b
}

// check is to be deferred: cleanups run when the context that it needs has ended.
func (b *testBundle) check() {
	b.t.Helper()
	pgtest.CheckInvariants(b.t, b.pool)
}

// running is a journal that runs.
type running struct {
	*journal.Journal
	pool       *pgxpool.Pool
	statements *pgtest.Statements
	stop       func() // ends Run's context and returns when Run has
	end        func() // only the former
}

// start runs a journal until the test ends.
func (b *testBundle) start() *running {
	b.t.Helper()
	statements := new(pgtest.Statements)
	return b.startOn(pgtest.Open(b.t, b.url, postgres.Options{Tracer: statements, MaxConns: 2}), statements)
}

func (b *testBundle) startOn(pool *pgxpool.Pool, statements *pgtest.Statements) *running {
	b.t.Helper()
	j := journal.New(journal.Config{Pool: pool, Notifier: postgres.NewNotifier(pool, zerolog.Nop()), Logger: zerolog.Nop(), FlushTimeout: b.flush})
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := j.Run(ctx); err != nil {
			b.t.Errorf("the journal ended with %v", err)
		}
	}()
	stop := func() {
		cancel()
		<-done
	}
	b.t.Cleanup(stop)
	return &running{Journal: j, pool: pool, statements: statements, stop: stop, end: cancel}
}

// claimed makes executions that the worker holds under claim 1, with two events each.
func (b *testBundle) claimed(n int) []uuid.UUID {
	b.t.Helper()
	for range n {
		_, err := b.queue.Enqueue(b.t.Context(), queue.Request{
			OrganizationID: b.org, WorkflowID: b.workflow, Version: 1, Source: execution.FromAPI, Inputs: json.RawMessage(`{}`), QueueTimeout: time.Hour,
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	claimed, err := b.queue.Claim(b.t.Context(), b.worker, n)
	if err != nil || len(claimed) != n {
		b.t.Fatalf("%d claims of %d, %v", len(claimed), n, err)
	}
	ids := make([]uuid.UUID, 0, n)
	for _, c := range claimed {
		ids = append(ids, c.ID)
	}
	return ids
}

func (b *testBundle) get(id uuid.UUID) *execution.Execution {
	b.t.Helper()
	x, err := b.executions.Get(b.t.Context(), b.org, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

func (b *testBundle) nodeRuns(id uuid.UUID) []execution.NodeRun {
	b.t.Helper()
	runs, err := b.executions.NodeRuns(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return runs
}

// types lists an execution's records.
func (b *testBundle) types(id uuid.UUID) []event.Type {
	b.t.Helper()
	var types []event.Type
	for _, e := range b.page(id, 0) {
		types = append(types, e.Type)
	}
	return types
}

func (b *testBundle) page(id uuid.UUID, after int64) []event.Event {
	b.t.Helper()
	page, err := b.events.Page(b.t.Context(), id, after, event.PageMax, event.LogFilter{})
	if err != nil {
		b.t.Fatal(err)
	}
	return page
}

// lock holds an execution's row lock, so that a commit that has begun does not end before release.
func (b *testBundle) lock(id uuid.UUID) (release func()) {
	b.t.Helper()
	tx, err := b.pool.Begin(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := tx.Exec(b.t.Context(), "SELECT 1 FROM executions WHERE id = $1 FOR UPDATE", id); err != nil {
		b.t.Fatal(err)
	}
	return func() { _ = tx.Rollback(context.WithoutCancel(b.t.Context())) }
}

// hold keeps a commit of the journal in flight until release: everything submitted meanwhile is one batch.
func (b *testBundle) hold(j *running) (release func()) {
	b.t.Helper()
	id := b.claimed(1)[0]
	unlock := b.lock(id)
	answer := j.submit(b.t, &journal.Entry{ExecutionID: id, Claim: 1, Records: []journal.Record{{Type: event.Warning}}})
	b.awaitBlocked()
	return func() {
		unlock()
		if a := <-answer; a.err != nil {
			b.t.Errorf("the commit that was held back: %v", a.err)
		}
	}
}

// awaitBlocked waits until a journal waits for a row, and returns its backend's pid.
func (b *testBundle) awaitBlocked() (pid int) {
	b.t.Helper()
	await(b.t, "a journal that waits for a lock", func() bool {
		pid = pgtest.Get[int](b.t, b.pool, `SELECT COALESCE(min(pid), 0) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%JournalLock%'`)
		return pid != 0
	})
	return pid
}

// answer is what became of an entry.
type answer struct {
	receipt journal.Receipt
	err     error
}

func (j *running) submit(t *testing.T, e *journal.Entry) <-chan answer {
	t.Helper()
	answers := make(chan answer, 1)
	if err := j.Submit(t.Context(), e, func(r journal.Receipt, err error) { answers <- answer{r, err} }); err != nil {
		t.Fatal(err)
	}
	return answers
}

func (j *running) commit(t *testing.T, e *journal.Entry) journal.Receipt {
	t.Helper()
	r, err := j.Commit(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// await polls until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(5 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("still waiting for %s", what)
		case <-tick.C:
		}
	}
}

func wantCode(t *testing.T, err error, code errs.Code) {
	t.Helper()
	if !errs.Is(err, code) {
		t.Fatalf("error %v, want the code %s", err, code)
	}
}

// warning is an entry with one event.
func warning(id uuid.UUID, claim int64) *journal.Entry {
	return &journal.Entry{ExecutionID: id, Claim: claim, Records: []journal.Record{{Type: event.Warning}}}
}

// started is an entry in which a node starts.
func started(id uuid.UUID, key string) (*journal.Entry, journal.NodeRun) {
	run := journal.NodeRun{ID: execution.NewID(), Key: key, Attempt: 1, Status: execution.NodeRunning}
	return &journal.Entry{
		ExecutionID: id, Claim: 1, NodeRuns: []journal.NodeRun{run}, Records: []journal.Record{{Type: event.NodeStarted, NodeRunID: run.ID}},
	}, run
}

func completed(id uuid.UUID) *journal.Entry {
	return &journal.Entry{
		ExecutionID: id, Claim: 1, Records: []journal.Record{{Type: event.ExecutionCompleted}},
		End: &journal.End{Status: execution.Completed, Outputs: json.RawMessage(`{"a": 1}`)},
	}
}
