package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"time"
)

// Figures of the log scenario.
const (
	figLogs1  = "log ingest, 1 command, 20 secrets"
	figLogs20 = "log ingest, 20 commands at once, 20 secrets"

	secretCount = 20
)

// logIngest runs commands that print as fast as they are read, lines like those of a build, one in 128 of which holds a secret.
func logIngest(ctx context.Context, b *bencher) error {
	in, err := b.install(ctx, "logs")
	if err != nil {
		return err
	}
	defer in.close(ctx)
	if err := in.startWorker(ctx, 32); err != nil {
		return err
	}
	for _, w := range []struct {
		slug  string
		bytes int
	}{{"one", b.scale(48<<20, 1<<20)}, {"many", b.scale(6<<20, 1<<18)}} {
		if err := in.push(ctx, w.slug, printerSource(w.slug, w.bytes)); err != nil {
			return err
		}
		for i := range secretCount {
			path := fmt.Sprintf("/workflows/%s/secrets/SECRET_%d", w.slug, i)
			if err := in.call(ctx, http.MethodPut, path, map[string]any{"value": rand.Text() + rand.Text()}, nil); err != nil {
				return err
			}
		}
	}
	return b.repeat(func(run int) error {
		stop := func() {}
		if run == 0 {
			stop = in.profile(ctx, "logs-1")
		}
		if err := in.ingest(ctx, figLogs1, "one", 1); err != nil {
			return err
		}
		stop()
		return in.ingest(ctx, figLogs20, "many", 20)
	})
}

// printerSource is a command that prints so many bytes: a block of 128 lines again and again.
func printerSource(name string, bytes int) string {
	return fmt.Sprintf(`name: %s
nodes:
  print:
    run: |
      for n in $(seq 127); do
        echo "2026-01-31T09:30:00.000000Z INFO  build[$n] compiled package number $n of many in 12.5 ms, 3 warnings, 0 errors"
      done > block
      echo "the token is $SECRET_7 and ends here, with some more text behind it to make the line as long as others" >> block
      for n in $(seq 64); do cat block; done > blocks
      while cat blocks; do :; done 2>/dev/null | head -c %d
`, name, bytes)
}

// ingest runs n executions at once and adds up what is stored of them.
func (in *installation) ingest(ctx context.Context, figure, slug string, n int) error {
	if _, err := in.pool.Exec(ctx, "DELETE FROM execution_logs"); err != nil {
		return err
	}
	began := time.Now()
	for range n {
		if _, err := in.enqueue(ctx, slug, nil); err != nil {
			return err
		}
	}
	if err := in.idle(ctx); err != nil {
		return err
	}
	var bytes int64
	var seconds float64
	var completed int
	err := in.pool.QueryRow(ctx, `SELECT sum(stdout_bytes)::bigint, extract(epoch FROM max(n.finished_at) - min(n.started_at))::float8, count(*) FILTER (WHERE n.status = 'completed')
FROM node_runs n JOIN executions e ON e.id = n.execution_id WHERE e.queued_at >= $1`, began).Scan(&bytes, &seconds, &completed)
	if err != nil {
		return err
	}
	if completed != n {
		return fmt.Errorf("%d of %d commands completed", completed, n)
	}
	in.b.report.add(figure, "MB/s", float64(bytes)/1e6/seconds)
	return nil
}
