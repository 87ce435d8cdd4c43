package pgtest

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Workflow makes an organization and a workflow of it with a version 1 that nobody compiles.
func Workflow(t testing.TB, pool *pgxpool.Pool) (organization, workflow uuid.UUID) {
	t.Helper()
	organization, workflow = uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	_, err := pool.Exec(t.Context(), `
WITH organization AS (
    INSERT INTO organizations (id, slug, name) VALUES ($1::uuid, 'o-' || $1::uuid, 'Organization') RETURNING id
), workflow AS (
    INSERT INTO workflows (id, organization_id, slug, name, latest_version) SELECT $2::uuid, id, 'w-' || $2::uuid, 'Workflow', 1 FROM organization RETURNING id
)
INSERT INTO workflow_versions (workflow_id, version, source) SELECT id, 1, 'name: w' FROM workflow`, organization, workflow)
	if err != nil {
		t.Fatalf("making a workflow: %v", err)
	}
	return organization, workflow
}

// Ended makes executions of a workflow that have completed today, 5,000 a batch, with numbers from 1001. The tables check no foreign keys any more,
// which would take most of the time.
func Ended(t testing.TB, pool *pgxpool.Pool, organization, workflow uuid.UUID, batches int) {
	t.Helper()
	Exec(t, pool, "ALTER TABLE executions DISABLE TRIGGER ALL")
	Exec(t, pool, "ALTER TABLE execution_data DISABLE TRIGGER ALL")
	for batch := range batches { // each far below the statement timeout
		Exec(t, pool, `
WITH x AS (
    INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, queued_at, queue_deadline_at, deadline_at, finished_at)
    SELECT (lpad(to_hex((EXTRACT(epoch FROM now()) * 1000)::bigint), 12, '0') || '7' || substr(md5(random()::text), 14))::uuid, $1, $2, 1, 1000 + 5000 * $3 + n, 'completed', 'api', now(), now(), now(), now() FROM generate_series(1, 5000) AS n
    RETURNING id
)
INSERT INTO execution_data (execution_id, inputs) SELECT id, '{}' FROM x`, organization, workflow, batch)
	}
}

// Exec runs a statement that must succeed, and returns how many rows it changed.
func Exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) int64 {
	t.Helper()
	tag, err := pool.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return tag.RowsAffected()
}

// Get returns the one value that a query finds.
func Get[T any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) T {
	t.Helper()
	var value T
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}
