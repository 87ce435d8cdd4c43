package engine

import (
	"context"
	"errors"
	"time"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/graph"
	"foundry/internal/queue"
	"foundry/internal/secret"
)

// forcedPatience is how long a sandbox that does not answer is waited for when what runs in it must end by force.
const forcedPatience = 10 * time.Second

// errUnreached is why a sandbox is given up that does not answer when what runs in it must end by force.
var errUnreached error = &stageError{"run", errs.E(errs.Unavailable, "The sandbox could not be reached when its commands had to end.")}

// urgency says what package graph is to make of the facts.
func urgency(f queue.Facts) graph.Cancel {
	switch {
	case f.DeadlinePassed, f.CancelForced:
		return graph.Forced
	case f.Canceled:
		return graph.Requested
	}
	return graph.NotCanceled
}

// unable says what becomes of an execution that this worker cannot drive because of err. Whoever can may drive it later, but what is to
// end by force needs neither its secrets nor its sandbox for that, and what nobody can open fails.
func (e *Engine) unable(ctx context.Context, c queue.Claimed, f queue.Facts, err error) error {
	switch {
	case errs.Is(err, secret.Altered):
		return e.failUnreadable(ctx, c, err)
	case urgency(f) == graph.Forced && (errs.Is(err, secret.KeyMissing) || errs.Is(err, Elsewhere)):
		return e.endForced(ctx, c, f, err)
	}
	return err
}

// endForced ends an execution whose commands cannot be reached. Its sandboxes are to be destroyed, which the sweep of their host does.
func (e *Engine) endForced(ctx context.Context, c queue.Claimed, f queue.Facts, cause error) error {
	status, failure := execution.Canceled, (*execution.Failure)(nil)
	if f.DeadlinePassed {
		status, failure = execution.TimedOut, &execution.Failure{Code: "timed_out", Message: "The execution did not end within its timeout."}
	}
	lost := execution.Failure{Code: "interrupted", Message: "The execution was ended by force where its command could not be reached."}
	if known, ok := errors.AsType[*errs.Error](cause); ok {
		lost.Message += " " + known.Message
	}
	if err := e.Journal.Force(ctx, c.ID, c.Claim, status, failure, lost); err != nil {
		return err
	}
	e.metrics.ended.WithLabelValues(string(status)).Inc()
	return nil
}

// watchForced gives the sandbox up, and so ends what runs in it, when that is to end by force and the sandbox does not answer for
// about forcedPatience.
func (r *run) watchForced() {
	if r.forcing != nil || r.cancel() != graph.Forced || len(r.active) == 0 {
		return
	}
	ctx := r.ctx
	r.forcing = time.AfterFunc(forcedPatience, func() {
		r.tell(ctx, func() {
			r.forcing = nil // to be asked again while something runs
			switch r.machine.state {
			case machineMaking:
				r.machine.abort() // the answer gives it up
			case machineReady:
				if r.tail.silence() >= forcedPatience/2 {
					r.machine.unreached(r)
				}
			case machineBroken:
				r.machine.unreached(r)
			case machineNone, machineFailed:
			}
		})
	})
}

// unreached gives up a sandbox in which commands may run. It is destroyed, and they end with it.
func (m *machine) unreached(r *run) {
	m.stop(errUnreached)
	r.tail.reset()
	m.failed(r, errUnreached)
}
