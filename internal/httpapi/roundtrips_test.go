package httpapi

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
)

// roundTrips is a tracer of what a pool sends, by round trip: the names of the queries that go out together. What depends on
// the clock is left out: pings, look-ups of tokens, which are remembered for seconds, and notifications, which a transaction carries
// only when none was sent just before.
type roundTrips struct {
	mu    sync.Mutex
	trips []string
}

// trace makes the server use a pool that is traced.
func (r *roundTrips) trace(t *testing.T) func(*Config) {
	return func(c *Config) {
		c.Pool = pgtest.Open(t, c.Pool.Config().ConnString(), postgres.Options{Tracer: r, MaxConns: 4})
		c.Queue = queue.NewStore(c.Pool, postgres.NewNotifier(c.Pool, zerolog.Nop()))
	}
}

func (r *roundTrips) add(sent ...string) {
	var names []string
	for _, sql := range sent {
		name := sql
		if rest, ok := strings.CutPrefix(sql, "-- name: "); ok {
			name, _, _ = strings.Cut(rest, " ")
		}
		if name != "TokenByHash" && !strings.Contains(name, "pg_notify") && !strings.HasPrefix(name, "-- ping") {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.trips = append(r.trips, strings.Join(names, "+"))
	}
}

func (r *roundTrips) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trips = nil
}

func (r *roundTrips) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.trips...)
}

// TraceQueryStart implements pgx.QueryTracer.
func (r *roundTrips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	r.add(d.SQL)
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (*roundTrips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart implements pgx.BatchTracer.
func (r *roundTrips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	var sent []string
	for _, q := range d.Batch.QueuedQueries {
		sent = append(sent, q.SQL)
	}
	r.add(sent...)
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (*roundTrips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (*roundTrips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
