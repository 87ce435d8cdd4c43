package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/retention"
)

// Figures of the history scenario.
const (
	figClaimRatio = "claim of 100 with 1,000,000 finished executions, to that with none"
	figDropDay    = "a day of 1,000,000 executions dropped, while executions run"

	historyDays = 40 // how long ago the day of history is
)

// history fills one day with a million executions that have ended, and measures what must not depend on them.
func history(ctx context.Context, b *bencher) error {
	in, err := b.install(ctx, "history")
	if err != nil {
		return err
	}
	defer in.close(ctx)
	if err := in.push(ctx, "noop", noopSource); err != nil {
		return err
	}
	if _, err := in.enqueue(ctx, "noop", nil); err != nil { // makes what follows realistic: statistics of a table with a row
		return err
	}
	before, err := in.claims(ctx)
	if err != nil {
		return err
	}
	n := b.scale(1_000_000, 5_000)
	b.progress("filling a day with %d executions", n)
	day := time.Now().UTC().AddDate(0, 0, -historyDays).Truncate(24 * time.Hour)
	if err := in.fill(ctx, day, n); err != nil {
		return err
	}
	after, err := in.claims(ctx)
	if err != nil {
		return err
	}
	b.report.add("claim of 100 with no history", "ms", before)
	b.report.add("claim of 100 with 1,000,000 finished executions", "ms", after)
	b.report.add(figClaimRatio, "", after/before)
	if err := in.lists(ctx); err != nil {
		return err
	}
	return in.dropDay(ctx, n)
}

// claims queues executions and claims them a hundred at a time as a worker does. It returns the median in milliseconds.
func (in *installation) claims(ctx context.Context) (float64, error) {
	const batch, batches = 100, 20
	if _, err := volley(ctx, in.address, in.post("noop"), batch*(batches+2), clients); err != nil {
		return 0, err
	}
	notifier := postgres.NewNotifier(in.pool, zerolog.Nop())
	store := queue.NewStore(in.pool, notifier)
	worker := queue.Worker{ID: execution.NewID(), Host: "bench", PID: selfPID(), Version: "bench", Slots: 1000, Lease: time.Hour} // longer than any run
	if err := store.Join(ctx, worker); err != nil {
		return 0, err
	}
	var took []float64
	for i := range batches + 2 {
		began := time.Now()
		claimed, err := store.Claim(ctx, worker.ID, batch)
		if err != nil {
			return 0, err
		}
		if len(claimed) != batch {
			return 0, fmt.Errorf("claimed %d of %d", len(claimed), batch)
		}
		if i >= 2 { // the first make connections and plans
			took = append(took, ms(time.Since(began)))
		}
	}
	// What is held is of no use to anybody: it ends here.
	_, err := in.pool.Exec(ctx, `UPDATE executions SET status = 'completed', worker_id = NULL, claim = claim + 1, finished_at = now() WHERE worker_id = $1`, worker.ID)
	return median(took), err
}

// fill makes executions of a day long ago that have ended, with their events. Indexes are made afterwards, which is much faster.
func (in *installation) fill(ctx context.Context, day time.Time, n int) error {
	conn, err := postgres.Connect(ctx, in.b.server.URL(in.name), "bench fill")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'executions' AND indexname NOT IN (SELECT conname FROM pg_constraint)`)
	if err != nil {
		return err
	}
	indexes := map[string]string{}
	var name, definition string
	if _, err := pgx.ForEachRow(rows, []any{&name, &definition}, func() error { indexes[name] = definition; return nil }); err != nil {
		return err
	}
	statements := []string{"SET session_replication_role = replica"} // no look-up for each foreign key
	for name := range indexes {
		statements = append(statements, "DROP INDEX "+name)
	}
	if err := execute(ctx, conn, statements...); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SELECT make_partitions($1)", day); err != nil {
		return err
	}
	const slice = 50_000
	for from := 1; from <= n; from += slice {
		if err := fillSlice(ctx, conn, day, from, min(from+slice-1, n)); err != nil {
			return err
		}
	}
	var again []string
	for _, definition := range indexes {
		again = append(again, definition)
	}
	return execute(ctx, conn, append(again, "VACUUM ANALYZE executions", "VACUUM ANALYZE execution_data", "CHECKPOINT")...)
}

func execute(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// fillSlice makes one slice. Ids are such as that day's are; one execution in ten has failed.
func fillSlice(ctx context.Context, conn *pgx.Conn, day time.Time, from, to int) error {
	first := execution.FirstID(day.Add(time.Hour))
	const id = `(left($1::uuid::text, 8) || '-' || lpad(to_hex(n >> 12 & 65535), 4, '0') || '-7' || lpad(to_hex(n & 4095), 3, '0') || '-8' || substr(md5(n::text), 4, 3) || '-' || substr(md5(n::text), 7, 12))::uuid`
	for _, statement := range []string{
		`INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, actor, last_seq, claim, queued_at, queue_deadline_at, claimed_at, started_at, finished_at)
