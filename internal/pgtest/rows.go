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
