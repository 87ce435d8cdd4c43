package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const stepsSource = `name: steps
nodes:
  first:
    run: ":"
  second:
    needs: [first]
    run: ":"
  third:
    needs: [second]
    run: ":"
  fourth:
    needs: [third]
    run: ":"
`

// Figures of the latency scenario.
const (
	figStart50 = "idle: POST to node.started, p50"
	figStart99 = "idle: POST to node.started, p99"
	figStep50  = "idle: node.completed to the next node.started, p50"
)

// latency queues one execution at a time on an idle installation.
func latency(ctx context.Context, b *bencher) error {
	in, err := b.install(ctx, "latency")
	if err != nil {
		return err
	}
	defer in.close(ctx)
	if err := in.startWorker(ctx, 32); err != nil {
		return err
	}
	if err := in.push(ctx, "noop", noopSource); err != nil {
		return err
	}
	if err := in.push(ctx, "steps", stepsSource); err != nil {
		return err
	}
	if _, err := in.oneByOne(ctx, "noop", b.scale(20, 2)); err != nil {
		return err
	}
	return b.repeat(func(run int) error {
		stop := func() {}
		if run == 0 {
			stop = in.profile(ctx, "latency")
		}
		began, err := in.oneByOne(ctx, "noop", b.scale(200, 5))
		if err != nil {
			return err
		}
		stop()
		if err := in.reportStarts(ctx, began); err != nil {
			return err
		}
		if _, err := in.oneByOne(ctx, "steps", b.scale(12, 1)); err != nil {
			return err
		}
		return in.reportSteps(ctx, began[0].sent)
	})
}

// posted is an execution and when its request was sent and acknowledged.
type posted struct {
	id                 string
	sent, acknowledged time.Time
}

// oneByOne queues n executions, each once the one before has ended and everything is quiet.
func (in *installation) oneByOne(ctx context.Context, slug string, n int) ([]posted, error) {
	c, err := newCaller(ctx, in.address, in.post(slug))
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	all := make([]posted, 0, n)
	for range n {
		p := posted{sent: time.Now()}
		body, err := c.call()
		if err != nil {
			return nil, err
		}
		p.acknowledged = time.Now()
		if p.id, err = idIn(body); err != nil {
			return nil, err
		}
		if err := in.idle(ctx); err != nil {
			return nil, err
		}
		all = append(all, p)
		time.Sleep(20 * time.Millisecond) // quiet: what the end has woken is asleep again
	}
	return all, nil
}

// reportStarts takes the times that the events carry, from the clock that this process has too.
func (in *installation) reportStarts(ctx context.Context, all []posted) error {
	var started, acknowledged []float64
	for _, p := range all {
		var at time.Time
		err := in.pool.QueryRow(ctx, `SELECT time FROM execution_events WHERE day = execution_day($1::uuid) AND execution_id = $1 AND type = 'node.started'`, p.id).Scan(&at)
		if err != nil {
			return fmt.Errorf("the node.started of %s: %w", p.id, err)
		}
		started = append(started, ms(at.Sub(p.sent)))
		acknowledged = append(acknowledged, ms(p.acknowledged.Sub(p.sent)))
	}
	in.b.report.add(figStart50, "ms", percentile(started, 50))
	in.b.report.add(figStart99, "ms", percentile(started, 99))
	in.b.report.add("idle: POST to its answer, p50", "ms", percentile(acknowledged, 50))
	in.b.report.add("idle: POST to its answer, p99", "ms", percentile(acknowledged, 99))
	return nil
}

// reportSteps reads the time from the end of a command to the start of the next, as the history has it.
func (in *installation) reportSteps(ctx context.Context, since time.Time) error {
	rows, err := in.pool.Query(ctx, `SELECT (extract(epoch FROM gap) * 1000)::float8 FROM (
    SELECT v.type, v.time - lag(v.time) OVER (PARTITION BY v.execution_id ORDER BY v.seq) AS gap, lag(v.type) OVER (PARTITION BY v.execution_id ORDER BY v.seq) AS before
    FROM execution_events v JOIN executions e ON e.id = v.execution_id JOIN workflows w ON w.id = e.workflow_id AND w.slug = 'steps'
    WHERE e.queued_at >= $1 AND v.type IN ('node.started', 'node.completed')
) AS steps WHERE type = 'node.started' AND before = 'node.completed'`, since)
	if err != nil {
		return err
	}
	gaps, err := pgx.CollectRows(rows, pgx.RowTo[float64])
	if err != nil {
		return err
	}
	if len(gaps) == 0 {
		return fmt.Errorf("no execution of %q has gone from one step to the next", "steps")
	}
	in.b.report.add(figStep50, "ms", percentile(gaps, 50))
	in.b.report.add("idle: node.completed to the next node.started, p99", "ms", percentile(gaps, 99))
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
