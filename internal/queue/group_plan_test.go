package queue_test

import (
	"slices"
	"strings"
	"testing"

	"foundry/internal/pgtest"
	"foundry/internal/queue"
)

// TestGroupPlans holds that moving a group costs what moves, not what waits, and that a claim knows nothing of groups.
func TestGroupPlans(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.limited(100_000)
	b.crowd(5_000, 0)
	for _, table := range []string{"concurrency_waiters", "concurrency_slots"} {
		pgtest.Exec(t, b.pool, "ALTER TABLE "+table+" DISABLE TRIGGER ALL")
	}
	first := b.enqueue(grouped("a", 1))
	pgtest.Exec(t, b.pool, `WITH moved AS (DELETE FROM execution_queue WHERE execution_id <> $1 RETURNING execution_id, run_order)
		INSERT INTO concurrency_waiters SELECT execution_id, $2, run_order, false, false FROM moved`, first, queue.GroupID(b.org, "a"))
	pgtest.Exec(t, b.pool, "UPDATE executions SET concurrency_group = 'a'")
	for n := range 300 {
		b.enqueue(grouped(string(rune('b'+n)), 1))
	}
	if scans := strings.Join(pgtest.Explain(t, b.pool, b.claimStatement(), false).Scans(), " "); strings.Contains(scans, "concurrency") {
		t.Errorf("a claim reads %s", scans)
	}
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			pgtest.Exec(t, b.pool, "ANALYZE")
		}
		holders, _ := b.group("a")
		b.cancel(holders[0])
		if _, ok, err := b.executions.Blocked(t.Context(), b.enqueue(grouped("a", 1))); !ok || err != nil {
			t.Fatal(ok, err)
		}
		for _, query := range []string{"GroupLock", "GroupAdmit", "GroupEnter", "GroupOfWaiter"} {
			for _, generic := range []bool{false, true} {
				scans := pgtest.Explain(t, b.pool, b.statements.Last(t, query), generic).Scans()
				for _, large := range []string{"executions", "concurrency_waiters"} {
					if slices.Contains(scans, large+" Seq Scan") {
						t.Errorf("%s (analyzed: %t, generic: %t) reads all %s: %q", query, analyzed, generic, large, scans)
					}
				}
			}
		}
	}
}

// claimStatement is what a claim sends.
func (b *testBundle) claimStatement() pgtest.Statement {
	b.t.Helper()
	b.claim(b.join(), 0)
	return b.statements.Last(b.t, "QueueClaim")
}
