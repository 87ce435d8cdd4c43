package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"foundry/internal/auth"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/stream"
)

// BenchmarkStream commits 100 events a second to one execution that many streams watch over HTTP, and reports the
// time from just before a commit to a reader's having read it. Readers run in the same process.
//
//	go test ./internal/httpapi -run '^$' -bench Stream -benchtime 1000x
func BenchmarkStream(b *testing.B) {
	for _, readers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(readers), func(b *testing.B) { benchmarkStream(b, readers) })
	}
}

func benchmarkStream(b *testing.B, readers int) {
	const perToken, every = 100, 10 * time.Millisecond
	t, id := benchBundle(b)
	sent := make([]time.Time, b.N+2) // by sequence; set before the commit, so before anybody reads it
	took := make([][]time.Duration, readers)
	var reading sync.WaitGroup
	for i := range readers {
		if i%perToken == 0 {
			token, err := auth.NewStore(t.pool).Create(b.Context(), t.orgID, fmt.Sprint(i), 0)
			if err != nil {
				b.Fatal(err)
			}
			t.token = token.Reveal()
		}
		s := t.stream(b, executionPath(id, "/events"))
		if _, err := s.next(); err != nil {
			b.Fatal(err)
		}
		reading.Go(func() {
			for range b.N {
				f, err := s.next()
				if err != nil {
					b.Errorf("reader %d: %v", i, err)
					return
				}
				seq, _ := strconv.Atoi(f.id)
				took[i] = append(took[i], time.Since(sent[seq]))
			}
		})
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	b.ResetTimer()
	for i := range b.N {
		<-tick.C
		sent[i+2] = time.Now()
		t.record(b, t.server.hub, id, fact{kind: event.Warning})
	}
	reading.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	for _, p := range []float64{.5, .99, .999} {
		b.ReportMetric(float64(all[int(p*float64(len(all)-1))].Microseconds())/1000, fmt.Sprintf("p%g-ms", 100*p))
	}
}

// benchBundle is a server with one running execution.
func benchBundle(b *testing.B) (t *testBundle, executionID uuid.UUID) {
	b.Helper()
	pool := pgtest.Pool(b)
	hub, err := stream.New(stream.Config{Events: event.NewStore(pool), Executions: execution.NewStore(pool), Log: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	server, err := New(Config{
		Pool: pool, Queue: queue.NewStore(pool, postgres.NewNotifier(pool, zerolog.Nop())), Hub: hub, Log: zerolog.Nop(),
		Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	listening := httptest.NewServer(server.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	t = &testBundle{pool: pool, server: server, url: listening.URL, client: &http.Client{Transport: &http.Transport{}}}
	b.Cleanup(func() {
		cancel()
		running.Wait()
		t.client.CloseIdleConnections()
		listening.Close()
	})
	if t.orgID, err = server.tokens.EnsureOrganization(b.Context(), "acme", "acme"); err != nil {
		b.Fatal(err)
	}
	executionID, workflowID := execution.NewID(), uuid.New()
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{"INSERT INTO workflows (id, organization_id, slug, name, latest_version) VALUES ($1, $2, 'demo', 'Demo', 1)", []any{workflowID, t.orgID}},
		{"INSERT INTO workflow_versions (workflow_id, version, source) VALUES ($1, 1, '')", []any{workflowID}},
		{`INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, queued_at, queue_deadline_at)
			VALUES ($1, $2, $3, 1, 1, 'running', 'api', now(), now())`, []any{executionID, t.orgID, workflowID}},
		{"INSERT INTO execution_data (execution_id, inputs) VALUES ($1, '{}')", []any{executionID}},
	} {
		if _, err := pool.Exec(b.Context(), q.sql, q.args...); err != nil {
			b.Fatal(err)
		}
	}
	t.record(b, nil, executionID, fact{kind: event.ExecutionQueued})
	return t, executionID
}
