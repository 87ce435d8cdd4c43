package main

import (
	"context"
	"fmt"
	"log/slog" //nolint:depguard // River takes one
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// River's tuning (README.md): its defaults fetch at most every 100 ms, which bounds it at 1,000 jobs a second.
const (
	riverCooldown = 2 * time.Millisecond
	riverPoll     = 20 * time.Millisecond
	riverWorkers  = 2000
)

// Figures of River.
const (
	figRiver     = "River: jobs inserted one at a time and worked"
	figRiverWork = "River: jobs worked from a full queue"
)

type noopArgs struct{}

// Kind implements river.JobArgs.
func (noopArgs) Kind() string { return "noop" }

type noopWorker struct {
	river.WorkerDefaults[noopArgs]
	worked *atomic.Int64
}

// Work implements river.Worker.
func (w *noopWorker) Work(context.Context, *river.Job[noopArgs]) error {
	w.worked.Add(1)
	return nil
}

// riverBench is River on a database of its own.
type riverBench struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	worked atomic.Int64
}

// measureRiver measures jobs that do nothing: worked from a full queue, and inserted one at a time while they are worked.
func measureRiver(ctx context.Context, b *bencher) error {
	if err := b.repeat(func(run int) error { return riverRun(ctx, b, run) }); err != nil {
		return err
	}
	b.riverRate, b.riverWorkRate = b.report.median(figRiver), b.report.median(figRiverWork)
	return nil
}

func newRiver(ctx context.Context, b *bencher, name string) (*riverBench, error) {
	r := &riverBench{}
	var err error
	if r.pool, err = b.database(ctx, name, 40); err != nil {
		return nil, err
	}
	driver := riverpgxv5.New(r.pool)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &noopWorker{worked: &r.worked})
	r.client, err = river.NewClient(driver, &river.Config{
		FetchCooldown: riverCooldown, FetchPollInterval: riverPoll, Logger: slog.New(slog.DiscardHandler),
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverWorkers}}, Workers: workers,
	})
	return r, err
}

func riverRun(ctx context.Context, b *bencher, run int) error {
	name := fmt.Sprintf("river_%d", run)
	r, err := newRiver(ctx, b, name)
	if r != nil && r.pool != nil {
		defer b.drop(ctx, name)
		defer r.pool.Close()
	}
	if err != nil {
		return err
	}
	n := b.scale(40_000, 400)
	if err := r.preload(ctx, n); err != nil {
		return err
	}
	if err := r.client.Start(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := r.finished(ctx, n); err != nil {
		return err
	}
	b.report.add(figRiverWork, "1/s", float64(n)/time.Since(began).Seconds())

	before, err := b.costs(ctx, r.pool)
	if err != nil {
		return err
	}
	own, _ := cpuOf(selfPID())
	began = time.Now()
	if err := r.insert(ctx, n); err != nil {
		return err
	}
	b.report.add("River: jobs inserted one at a time, while working", "1/s", float64(n)/time.Since(began).Seconds())
	if err := r.finished(ctx, 2*n); err != nil {
		return err
	}
	b.report.add(figRiver, "1/s", float64(n)/time.Since(began).Seconds())
	ownAfter, _ := cpuOf(selfPID())
	after, err := b.costs(ctx, r.pool)
	if err != nil {
		return err
	}
	b.report.add("River: CPU of client and worker, per job", "µs", float64((ownAfter-own).Microseconds())/float64(n))
	b.report.add("River: CPU of PostgreSQL, per job", "µs", float64((after.server-before.server).Microseconds())/float64(n))
	b.report.add("River: WAL, per job", "bytes", float64(after.wal-before.wal)/float64(n))
	return r.client.Stop(ctx)
}

// preload fills the queue by COPY.
func (r *riverBench) preload(ctx context.Context, n int) error {
	const most = 5000
	for n > 0 {
		batch := make([]river.InsertManyParams, min(n, most))
		for i := range batch {
			batch[i] = river.InsertManyParams{Args: noopArgs{}}
		}
		if _, err := r.client.InsertManyFast(ctx, batch); err != nil {
			return err
		}
		n -= len(batch)
	}
	return nil
}

// insert inserts jobs one at a time from as many callers as Foundry has.
func (r *riverBench) insert(ctx context.Context, n int) error {
	var (
		left  atomic.Int64
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	left.Store(int64(n))
	for range clients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := r.client.Insert(ctx, noopArgs{}, nil); err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// finished waits until n jobs are recorded as completed.
func (r *riverBench) finished(ctx context.Context, n int) error {
	return until(ctx, func(ctx context.Context) (bool, error) {
		if r.worked.Load() < int64(n) {
			return false, nil
		}
		var open bool
		err := r.pool.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM river_job WHERE state IN ('available', 'running'))").Scan(&open)
		return !open, err
	})
}