SELECT ` + id + `, w.organization_id, w.id, 1, -n, CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'completed' END, 'api', 'cli', 6, 2, $2, $2, $2, $2, $2
FROM generate_series($3::int, $4::int) AS n, workflows w WHERE w.slug = 'noop' ORDER BY n`,
		`INSERT INTO execution_data (execution_id, inputs, outputs) SELECT ` + id + `, '{}', '{}' FROM generate_series($3::int, $4::int) AS n WHERE $2::timestamptz IS NOT NULL`,
		`INSERT INTO execution_events (day, execution_id, seq, type) SELECT $2::timestamptz::date, ` + id + `, seq, 'warning' FROM generate_series($3::int, $4::int) AS n, generate_series(1, 3) AS seq`,
	} {
		if _, err := conn.Exec(ctx, statement, first, day.Add(time.Hour), from, to); err != nil {
			return err
		}
	}
	return nil
}

// lists reads pages of the list over HTTP, filtered in the ways that people filter.
func (in *installation) lists(ctx context.Context) error {
	n := in.b.scale(250, 10)
	return in.b.repeat(func(int) error {
		var all []time.Duration
		for _, path := range []string{"/executions", "/executions?status=failed", "/executions?workflow=noop", "/executions?workflow=noop&status=failed&source=api"} {
			took, err := volley(ctx, in.address, in.get(path), n, 2)
			if err != nil {
				return fmt.Errorf("GET %s: %w", path, err)
			}
			all = append(all, took...)
		}
		in.b.report.add("list page at 1,000,000 executions, p50", "ms", percentile(inMilliseconds(all), 50))
		in.b.report.add("list page at 1,000,000 executions, p99", "ms", percentile(inMilliseconds(all), 99))
		return nil
	})
}

// dropDay drops the day of history while no-op executions are queued and worked.
func (in *installation) dropDay(ctx context.Context, n int) error {
	if err := in.startWorker(ctx, slots); err != nil {
		return err
	}
	load, stop := context.WithCancel(ctx)
	defer stop()
	var acknowledged []time.Duration
	var loadErr error
	began := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() { acknowledged, loadErr = volley(load, in.address, in.post("noop"), 1<<30, 4) })
	err := until(ctx, func(ctx context.Context) (busy bool, err error) {
		err = in.pool.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM executions WHERE queued_at >= $1)", began).Scan(&busy)
		return busy, err
	})
	var log bytes.Buffer
	var report retention.Report
	if err == nil {
		report, err = in.purge(ctx, &log)
	}
	stop()
	wg.Wait()
	if err != nil {
		return errors.Join(err, loadErr)
	}
	if loadErr != nil && !errors.Is(loadErr, context.Canceled) {
		return loadErr
	}
	if len(report.Gone) != 1 || report.Gone[0].Executions != int64(n) {
		return fmt.Errorf("of one day with %d executions the purge has dropped %d days", n, len(report.Gone))
	}
	var line struct {
		Drop float64 `json:"drop_ms"`
	}
	for text := range bytes.Lines(log.Bytes()) {
		if err := json.Unmarshal(text, &line); err != nil {
			return err
		}
		if line.Drop > 0 {
			break
		}
	}
	in.b.report.add(figDropDay, "s", line.Drop/1000)
	in.b.report.add("… slowest acknowledgement meanwhile, the deletion of rows included", "ms", slices.Max(inMilliseconds(acknowledged)))
	return in.idle(ctx)
}

// purge drops what is older than half of the history's age. The control plane may be at that just then, for rows that it sweeps, and one purges at a time.
func (in *installation) purge(ctx context.Context, log io.Writer) (report retention.Report, err error) {
	purger := retention.New(retention.Config{DirectURL: in.b.server.URL(in.name), Log: zerolog.New(log)})
	err = until(ctx, func(context.Context) (bool, error) { // a purge takes as long as it takes
		report, err = purger.Purge(ctx, retention.Options{Days: historyDays / 2})
		if errs.Is(err, retention.Busy) {
			return false, nil
		}
		return true, err
	})
	return report, err
}
