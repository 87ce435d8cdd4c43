package main

import (
	"context"
	"fmt"
	"time"
)

const noopSource = `name: noop
nodes:
  only:
    set: { done: true }
`

// Figures of the no-op scenario.
const (
	figEnqueue = "enqueue over HTTP, no worker"
	figNoop1   = "no-op executions over HTTP, 1 worker"
	figNoop2   = "no-op executions over HTTP, 2 workers"
	figRatio   = "… as a part of River's jobs inserted and worked"
	figRatio2  = "… as a part of River's jobs worked from a full queue"
	figTables  = "tables, per no-op execution"
	figWAL     = "WAL, per no-op execution"

	clients = 64  // connections that queue
	slots   = 256 // of each worker
)

// noop queues executions of one `set` node over HTTP while workers complete them.
func noop(ctx context.Context, b *bencher) error {
	if err := b.repeat(func(int) error { return b.noopEnqueue(ctx) }); err != nil {
		return err
	}
	for workers := 1; workers <= 2; workers++ {
		if err := b.repeat(func(number int) error { return b.noopMeasure(ctx, workers, number) }); err != nil {
			return err
		}
	}
	return nil
}

// noopEnqueue measures the control plane alone.
func (b *bencher) noopEnqueue(ctx context.Context) error {
	in, err := b.install(ctx, "noop_enqueue")
	if err != nil {
		return err
	}
	defer in.close(ctx)
	if err := in.push(ctx, "noop", noopSource); err != nil {
		return err
	}
	n := b.scale(20_000, 200)
	if _, err := volley(ctx, in.address, in.post("noop"), n/10, clients); err != nil {
		return err
	}
	began := time.Now()
	took, err := volley(ctx, in.address, in.post("noop"), n, clients)
	if err != nil {
		return err
	}
	ms := inMilliseconds(took)
	b.report.add(figEnqueue, "1/s", float64(n)/time.Since(began).Seconds())
	b.report.add("… acknowledged, p50 at 64 connections", "ms", percentile(ms, 50))
	b.report.add("… acknowledged, p99 at 64 connections", "ms", percentile(ms, 99))
	return nil
}

// noopMeasure is one run with some workers. A tenth of the work goes before, uncounted.
func (b *bencher) noopMeasure(ctx context.Context, workers, number int) error {
	in, err := b.install(ctx, fmt.Sprintf("noop_%d_%d", workers, number))
	if err != nil {
		return err
	}
	defer in.close(ctx)
	for range workers {
		if err := in.startWorker(ctx, slots); err != nil {
			return err
		}
	}
	if err := in.push(ctx, "noop", noopSource); err != nil {
		return err
	}
	n := b.scale(30_000, 200)
	run := noopRun{warm: n / 10, n: n}
	if run.before, err = b.costs(ctx, in.pool); err != nil {
		return err
	}
	if _, err := volley(ctx, in.address, in.post("noop"), run.warm, clients); err != nil {
		return err
	}
	if err := in.idle(ctx); err != nil {
		return err
	}
	if err := in.timeNoop(ctx, &run); err != nil {
		return err
	}
	in.stopProcesses()
	if run.after, err = b.costs(ctx, in.pool); err != nil {
		return err
	}
	run.after.commits -= in.asked
	b.reportNoop(workers, &run)
	return nil
}

// noopRun is what one run has measured. Bytes and commits are of the warm-up too.
type noopRun struct {
	warm, n                 int
	before, after           costs
	seconds                 float64
	took                    []time.Duration
	serve, worker, postgres time.Duration // CPU
}

func (in *installation) timeNoop(ctx context.Context, run *noopRun) error {
	server := in.b.postgresCPU()
	serve, worker := in.cpu()
	stop := in.profile(ctx, in.name)
	began := time.Now()
	var err error
	if run.took, err = volley(ctx, in.address, in.post("noop"), run.n, clients); err != nil {
		return err
	}
	if err := in.idle(ctx); err != nil {
		return err
	}
	run.serve, run.worker = in.cpu()
	run.serve, run.worker, run.postgres = run.serve-serve, run.worker-worker, in.b.postgresCPU()-server
	stop()
	// Polling rounds up: when the last one ended is in its row.
	var completed int
	err = in.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE status = 'completed'), extract(epoch FROM max(finished_at) - $1)::float8
FROM executions WHERE queued_at >= $1`, began).Scan(&completed, &run.seconds)
	if err == nil && completed != run.n {
		err = fmt.Errorf("%d of %d executions completed", completed, run.n)
	}
	return err
}

func (b *bencher) reportNoop(workers int, run *noopRun) {
	rate := float64(run.n) / run.seconds
	micros := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(run.n) }
	b.report.add(fmt.Sprintf("CPU of everything but the client, %d workers, per no-op execution", workers), "µs", micros(run.serve+run.worker+run.postgres))
	if workers == 2 {
		b.report.add(figNoop2, "1/s", rate)
		return
	}
	b.report.add(figNoop1, "1/s", rate)
	if b.riverRate > 0 {
		b.report.add(figRatio, "", rate/b.riverRate)
		b.report.add(figRatio2, "", rate/b.riverWorkRate)
	}
	took := inMilliseconds(run.took)
	b.report.add("… acknowledged under load, p50", "ms", percentile(took, 50))
	b.report.add("… acknowledged under load, p99", "ms", percentile(took, 99))
	b.report.add("CPU of serve, per no-op execution", "µs", micros(run.serve))
	b.report.add("CPU of worker, per no-op execution", "µs", micros(run.worker))
	b.report.add("CPU of PostgreSQL, per no-op execution", "µs", micros(run.postgres))
	each := func(total int64) float64 { return float64(total) / float64(run.n+run.warm) }
	b.report.add(figTables, "bytes", each(run.after.tables-run.before.tables))
	b.report.add(figWAL, "bytes", each(run.after.wal-run.before.wal))
	b.report.add("commits, per no-op execution", "", each(run.after.commits-run.before.commits))
}
