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

	superseded, stuck prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		gone:  prometheus.NewCounter(prometheus.CounterOpts{Name: "foundry_workers_lost_total", Help: "Workers whose lease ran out."}),
		freed: prometheus.NewCounter(prometheus.CounterOpts{Name: "foundry_executions_taken_over_total", Help: "Executions that were freed because their worker was gone."}),
		misplaced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_executions_misplaced_total", Help: "Executions that were in no place for a minute and were put back into the queue. Zero, unless Foundry is wrong.",
		}),
		superseded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_executions_superseded_total", Help: "Executions that the control loops have canceled for a newer one of their concurrency group.",
		}),
		stuck: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_groups_stuck_total",
			Help: "Concurrency groups that had room for a minute, and executions that had ended and were in one; they were put right. Zero, unless Foundry is wrong or an older release runs beside.",
		}),
	}
	if r != nil {
		r.MustRegister(m.gone, m.freed, m.misplaced, m.superseded, m.stuck)
	}
	return m
}

// reaper declares workers gone and frees what they held. Its memory is of one stretch in which this process has led and
// the database has answered.
type reaper struct {
	l         *Loops
	since     time.Time // of that stretch
	missing   sightings // misplaced executions
	stuck     sightings // groups that have room and somebody who waits
	searchDue time.Time
}

func newReaper(l *Loops, now time.Time) *reaper {
	return &reaper{l: l, since: now, searchDue: now.Add(misplacedEvery)}
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
	if err := r.search(ctx, now); err != nil {
		return err
	}
	return r.searchGroups(ctx, now)
}

// sightings are things that are wrong, by when they were first seen. The zero value is ready.
type sightings map[uuid.UUID]time.Time

// lasting returns what has been wrong for a minute, and forgets what is not wrong any more.
func (s *sightings) lasting(now time.Time, wrong []uuid.UUID) (lasting []uuid.UUID) {
	seen := make(sightings, len(wrong))
	for _, id := range wrong {
		first, known := (*s)[id]
		if !known {
			first = now
		}
		if now.Sub(first) < misplacedFor {
			seen[id] = first
			continue
		}
		lasting = append(lasting, id)
	}
	*s = seen
	return lasting
}

// search puts back what has been in no place for a minute.
func (r *reaper) search(ctx context.Context, now time.Time) error {
	ids, err := r.l.Queue.Misplaced(ctx)
	if err != nil {
		return err
	}
	for _, id := range r.missing.lasting(now, ids) {
		replaced, err := r.l.Queue.Replace(ctx, id)
		if err != nil {
			return err
		}
		if replaced {
			r.l.metrics.misplaced.Inc()
			r.l.Logger.Error().Str("execution_id", id.String()).Msg("an execution was in no place; it is in the queue again")
		}
	}
	return nil
}

// searchGroups frees concurrency groups that have been stuck for a minute, and at once those that are held by what has ended, which only
// another release can have left; and takes away those that nobody is in.
func (r *reaper) searchGroups(ctx context.Context, now time.Time) error {
	groups, left, err := r.l.Queue.StuckGroups(ctx)
	if err != nil {
		return err
	}
	groups = r.stuck.lasting(now, groups)
	if n := len(groups) + len(left); n > 0 {
		if err := r.l.Queue.FreeGroups(ctx, groups, left); err != nil {
			return err
		}
		r.l.metrics.stuck.Add(float64(n))
		r.l.Logger.Error().Int("groups", len(groups)).Int("executions", len(left)).Msg("concurrency groups were stuck, or held by what has ended; they are free again")
	}
	_, err = r.l.Queue.SweepGroups(ctx)
	return err
}
