package stream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// never is a CheckEvery that does not happen within a test.
const never = time.Hour

// testBundle is a database, and a counter of what hubs ask it.
type testBundle struct {
	url    string
	pool   *pgxpool.Pool // of those who write
	tracer *tracer
}

func setup(t testing.TB) *testBundle {
	url := pgtest.Database(t)
	return &testBundle{url: url, pool: pgtest.Open(t, url, postgres.Options{}), tracer: &tracer{}}
}

// hub returns a running hub with a pool of its own, whose queries b.tracer counts.
func (b *testBundle) hub(t testing.TB, checkEvery time.Duration) *Hub {
	t.Helper()
	h, stop := b.stoppableHub(t, checkEvery)
	t.Cleanup(stop)
	return h
}

func (b *testBundle) stoppableHub(t testing.TB, checkEvery time.Duration) (h *Hub, stop func()) {
	t.Helper()
	pool := pgtest.Open(t, b.url, postgres.Options{Tracer: b.tracer})
	h, err := New(Config{
		Events: event.NewStore(pool), Executions: execution.NewStore(pool), Log: zerolog.Nop(), CheckEvery: checkEvery,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h, background(t, h.Run)
}

// background runs f until the function it returns is called.
func background(t testing.TB, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("in the background: %v", err)
		}
	})
}

// listen runs a listener for the hub.
func (b *testBundle) listen(t testing.TB, h *Hub) {
	t.Helper()
	l, err := postgres.Listen(t.Context(), postgres.ListenConfig{
		URL: b.url, Name: "listener", Channels: []string{postgres.ChannelEvents}, OnNotify: h.OnNotify, OnReset: h.OnReset, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(background(t, l.Run))
}

// tracer counts queries by the name that sqlc gave them.
type tracer struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int)
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(data.SQL, "-- name: "), " ")
	c.counts[name]++
	return ctx
}

func (c *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// take returns the counts since the last call.
func (c *tracer) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.counts
	c.counts = nil
	return counts
}

// organization makes one with a workflow, and returns both ids.
func (b *testBundle) organization(t testing.TB) (organizationID, workflowID uuid.UUID) {
	t.Helper()
	organizationID, workflowID = uuid.New(), uuid.New()
	b.exec(t, `INSERT INTO organizations (id, slug, name) VALUES ($1, $2, 'O')`, organizationID, organizationID.String())
	b.exec(t, `INSERT INTO workflows (id, organization_id, slug, name, latest_version) VALUES ($1, $2, 'demo', 'Demo', 1)`, workflowID, organizationID)
	b.exec(t, `INSERT INTO workflow_versions (workflow_id, version, source) VALUES ($1, 1, '')`, workflowID)
	return organizationID, workflowID
}

func (b *testBundle) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := b.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// writer writes events of one execution as the journal does.
type writer struct {
	b  *testBundle
	id uuid.UUID
}

// execution makes a running execution with event 1.
func (b *testBundle) execution(t testing.TB) writer {
	t.Helper()
	_, workflowID := b.organization(t)
	return b.executionOf(t, workflowID)
}

func (b *testBundle) executionOf(t testing.TB, workflowID uuid.UUID) writer {
	t.Helper()
	w := writer{b, execution.NewID()}
	b.exec(t, `INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, queued_at, queue_deadline_at)
		SELECT $1, organization_id, id, 1, (SELECT count(*) + 1 FROM executions e WHERE e.workflow_id = w.id), 'running', 'api', now(), now()
		FROM workflows w WHERE id = $2`, w.id, workflowID)
	b.exec(t, `INSERT INTO execution_data (execution_id, inputs) VALUES ($1, '{}')`, w.id)
	w.add(t, record{kind: event.ExecutionQueued})
	return w
}

// record is an event, or a chunk of output where chunk is set.
type record struct {
	kind    event.Type
	nodeRun uuid.UUID
	chunk   []byte
}

