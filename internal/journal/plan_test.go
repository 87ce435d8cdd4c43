package journal_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/journal"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
)

// A statement is prepared once, and its plan outlives the day on which the database was empty: until statistics are
// taken nothing makes Postgres think again. What a no-op execution reads must not grow with what there is by then.
func TestPlansOfAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	for name, statistics := range map[string][]string{
		"without statistics":    nil,
		"statistics of nothing": {"VACUUM ANALYZE"},
		"the queue has been empty": {
			"INSERT INTO execution_queue SELECT gen_random_uuid(), now() FROM generate_series(1, 5000)", "DELETE FROM execution_queue", "VACUUM (ANALYZE, TRUNCATE off)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testPlans(t, statistics)
		})
	}
}

// testPlans takes statistics while there is next to nothing.
func testPlans(t *testing.T, statistics []string) {
	b := setup(t)
	// One session each, which can be told to report what it has read: others do so when they find the time.
	fill := pgtest.Open(t, b.url, postgres.Options{MaxConns: 1})
	for _, table := range []string{"executions", "execution_data", "execution_queue", "node_runs"} {
		pgtest.Exec(t, fill, "ALTER TABLE "+table+" DISABLE TRIGGER ALL") // foreign keys, of rows that only statistics are for
		pgtest.Exec(t, fill, "ALTER TABLE "+table+" SET (autovacuum_enabled = off)")
	}
	one := pgtest.Open(t, b.url, postgres.Options{MaxConns: 1})
	b.queue = queue.NewStore(one, postgres.NewNotifier(one, zerolog.Nop()))
	j := b.startOn(one, nil)
	for range 2 {
		b.live(j)
		for _, sql := range statistics {
			pgtest.Exec(t, fill, sql)
		}
		for range 9 { // Postgres settles for a plan at the sixth
			b.live(j)
		}
	}
	pgtest.Ended(t, fill, b.org, b.workflow, 4)
	pgtest.Exec(t, fill, `INSERT INTO node_runs (id, execution_id, node_key, status, finished_at)
		SELECT gen_random_uuid(), id, 'a', 'completed', now() FROM executions WHERE number > 1000`)
	pgtest.Exec(t, fill, `WITH x AS (
		UPDATE executions SET status = 'queued', finished_at = NULL WHERE number BETWEEN 1001 AND 6000 RETURNING id
	) INSERT INTO execution_queue SELECT id, now() - interval '1 hour' FROM x`)
	before := b.rowsRead(fill, one)
	for range 10 {
		b.live(j)
	}
	for table, rows := range b.rowsRead(fill, one) {
		if n := rows - before[table]; n > 5000 {
			t.Errorf("10 executions read %d rows of %s, or of its indexes", n, table)
		}
	}
}

// live takes an execution of one node from the queue to its end.
func (b *testBundle) live(j *running) {
	b.t.Helper()
	id := b.claimed(1)[0]
	if _, err := b.queue.Held(b.t.Context(), b.worker); err != nil {
		b.t.Fatal(err)
	}
	start, run := started(id, "a")
	j.commit(b.t, start)
	end := completed(id)
	run.Status = "completed"
	end.NodeRuns = []journal.NodeRun{run}
	j.commit(b.t, end)
}

// rowsRead counts the rows and entries of indexes that were read of each table so far, by pools with one connection each.
func (b *testBundle) rowsRead(pools ...*pgxpool.Pool) map[string]int64 {
	b.t.Helper()
	for _, pool := range pools {
		pgtest.Exec(b.t, pool, "SELECT pg_stat_force_next_flush()")
	}
	rows, err := b.pool.Query(b.t.Context(), `SELECT t.relname, t.seq_tup_read + COALESCE(sum(i.idx_tup_read), 0)::bigint
FROM pg_stat_user_tables t LEFT JOIN pg_stat_user_indexes i USING (relid)
WHERE t.relname = ANY ('{executions,execution_data,execution_queue,node_runs}') GROUP BY t.relid, t.relname, t.seq_tup_read`)
	if err != nil {
		b.t.Fatal(err)
	}
	read := map[string]int64{}
	var table string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&table, &n}, func() error { read[table] = n; return nil }); err != nil {
		b.t.Fatal(err)
	}
	return read
}
