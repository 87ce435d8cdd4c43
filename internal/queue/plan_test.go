package queue_test

import (
	"slices"
	"strings"
	"testing"

	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/queue"
)

// TestPlans holds that the hot queries of the queue cost what is queued, held or due, not what has ever been.
func TestPlans(t *testing.T) {
	t.Parallel()
	b := setup(t)
	worker := b.join()
	pgtest.Ended(t, b.pool, b.org, b.workflow, 20)
	b.enqueueMany(20)
	b.claim(worker, 5)
	pgtest.Exec(t, b.pool, "ANALYZE")

	run := func(f func() error) {
		t.Helper()
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	b.claim(worker, 5)
	run(func() error { _, err := b.queue.PassDeadlines(t.Context()); return err })
	run(func() error { _, err := b.queue.Held(t.Context(), worker); return err })
	run(func() error { return b.queue.SignalSecrets(t.Context(), b.workflow) })
	run(func() error { _, err := dbsqlc.New(b.pool).ExecutionCountByStatus(t.Context()); return err })
	run(func() error { _, _, err := b.executions.QueuePosition(t.Context(), b.enqueue()); return err })
	for _, c := range []struct{ query, want string }{
		{"QueueClaim", "executions executions_pkey"},
		{"QueueClaim", "execution_data execution_data_pkey"},
		{"ExecutionDeadlinesDue", "executions_deadline"},
		{"ExecutionQueueDeadlinesDue", "executions_queue_deadline"},
		{"WorkerHeld", "executions_held"},
		{"QueueSignalSecrets", "executions_held"},
		{"ExecutionQueuePosition", "execution_queue"},
		{"ExecutionCountByStatus", "executions_queue_deadline"},
		{"ExecutionCountByStatus", "executions_held"},
		{"ExecutionCountByStatus", "executions_unheld"},
		{"ExecutionCountByStatus", "executions_parked"},
	} {
		for _, generic := range []bool{false, true} {
			scans := pgtest.Explain(t, b.pool, b.statements.Last(t, c.query), generic).Scans()
			if !slices.ContainsFunc(scans, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("%s (generic: %t) reads %q, want %q", c.query, generic, scans, c.want)
			}
			for _, large := range []string{"executions", "execution_data"} {
				if slices.Contains(scans, large+" Seq Scan") {
					t.Errorf("%s (generic: %t) reads all %s: %q", c.query, generic, large, scans)
				}
			}
		}
	}
	// With many queued the order comes from the index, so that a claim does not sort what it does not take.
	pgtest.Exec(t, b.pool, `WITH x AS (
		UPDATE executions SET status = 'queued', finished_at = NULL WHERE number BETWEEN 1001 AND 11000 RETURNING id
	) INSERT INTO execution_queue SELECT id, now() - random() * interval '1 hour' FROM x`)
	pgtest.Exec(t, b.pool, "ANALYZE execution_queue, executions")
	if scans := pgtest.Explain(t, b.pool, b.statements.Last(t, "QueueClaim"), false).Scans(); !slices.Contains(scans, "execution_queue execution_queue_order") {
		t.Errorf("a claim from a long queue reads %q", scans)
	}
	// A plan that does not know the limit would sort: Postgres must not fall back to it.
	pool := pgtest.Open(t, b.url, postgres.Options{MaxConns: 1})
	for range 8 {
		if claimed, err := queue.NewStore(pool, nil).Claim(t.Context(), worker, 5); err != nil || len(claimed) != 5 {
			t.Fatalf("%d claims, %v", len(claimed), err)
		}
	}
	if n := pgtest.Get[int](t, pool, "SELECT generic_plans FROM pg_prepared_statements WHERE statement LIKE '-- name: QueueClaim %'"); n != 0 {
		t.Errorf("%d claims were made with a plan for any limit", n)
	}
}
