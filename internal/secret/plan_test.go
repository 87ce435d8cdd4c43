package secret

import (
	"slices"
	"testing"

	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

// TestErasingCostsWhatLives holds that erasing looks at the executions that are alive, not at all that ever read a secret.
func TestErasingCostsWhatLives(t *testing.T) {
	t.Parallel()
	b := setup(t)
	statements := new(pgtest.Statements)
	pool := pgtest.Open(t, b.pool.Config().ConnString(), postgres.Options{Tracer: statements, MaxConns: 2})
	b.set("KEY", "value-one")
	b.read(b.held())
	for from := 0; from < 20000; from += 2000 { // each well within the time that a statement has
		pgtest.Exec(t, pool, `WITH x AS (
				INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, queued_at, queue_deadline_at, finished_at)
				SELECT gen_random_uuid(), $1, $2, 1, 1000 + n, 'completed', 'api', now(), now(), now() FROM generate_series($3::int + 1, $3::int + 2000) AS n RETURNING id)
			INSERT INTO execution_secrets SELECT x.id, s.id, 1 FROM x, secrets s`, b.org, b.workflow, from)
	}
	pgtest.Exec(t, pool, "ANALYZE")
	b.store = NewStore(pool, ring(t, b.a))
	b.set("KEY", "value-two")
	b.sweep()
	want(t, b.kept(), []string{"KEY@1", "KEY@2"})
	for _, query := range []string{"SecretErase", "SecretEraseAll", "MaskDeleteEnded"} {
		for _, generic := range []bool{false, true} {
			scans := pgtest.Explain(t, pool, statements.Last(t, query), generic).Scans()
			if query != "MaskDeleteEnded" && !slices.Contains(scans, "execution_secrets execution_secrets_pkey") {
				t.Errorf("%s (generic: %t) reads %q", query, generic, scans)
			}
			if slices.Contains(scans, "execution_secrets Seq Scan") || slices.Contains(scans, "executions Seq Scan") {
				t.Errorf("%s (generic: %t) reads all executions: %q", query, generic, scans)
			}
		}
	}
}
