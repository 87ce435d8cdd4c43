package execution_test

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

// BenchmarkList reads pages of 200 out of 1,000,000 executions, by each family of filters. It reports the 50th and the 99th percentile.
// Run it with -benchtime 300x or more.
func BenchmarkList(b *testing.B) {
	pool := pgtest.Open(b, pgtest.Database(b), postgres.Options{MaxConns: 1})
	store := execution.NewStore(pool)
	org, workflow := pgtest.Workflow(b, pool)
	pgtest.Exec(b, pool, "SET statement_timeout = 0")
	pgtest.Exec(b, pool, "SET session_replication_role = replica") // without a look-up per foreign key
	restore := withoutIndexes(b, pool)
	rare := history(b, pool, org, workflow, 1_000_000)
	restore()
	pgtest.Exec(b, pool, "VACUUM (ANALYZE) executions")
	pgtest.Exec(b, pool, "VACUUM (ANALYZE) execution_data")
	for name, c := range listCases(org, workflow, rare) {
		b.Run(name, func(b *testing.B) {
			c.p.OrganizationID, c.p.Limit = org, 201
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				if _, err := store.List(b.Context(), c.p); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
		})
	}
}

// withoutIndexes drops what would slow the loading down; the function that it returns makes it again.
func withoutIndexes(b *testing.B, pool *pgxpool.Pool) (restore func()) {
	b.Helper()
	rows, err := pool.Query(b.Context(), "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'executions' AND indexdef NOT LIKE '%UNIQUE%'")
	if err != nil {
		b.Fatal(err)
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, Definition string }])
	if err != nil {
		b.Fatal(err)
	}
	for _, index := range indexes {
		pgtest.Exec(b, pool, "DROP INDEX "+index.Name)
	}
	return func() {
		for _, index := range indexes {
			pgtest.Exec(b, pool, index.Definition)
		}
	}
}
