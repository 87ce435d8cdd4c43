package worker

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// leaveTimeout bounds leaving, from the moment when it begins, and the release of a single execution. It
// takes milliseconds when the database answers; when it does not, the lease runs out.
const leaveTimeout = 4 * time.Second

// drain is the end of an activation: from the moment its context ends to the record of how it went.
type drain struct {
	a     *activation
	ctx   context.Context // of the activation; it has ended when most of this happens
	stop  func() bool
	begun chan begun    // one slot
	told  chan struct{} // closed when it was said that the worker drains, or that has failed
}

// begun is the start of a drain.
type begun struct {
	at   time.Time
	held int
}

// newDrain waits for the end of ctx, and then first of all says that this worker takes no more work.
func (w *Worker) newDrain(ctx context.Context, a *activation) *drain {
	d := &drain{a: a, ctx: ctx, begun: make(chan begun, 1), told: make(chan struct{})}
	d.stop = context.AfterFunc(ctx, func() { //nolint:contextcheck // ctx has ended when this runs
		defer close(d.told)
		d.begun <- begun{time.Now(), a.count()}
		call, cancel := d.limit(time.Now())
		defer cancel()
		if err := w.leases.Drain(call, a.id); err != nil {
			a.log.Warn().Err(err).Msg("saying that the worker drains failed")
		}
	})
	return d
}

func (d *drain) limit(start time.Time) (context.Context, context.CancelFunc) {
	return context.WithDeadline(context.WithoutCancel(d.ctx), start.Add(leaveTimeout))
}

// finish gives back what is held, leaves, and writes one record. The engines have stopped.
func (d *drain) finish(cause error) {
	detached := time.Now()
	start := begun{at: detached}
	if !d.stop() { // ctx has ended
		start = <-d.begun
		if start.at.After(detached) { // it was told late
			start.at = detached
		}
		defer func() { <-d.told }()
	}
	limited, cancel := d.limit(start.at)
	defer cancel()
	d.step(limited, "writing what is submitted failed", d.a.w.journal.Flush)
	flushed := time.Now()
	var freed []uuid.UUID
	d.step(limited, "giving executions back failed; the lease will run out", func(ctx context.Context) (err error) {
		freed, err = d.a.w.leases.FreeAll(ctx, d.a.id, "The worker that held the execution is leaving.")
		return err
	})
	released := time.Now()
	d.step(limited, "leaving failed; the lease will run out", func(ctx context.Context) error { return d.a.w.leases.Leave(ctx, d.a.id) })
	left := time.Now()
	phases := map[string]time.Duration{
		"detach": detached.Sub(start.at), "flush": flushed.Sub(detached), "release": released.Sub(flushed), "leave": left.Sub(released),
	}
	record := d.a.log.Info().AnErr("cause", cause).Int("held", start.held).Int("released", len(freed))
	for name, took := range phases {
		record.Int64(name+"_ms", took.Milliseconds())
		d.a.w.metrics.drain.WithLabelValues(name).Set(took.Seconds())
	}
	record.Int64("total_ms", left.Sub(start.at).Milliseconds()).Msg("worker has left")
}

// step is one step of leaving. That it fails is no reason to stay.
func (d *drain) step(ctx context.Context, failure string, f func(context.Context) error) {
	if err := f(ctx); err != nil {
		d.a.log.Warn().Err(err).Msg(failure)
	}
}
