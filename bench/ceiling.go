package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/postgres"
)

// ceilingBatch is how many executions the statements of the ceiling that take many take.
const ceilingBatch = 100

// The ceiling's statements write the rows that Foundry's write for a no-op, without its rules: no number under the workflow's lock, no
// limit, no fence.
const (
	ceilingInsert = `WITH e AS (
    INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, last_seq, queued_at, queue_deadline_at)
    SELECT x.id, $2, $3, 1, $4 + x.n, 'queued', 'api', 1, now(), now() + interval '1 day' FROM unnest($1::uuid[]) WITH ORDINALITY AS x (id, n) RETURNING id
), d AS (
    INSERT INTO execution_data (execution_id, inputs) SELECT id, '{}' FROM e
), q AS (
    INSERT INTO execution_queue (execution_id, run_order) SELECT id, now() FROM e
)
INSERT INTO execution_events (day, execution_id, seq, type, data)
SELECT execution_day(id), id, 1, 'execution.queued', jsonb_build_object('workflow_id', $3::text, 'version', 1, 'source', 'api') FROM e`

	ceilingClaim = `WITH picked AS MATERIALIZED (
    SELECT execution_id FROM execution_queue WHERE NOT paused ORDER BY run_order, execution_id LIMIT $1 FOR UPDATE SKIP LOCKED
), taken AS (
    DELETE FROM execution_queue q USING picked p WHERE q.execution_id = p.execution_id
), claimed AS (
    UPDATE executions e SET status = 'running', worker_id = $2, claim = 1, last_seq = 2, claimed_at = now() FROM picked p WHERE e.id = p.execution_id RETURNING e.id
), event AS (
    INSERT INTO execution_events (day, execution_id, seq, type, data)
    SELECT execution_day(id), id, 2, 'execution.claimed', jsonb_build_object('worker_id', $2::text, 'claim', 1) FROM claimed
)
SELECT COALESCE(array_agg(id), '{}') FROM claimed`

	ceilingEnd = `WITH e AS (
    UPDATE executions SET status = 'completed', worker_id = NULL, claim = 2, last_seq = 6, started_at = now(), finished_at = now() WHERE id = ANY ($1::uuid[]) RETURNING id
), d AS (
    UPDATE execution_data SET outputs = '{}' FROM e WHERE execution_id = id
), n AS (
    INSERT INTO node_runs (id, execution_id, node_key, status, outputs, started_at, finished_at)
    SELECT gen_random_uuid(), id, 'only', 'completed', '{"done": true}', now(), now() FROM e RETURNING id, execution_id
)
INSERT INTO execution_events (day, execution_id, seq, type, node_run_id, data)
SELECT execution_day(n.execution_id), n.execution_id, 2 + v.seq, v.type, CASE WHEN v.node THEN n.id END, v.data
FROM n, (VALUES (1, 'execution.started', false, '{}'::jsonb), (2, 'node.started', true, '{}'), (3, 'node.completed', true, '{"outputs": {"done": true}}'),
    (4, 'execution.completed', false, '{}')) AS v (seq, type, node, data)`
)

// ceiling measures what PostgreSQL does with the rows of no-op executions when nothing else runs.
func ceiling(ctx context.Context, b *bencher) error {
	return b.repeat(func(int) error { return b.ceilingRun(ctx) })
}

func (b *bencher) ceilingRun(ctx context.Context) error {
	const name = "ceiling"
	pool, err := b.database(ctx, name, 64)
	if err != nil {
		return err
	}
	defer b.drop(ctx, name)
	defer pool.Close()
	if err := postgres.Migrate(ctx, b.server.URL(name)); err != nil {
		return err
	}
	c := &ceilingDatabase{pool: pool, organization: uuid.New(), workflow: uuid.New(), worker: uuid.New()}
	if err := c.begin(ctx); err != nil {
		return err
	}
	measure := func(figure string, n, connections, batch int, do func(ctx context.Context, batch int) (int, error)) error {
		began := time.Now()
		done, err := c.spread(ctx, n/batch, connections, func(ctx context.Context) (int, error) { return do(ctx, batch) })
		if err == nil {
			b.report.add(figure, "1/s", float64(done)/time.Since(began).Seconds())
		}
		return err
	}
	n := b.scale(20_000, 400)
	if err := measure("Postgres: an execution's rows inserted, 1 a commit, 64 connections", n, 64, 1, c.insert); err != nil {
		return err
	}
	if err := measure("Postgres: an execution's rows inserted, 100 a commit, 4 connections", n, 4, ceilingBatch, c.insert); err != nil {
		return err
	}
	return measure("Postgres: executions claimed and ended, 100 a commit, 4 connections", 2*n, 4, ceilingBatch, c.claimAndEnd)
}

type ceilingDatabase struct {
	pool                           *pgxpool.Pool
	organization, workflow, worker uuid.UUID
	number                         atomic.Int64
}

func (c *ceilingDatabase) begin(ctx context.Context) error {
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{"INSERT INTO organizations (id, slug, name) VALUES ($1, 'ceiling', 'Ceiling')", []any{c.organization}},
		{"INSERT INTO workflows (id, organization_id, slug, name, latest_version) VALUES ($1, $2, 'noop', 'noop', 1)", []any{c.workflow, c.organization}},
		{"INSERT INTO workflow_versions (workflow_id, version, source) VALUES ($1, 1, $2)", []any{c.workflow, noopSource}},
	} {
		if _, err := c.pool.Exec(ctx, statement.sql, statement.args...); err != nil {
			return err
		}
	}
	return nil
}

func (c *ceilingDatabase) insert(ctx context.Context, batch int) (int, error) {
	ids := make([]uuid.UUID, batch)
	for i := range ids {
		id, err := uuid.NewV7()
		if err != nil {
			return 0, err
		}
		ids[i] = id
	}
	_, err := c.pool.Exec(ctx, ceilingInsert, ids, c.organization, c.workflow, c.number.Add(int64(batch)))
	return batch, err
}

func (c *ceilingDatabase) claimAndEnd(ctx context.Context, batch int) (int, error) {
	var ids []uuid.UUID
	if err := c.pool.QueryRow(ctx, ceilingClaim, batch, c.worker).Scan(&ids); err != nil {
		return 0, err
	}
	_, err := c.pool.Exec(ctx, ceilingEnd, ids)
	return len(ids), err
}

// spread does n things over some connections and adds up what they return.
func (c *ceilingDatabase) spread(ctx context.Context, n, connections int, do func(context.Context) (int, error)) (int, error) {
	var (
		left, done atomic.Int64
		wg         sync.WaitGroup
		once       sync.Once
		first      error
	)
	left.Store(int64(n))
	for range connections {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				m, err := do(ctx)
				done.Add(int64(m))
				if err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		})
	}
	wg.Wait()
	return int(done.Load()), first
}
