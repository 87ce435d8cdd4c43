package worker_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"foundry/internal/failpoint"
	"foundry/internal/lifecycle"
)

const sandboxless = "name: sandboxless\nnodes:\n  only:\n    set: { x: \"1\" }\n"

// meter counts the transactions that a test's database commits. It reads from another database, and
// only when no connection is left: a backend reports for certain when it exits.
//
// To receive a notification is a transaction of the listening backend, too, although it writes
// nothing. The meter sees each NOTIFY as a tracer, so that those can be taken off.
type meter struct {
	t        *testing.T
	admin    *pgx.Conn
	database string
	asked    int64        // transactions of its own
	notified atomic.Int64 // transactions that notified; one connection listens
	prepared atomic.Int64 // statements: once on each connection, of which a slow worker makes more
	idle     atomic.Int64 // looks for work that found none, reads of what is held, and sweeps: when time passes, a worker does no more
}

type statement struct{} // key of a context: its text

func newMeter(t *testing.T, url string) *meter {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{t: t, database: config.Database}
	config.Database = "postgres"
	if m.admin, err = pgx.ConnectConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.admin.Close(context.Background()) })
	return m
}

func (m *meter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	m.see(d.SQL)
	return context.WithValue(ctx, statement{}, d.SQL)
}

func (m *meter) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	sql, _ := ctx.Value(statement{}).(string)
	name, isNamed := strings.CutPrefix(sql, "-- name: ")
	if !isNamed || strings.HasPrefix(name, "QueueClaim ") && d.CommandTag.RowsAffected() > 0 {
		return
	}
	// Executions without a sandbox know no other statements of these names.
	for _, of := range []string{"QueueClaim ", "WorkerHeld ", "Sandbox", "Installation", "SecretErase", "MaskDelete"} {
		if strings.HasPrefix(name, of) {
			m.idle.Add(1)
		}
	}
}

func (m *meter) TracePrepareStart(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	return ctx
}

func (m *meter) TracePrepareEnd(_ context.Context, _ *pgx.Conn, d pgx.TracePrepareEndData) {
	if !d.AlreadyPrepared {
		m.prepared.Add(1)
	}
}

func (m *meter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (m *meter) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	m.see(d.SQL)
}

func (m *meter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (m *meter) see(sql string) {
	if strings.Contains(sql, "pg_notify") {
		m.notified.Add(1)
	}
}

// read waits until nobody is connected, and returns what was committed so far.
func (m *meter) read() (commits int64) {
	m.t.Helper()
	const left = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1"
	const sum = "SELECT xact_commit FROM pg_stat_database WHERE datname = $1"
	await(m.t, "the backends to exit", func() bool {
		var n int
		if err := m.admin.QueryRow(m.t.Context(), left, m.database).Scan(&n); err != nil {
			m.t.Fatal(err)
		}
		return n == 0
	})
	if err := m.admin.QueryRow(m.t.Context(), sum, m.database).Scan(&commits); err != nil {
		m.t.Fatal(err)
	}
	return commits
}

// await asks until the query says true, and counts its own questions.
func (m *meter) await(conn *pgx.Conn, query string, args ...any) {
	m.t.Helper()
	await(m.t, "executions to end", func() bool {
		m.asked++
		var ended bool
		if err := conn.QueryRow(m.t.Context(), query, args...).Scan(&ended); err != nil {
			m.t.Fatal(err)
		}
		return ended
	})
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// timed is how many transactions a worker has made since begun because time has passed, and for no execution: in each second at most a look, and a
// second one for the NOTIFY of what the first has claimed already, of two transactions each; and in ten seconds a renewal and a sweep.
func (m *meter) timed(begun time.Time) int64 {
	const look, sweep = 2, 15
	seconds := int64(time.Since(begun) / time.Second)
	return min(m.idle.Load(), 2*look*seconds+sweep*(1+seconds/10)) + m.prepared.Load()
}

// holdsNone waits until a worker says that it holds no execution.
func (b *testBundle) holdsNone(url string) {
	b.t.Helper()
	await(b.t, "the worker to hold nothing", func() bool {
		_, metrics := get(b.t, url+"/metrics")
		return strings.Contains(metrics, "foundry_worker_held 0\n")
	})
}

func TestIdleExecutionCostsAtMostFourCommits(t *testing.T) {
	t.Parallel()
	const executions = 100
	b := setup(t)
	w := b.push(sandboxless)
	b.close()
	m := newMeter(t, b.url)
	before := m.read()

	b = open(t, b.url, m)
	begun := time.Now()
	url, stop := b.startWorkerWith(4, nil)
	conn := connect(t, b.url)
	for range executions {
		m.await(conn, "SELECT finished_at IS NOT NULL FROM executions WHERE id = $1", b.enqueue(w, ""))
		b.holdsNone(url) // or the next one would not meet an idle worker
	}
	stop()
	b.close()
	_ = conn.Close(t.Context())
	// enqueue of this test reads the version in a transaction of its own.
	spent := m.read() - before - m.asked - m.notified.Load() - executions - m.timed(begun)
	t.Logf("%d commits for %d executions: %.2f each", spent, executions, float64(spent)/executions)
	if spent > 4*executions {
		t.Fatal("an idle execution cost more than 4 commits")
	}
}

func TestLoadedWorkerCommitsHalfAnExecution(t *testing.T) {
	t.Parallel()
	const executions = 600
	b := setup(t)
	w := b.push(sandboxless)
	for range executions {
		b.enqueue(w, "")
	}
	b.close()
	m := newMeter(t, b.url)
	before := m.read()

	b = open(t, b.url, m)
	// It is under load when a commit takes longer than its engines take to come with the next entry.
	b.hook = func(ctx context.Context, at string) failpoint.Answer {
		if at == "queue.claim.after" || at == "journal.commit.before" {
			lifecycle.Sleep(ctx, 50*time.Millisecond)
		}
		return failpoint.Answer{}
	}
	begun := time.Now()
	stop := b.startWorker(32)
	conn := connect(t, b.url)
	m.await(conn, "SELECT NOT EXISTS (SELECT 1 FROM executions WHERE finished_at IS NULL)")
	stop()
	b.close()
	_ = conn.Close(t.Context())
	spent := m.read() - before - m.asked - m.notified.Load() - m.timed(begun)
	t.Logf("%d commits for %d executions: %.3f each", spent, executions, float64(spent)/executions)
	if 2*spent > executions {
		t.Fatal("the worker committed more than 0.5 times an execution")
	}
}