// nodeRun makes a run of a node.
func (w writer) nodeRun(t testing.TB, key string, attempt int) uuid.UUID {
	t.Helper()
	id := uuid.New()
	w.b.exec(t, `INSERT INTO node_runs (id, execution_id, node_key, index, attempt, status) VALUES ($1, $2, $3, 0, $4, 'running')`,
		id, w.id, key, attempt)
	return id
}

// add commits records under the execution's lock and returns the sequence of the last.
func (w writer) add(t testing.TB, records ...record) int64 {
	t.Helper()
	seq, err := w.tryAdd(t.Context(), records...)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func (w writer) tryAdd(ctx context.Context, records ...record) (seq int64, err error) {
	err = pgx.BeginFunc(ctx, w.b.pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT last_seq FROM executions WHERE id = $1 FOR NO KEY UPDATE`, w.id).Scan(&seq); err != nil {
			return err
		}
		var batch pgx.Batch
		day, ended := execution.Day(w.id), false
		for _, r := range records {
			seq++
			if r.chunk != nil {
				batch.Queue(`INSERT INTO execution_logs (day, execution_id, seq, node_run_id, stream, byte_offset, data) VALUES ($1, $2, $3, $4, 'stdout', 0, $5)`,
					day, w.id, seq, r.nodeRun, r.chunk)
				continue
			}
			ended = ended || r.kind.EndsExecution()
			batch.Queue(`INSERT INTO execution_events (day, execution_id, seq, type, node_run_id, data)
				VALUES ($1, $2, $3, $4, NULLIF($5, '00000000-0000-0000-0000-000000000000'::uuid), '{}')`, day, w.id, seq, r.kind, r.nodeRun)
		}
		batch.Queue(`UPDATE executions SET last_seq = $2, status = CASE WHEN $3 THEN 'completed' ELSE status END,
			finished_at = CASE WHEN $3 THEN now() END WHERE id = $1`, w.id, seq, ended)
		return tx.SendBatch(ctx, &batch).Close()
	})
	return seq, err
}

// notify tells every listener, as the journal does after a commit.
func (w writer) notify(t testing.TB) {
	t.Helper()
	w.b.exec(t, "SELECT pg_notify($1, $2)", postgres.ChannelEvents, base64.RawURLEncoding.EncodeToString(w.id[:]))
}

// wait is how long a test waits for what must happen.
const wait = 2 * time.Minute

// next returns the next events that are there or come within the time, or the error that ends the watch.
func next(ctx context.Context, w *Watch) ([]*Entry, error) {
	for {
		batch, changed, err := w.Poll(ctx)
		if err != nil || len(batch) > 0 {
			return batch, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errors.New("nothing came")
		}
	}
}

// collect reads until the watch has passed the sequence, or has ended, and returns the sequences it saw.
func collect(t testing.TB, w *Watch, until int64) []int64 {
	t.Helper()
	seqs, err := collectUntil(t.Context(), w, until)
	if err != nil {
		t.Fatal(err)
	}
	return seqs
}

func collectUntil(ctx context.Context, w *Watch, until int64) (seqs []int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for w.Position() < until {
		batch, err := next(ctx, w)
		if err != nil {
			return seqs, fmt.Errorf("at %d of %d: %w", w.Position(), until, err)
		}
		for _, e := range batch {
			seqs = append(seqs, e.Seq)
		}
	}
	return seqs, nil
}

func (b *testBundle) watch(t testing.TB, h *Hub, id uuid.UUID, after int64, logs Logs) *Watch {
	t.Helper()
	w, err := h.Watch(t.Context(), id, after, logs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// rise returns from+1 … to.
func rise(from, to int64) (seqs []int64) {
	for s := from + 1; s <= to; s++ {
		seqs = append(seqs, s)
	}
	return seqs
}

// repeat returns n events that mean nothing.
func repeat(n int) []record {
	records := make([]record, n)
	for i := range records {
		records[i] = record{kind: event.Warning}
	}
	return records
}
