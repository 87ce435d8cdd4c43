package worker_test

import (
	"context"
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/queue"
	"foundry/internal/sandbox/sandboxtest"
	"foundry/internal/secret"
	"foundry/internal/worker"
	"foundry/internal/workflow"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// testBundle is a database with an organization, and what tests do with it.
type testBundle struct {
	t          *testing.T
	url        string
	tracer     pgx.QueryTracer
	pool       *pgxpool.Pool
	org        uuid.UUID
	queue      *queue.Store
	workflows  *workflow.Store
	executions *execution.Store
	events     *event.Store
	fake       *sandboxtest.Fake
	close      func()         // ends its connections
	hook       failpoint.Hook // of workers that start from now on
	lease      time.Duration  // of workers that start from now on; 0 is the default
	queuedMax  int            // the same
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	return open(t, pgtest.Database(t), nil)
}

// open is setup on a database that exists. tracer sees all queries of the bundle and its workers.
func open(t *testing.T, url string, tracer pgx.QueryTracer) *testBundle {
	t.Helper()
	pool := pgtest.Open(t, url, postgres.Options{Tracer: tracer})
	org, err := dbsqlc.New(pool).OrganizationEnsure(t.Context(), uuid.Must(uuid.NewV7()), "acme", "Acme")
	if err != nil {
		t.Fatal(err)
	}
	notifier := postgres.NewNotifier(pool, zerolog.Nop())
	b := &testBundle{
		t: t, url: url, tracer: tracer, pool: pool, org: org, queue: queue.NewStore(pool, notifier),
		workflows: workflow.NewStore(pool), executions: execution.NewStore(pool), events: event.NewStore(pool),
		fake: sandboxtest.NewFake(t),
	}
	stop := b.background("notifier", notifier.Run)
	b.close = func() {
		stop()
		pool.Close()
	}
	return b
}

// background runs f until the test ends.
func (b *testBundle) background(name string, f func(ctx context.Context) error) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(failpoint.With(context.Background(), b.hook))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			b.t.Errorf("%s: %v", name, err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	b.t.Cleanup(stop)
	return stop
}

// startWorker runs a worker until the test ends or stop is called.
func (b *testBundle) startWorker(slots int) (stop func()) {
	b.t.Helper()
	_, stop = b.startWorkerWith(slots, nil)
	return stop
}

// startWorkerWith is startWorker for one that has encryption keys; it returns where its HTTP server is too.
func (b *testBundle) startWorkerWith(slots int, keys *secret.Keyring) (url string, stop func()) {
	b.t.Helper()
	listener, err := new(net.ListenConfig).Listen(b.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	pool := pgtest.Open(b.t, b.url, postgres.Options{MaxConns: 4, Tracer: b.tracer})
	lease := pgtest.Open(b.t, b.url, postgres.Options{MaxConns: 1, Tracer: b.tracer})
	name := uuid.NewString()
	w, err := worker.New(worker.Config{
		Pool: pool, LeasePool: lease,
		DirectURL: b.url, Listener: listener, Provider: b.fake, Host: "test", Version: name, Slots: slots,
		Lease: b.lease, QueuedMax: b.queuedMax, Keys: keys, Logger: zerolog.New(zerolog.NewTestWriter(b.t)), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	end := b.background("worker", w.Run)
	return "http://" + listener.Addr().String(), func() {
		end()
		pool.Close()
		lease.Close()
		b.reap(name)
	}
}

// reap does at once what the control plane does 30 s later, if a worker that has stopped could not give all back in the time that it takes for it.
func (b *testBundle) reap(version string) {
	b.t.Helper()
	if pgtest.Exec(b.t, b.pool, "UPDATE workers SET lease_until = now() - interval '1 second' WHERE version = $1 AND state <> 'gone'", version) == 0 {
		return
	}
	if _, err := b.queue.Reap(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// push stores a text as a new workflow.
func (b *testBundle) push(text string) *workflow.Workflow {
	b.t.Helper()
	def, diagnostics := workflow.Compile([]byte(text))
	if diagnostics.Failed() {
		b.t.Fatal(diagnostics)
	}
	w, err := b.workflows.Create(b.t.Context(), workflow.CreateParams{
		OrganizationID: b.org, Slug: workflow.SlugFromName(def.Name), Name: def.Name, Source: text,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return w
}

func (b *testBundle) enqueue(w *workflow.Workflow, inputs string) uuid.UUID {
	b.t.Helper()
	v, err := b.workflows.Version(b.t.Context(), w.ID, w.LatestVersion)
	if err != nil {
		b.t.Fatal(err)
	}
	def, err := workflow.Load([]byte(v.Source), v.Grammar)
	if err != nil {
		b.t.Fatal(err)
	}
	if inputs == "" {
		inputs = "{}"
	}
	group, err := def.EnterGroup(nil, workflow.GroupFacts{})
	if err != nil {
		b.t.Fatal(err)
	}
	q, err := b.queue.Enqueue(b.t.Context(), queue.Request{
		Group: group, OrganizationID: b.org, WorkflowID: w.ID, Version: w.LatestVersion, Source: execution.FromAPI,
		Inputs: json.RawMessage(inputs), Timeout: def.Timeout, QueueTimeout: def.QueueTimeout,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return q.ID
}

// await polls until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(5 * time.Minute)
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

// end waits for an execution's end.
func (b *testBundle) end(id uuid.UUID) *execution.Execution {
	b.t.Helper()
	var x *execution.Execution
	await(b.t, "the end of "+id.String(), func() bool {
		var err error
		if x, err = b.executions.Get(b.t.Context(), b.org, id); err != nil {
			b.t.Fatal(err)
		}
		return x.Status.Terminal()
	})
	b.checkHistory(id)
	return x
}

// history returns all events of an execution.
func (b *testBundle) history(id uuid.UUID) []event.Event {
	b.t.Helper()
	var all []event.Event
	for {
		page, err := b.events.Page(b.t.Context(), id, int64(len(all)), event.PageMax, event.LogFilter{})
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, page...)
		if len(page) < event.PageMax {
			return all
		}
	}
}

// checkHistory asserts what holds for every execution that has ended.
func (b *testBundle) checkHistory(id uuid.UUID) {
	b.t.Helper()
	all := b.history(id)
	for i, e := range all {
		if e.Seq != int64(i+1) {
			b.t.Fatalf("event %d has the number %d: a gap", i+1, e.Seq)
		}
		if e.Type.EndsExecution() != (i == len(all)-1) {
			b.t.Fatalf("event %d of %d is %s", i+1, len(all), e.Type)
		}
	}
}

// types lists the types of an execution's events, without logs.
func (b *testBundle) types(id uuid.UUID) []event.Type {
	var types []event.Type
	for _, e := range b.history(id) {
		if e.Type != event.Log {
			types = append(types, e.Type)
		}
	}
	return types
}

// log returns the stored bytes of one stream of a node's newest attempt.
func (b *testBundle) log(id uuid.UUID, node string, stream event.Stream) string {
	b.t.Helper()
	var nodeRun uuid.UUID
	runs, err := b.executions.NodeRuns(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, r := range runs {
		if r.Key == node {
			nodeRun = r.ID
		}
	}
	var text []byte
	for after := int64(0); ; {
		page, err := b.events.Logs(b.t.Context(), event.LogParams{ExecutionID: id, NodeRunID: &nodeRun, Stream: &stream, After: after, Limit: event.PageMax})
		if err != nil {
			b.t.Fatal(err)
		}
		for _, e := range page {
			if e.Offset != int64(len(text)) {
				b.t.Fatalf("a chunk at byte %d follows %d bytes", e.Offset, len(text))
			}
			text = append(text, e.Chunk...)
			after = e.Seq
		}
		if len(page) < event.PageMax {
			return string(text)
		}
	}
}

// nodes returns the newest attempt of each node.
func (b *testBundle) nodes(id uuid.UUID) map[string]execution.NodeRun {
	b.t.Helper()
	runs, err := b.executions.NodeRuns(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	newest := map[string]execution.NodeRun{}
	for _, r := range runs {
		newest[r.Key] = r
	}
	return newest
}
