package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

const fanSource = `name: fan
inputs:
  list: { type: string, required: true }
nodes:
  each:
    matrix: { i: "${{ fromJSON(inputs.list) }}" }
    max-parallel: 32
    set: { value: "${{ matrix.i }}" }
  join:
    needs: [each]
    set: { done: true }
`

// Figures of the fan-out scenario.
const (
	figFanout100  = "fan-out of 100 with join, POST to the end, p50"
	figFanout1000 = "fan-out of 1,000 with join, POST to the end, p50"
)

// fanout runs executions one at a time whose first node is run 100 or 1,000 times, and whose second joins.
func fanout(ctx context.Context, b *bencher) error {
	in, err := b.install(ctx, "fanout")
	if err != nil {
		return err
	}
	defer in.close(ctx)
	if err := in.startWorker(ctx, 32); err != nil {
		return err
	}
	if err := in.push(ctx, "fan", fanSource); err != nil {
		if strings.Contains(err.Error(), ": 422 ") {
			b.report.note("fan-out was not measured: %v", err)
			return nil
		}
		return err
	}
	return b.repeat(func(run int) error {
		for _, f := range []struct {
			name        string
			width, runs int
		}{{figFanout100, 100, b.scale(8, 1)}, {figFanout1000, 1000, b.scale(4, 1)}} {
			stop := func() {}
			if run == 0 {
				stop = in.profile(ctx, fmt.Sprintf("fanout-%d", f.width))
			}
			took, err := in.fan(ctx, f.width, f.runs)
			if err != nil {
				return err
			}
			stop()
			b.report.add(f.name, "ms", percentile(took, 50))
		}
		return nil
	})
}

// fan runs n executions of a width, and returns the milliseconds from each request to the end of its execution.
func (in *installation) fan(ctx context.Context, width, n int) ([]float64, error) {
	numbers := make([]int, width)
	for i := range numbers {
		numbers[i] = i
	}
	list, err := json.Marshal(numbers)
	if err != nil {
		return nil, err
	}
	var took []float64
	for range n {
		sent := time.Now()
		id, err := in.enqueue(ctx, "fan", map[string]any{"list": string(list)})
		if err != nil {
			return nil, err
		}
		if err := in.idle(ctx); err != nil {
			return nil, err
		}
		var ended time.Time
		var status string
		var runs int
		err = in.pool.QueryRow(ctx, `SELECT finished_at, status, (SELECT count(*) FROM node_runs WHERE execution_id = $1) FROM executions WHERE id = $1`, id).Scan(&ended, &status, &runs)
		if err != nil {
			return nil, err
		}
		if status != "completed" || runs != width+1 {
			return nil, fmt.Errorf("an execution is %s with %d node runs", status, runs)
		}
		took = append(took, ms(ended.Sub(sent)))
	}
	return took, nil
}
