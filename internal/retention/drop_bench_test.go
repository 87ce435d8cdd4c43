package retention_test

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/retention"
)

// BenchmarkDropDay drops the history of a day of 1,000,000 executions, three events each, while others write and read theirs. It reports how
// long the tables took to go and what the slowest write beside it took. Run it with -benchtime 1x.
func BenchmarkDropDay(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := setup(b)
		day := s.ago(40)
		pgtest.Exec(b, s.pool, "SELECT make_partitions($1)", day)
		load(b, s, day)
		stop := write(b, s)
		log := new(dropped)
		s.purger = retention.New(retention.Config{DirectURL: s.url, Log: zerolog.New(log)})
		b.StartTimer()
		r := s.purge(retention.Options{Days: 30})
		b.StopTimer()
		if len(r.Gone) != 1 || r.Gone[0].Executions != 1_000_000 {
			b.Fatalf("gone are %v", dates(r.Gone))
		}
		b.ReportMetric(log.ms(b), "drop-ms")
		b.ReportMetric(float64(stop().Microseconds())/1000, "slowest-write-ms")
		b.ReportMetric(float64(r.Gone[0].Bytes)/(1<<20), "MiB")
		b.StartTimer()
	}
}

// load makes the executions and their events, a slice at a time. The indexes of lists, which nothing here uses, would take minutes.
func load(b *testing.B, s *testBundle, day time.Time) {
	b.Helper()
	pool := pgtest.Open(b, s.url, postgres.Options{MaxConns: 1})
	pgtest.Exec(b, pool, "SET statement_timeout = 0")
	pgtest.Exec(b, pool, "SET session_replication_role = replica") // without a look-up per foreign key
	pgtest.Exec(b, pool, `DROP INDEX executions_organization_set, executions_workflow_set, executions_actor_set,
		executions_workflow_actor_set`)
	const ids = `(substr($1::text, 1, 8) || '-0000-7' || substr(md5(n::text), 1, 3) || '-8' || substr(md5(n::text), 4, 3) || '-' || substr(md5(n::text), 7, 12))::uuid`
	for from := 1; from <= 1_000_000; from += 100_000 {
		pgtest.Exec(b, pool, `INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, queued_at, queue_deadline_at, finished_at)
			SELECT `+ids+`, $2, $3, 1, n, 'completed', 'api', $4, $4, $4 FROM generate_series($5::int, $5 + 99999) AS n`, execution.FirstID(day.Add(time.Hour)), s.org, s.work, day, from)
		pgtest.Exec(b, pool, `INSERT INTO execution_events (day, execution_id, seq, type)
			SELECT $2, `+ids+`, seq, 'warning' FROM generate_series($3::int, $3 + 99999) AS n, generate_series(1, 3) AS seq`, execution.FirstID(day.Add(time.Hour)), day, from)
	}
}

// write records and reads events of today until the function that it returns is called, which says what the slowest took.
func write(b *testing.B, s *testBundle) (stop func() time.Duration) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	id := execution.NewID()
	var slowest time.Duration
	var group sync.WaitGroup
	group.Go(func() {
		for seq := 1; ctx.Err() == nil; seq++ {
			begin := time.Now()
			_, err := s.pool.Exec(ctx, "INSERT INTO execution_events (day, execution_id, seq, type) VALUES (execution_day($1), $1, $2, 'warning')", id, seq)
			if err == nil {
				_, err = s.pool.Exec(ctx, "SELECT FROM execution_events WHERE day = execution_day($1) AND execution_id = $1 AND seq > $2", id, seq-10)
			}
			if ctx.Err() == nil {
				if err != nil {
					b.Error(err)
				}
				slowest = max(slowest, time.Since(begin))
			}
		}
	})
	return func() time.Duration {
		cancel()
		group.Wait()
		return slowest
	}
}

// dropped keeps the log's record of a day.
type dropped struct {
	record []byte
}

func (d *dropped) Write(p []byte) (int, error) {
	d.record = bytes.Clone(p)
	return len(p), nil
}

func (d *dropped) ms(b *testing.B) float64 {
	b.Helper()
	var fields struct {
		Drop float64 `json:"drop_ms"`
	}
	if err := json.Unmarshal(d.record, &fields); err != nil {
		b.Fatal(err)
	}
	return fields.Drop
}
