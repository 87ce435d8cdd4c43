package main

import (
	"context"
	"time"
)

const sleepSource = `name: sleep
nodes:
  sleep:
    run: exec sleep 600
`

// Figures of the memory scenario.
const figWorkerMemory = "resident memory of worker, 100 executions held"

// memory has a worker hold executions whose commands run, and does nothing else meanwhile.
func memory(ctx context.Context, b *bencher) error {
	n := b.scale(100, 5)
	return b.repeat(func(int) error {
		in, err := b.install(ctx, "memory")
		if err != nil {
			return err
		}
		defer in.close(ctx)
		if err := in.startWorker(ctx, n); err != nil {
			return err
		}
		b.report.add("resident memory of worker, idle", "MB", float64(residentOf(in.workers[0].pid()))/1e6)
		if err := in.push(ctx, "sleep", sleepSource); err != nil {
			return err
		}
		var ids []string
		for range n {
			id, err := in.enqueue(ctx, "sleep", nil)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		err = until(ctx, func(ctx context.Context) (bool, error) {
			var running int
			err := in.pool.QueryRow(ctx, "SELECT count(*) FROM node_runs WHERE status = 'running'").Scan(&running)
			return running == n, err
		})
		if err != nil {
			return err
		}
		select { // what starting them has taken is what a worker has then; a little later it is at rest
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(3 * time.Second):
		}
		b.report.add(figWorkerMemory, "MB", float64(residentOf(in.workers[0].pid()))/1e6)
		for _, id := range ids {
			if err := in.call(ctx, "POST", "/executions/"+id+"/cancel", nil, nil); err != nil {
				return err
			}
		}
		return in.idle(ctx)
	})
}
