package control

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// Times of the search for executions that are in no place (protocols.md, 1).
const (
	misplacedEvery = 30 * time.Second
	misplacedFor   = 60 * time.Second
)

type metrics struct {
	gone      prometheus.Counter
	freed     prometheus.Counter
	misplaced prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		gone:  prometheus.NewCounter(prometheus.CounterOpts{Name: "foundry_workers_lost_total", Help: "Workers whose lease ran out."}),
		freed: prometheus.NewCounter(prometheus.CounterOpts{Name: "foundry_executions_taken_over_total", Help: "Executions that were freed because their worker was gone."}),
		misplaced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_executions_misplaced_total", Help: "Executions that were in no place for a minute and were put back into the queue. Zero, unless Foundry is wrong.",
		}),
	}
	if r != nil {
		r.MustRegister(m.gone, m.freed, m.misplaced)
	}
	return m
}

// reaper declares workers gone and frees what they held. Its memory is of one stretch in which this process has led and
// the database has answered.
type reaper struct {
	l         *Loops
	since     time.Time               // of that stretch
	missing   map[uuid.UUID]time.Time // misplaced executions, by when they were first seen
	searchDue time.Time
}

func newReaper(l *Loops, now time.Time) *reaper {
	return &reaper{l: l, since: now, missing: map[uuid.UUID]time.Time{}, searchDue: now.Add(misplacedEvery)}
}

// round reaps, once the database has been known for one lease: until then workers that live may not have been
// able to say so.
func (r *reaper) round(ctx context.Context, now time.Time) error {
	if now.Sub(r.since) < r.l.Lease {
		return nil
	}
	reaped, err := r.l.Queue.Reap(ctx)
	for _, id := range reaped.Gone {
		r.l.Logger.Warn().Str("worker_id", id.String()).Msg("the worker's lease has run out: it is gone")
	}
	if n := len(reaped.Freed); n > 0 {
		r.l.Logger.Info().Int("executions", n).Msg("executions of lost workers are ready again")
	}
	r.l.metrics.gone.Add(float64(len(reaped.Gone)))
	r.l.metrics.freed.Add(float64(len(reaped.Freed)))
	if err != nil || now.Before(r.searchDue) {
		return err
	}
	r.searchDue = now.Add(misplacedEvery)
	return r.search(ctx, now)
}

// search puts back what has been in no place for a minute.
func (r *reaper) search(ctx context.Context, now time.Time) error {
	ids, err := r.l.Queue.Misplaced(ctx)
	if err != nil {
		return err
	}
	seen := make(map[uuid.UUID]time.Time, len(ids))
	for _, id := range ids {
		first, known := r.missing[id]
		if !known {
			first = now
		}
		if now.Sub(first) < misplacedFor {
			seen[id] = first
			continue
		}
		replaced, err := r.l.Queue.Replace(ctx, id)
		if err != nil {
			return err
		}
		if replaced {
			r.l.metrics.misplaced.Inc()
			r.l.Logger.Error().Str("execution_id", id.String()).Msg("an execution was in no place; it is in the queue again")
		}
	}
	r.missing = seen
	return nil
}
