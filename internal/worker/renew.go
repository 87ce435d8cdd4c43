package worker

import (
	"context"
	"maps"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
)

// renew keeps the lease, at every third of it. It returns, and so ends the activation, when the worker has been declared
// gone. While the lease is in doubt no engine runs; what they drove goes on when a renewal is acknowledged again,
// since nobody else may have been given it meanwhile.
func (a *activation) renew(ctx context.Context) error {
	every, retry := a.w.Lease/3, a.w.Lease/30
	pause := every
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(pause, max(a.w.lease.left(), retry))):
		}
		sent := time.Now()
		err := a.renewOnce(ctx)
		switch {
		case err == nil:
			a.w.lease.renewed(sent)
			a.resume()
			pause = every
			continue
		case errs.Is(err, errs.StaleClaim), ctx.Err() != nil:
			return err
		}
		pause = retry
		if a.w.lease.left() <= 0 && a.suspend() {
			a.log.Warn().Err(err).Msg("the lease is in doubt: engines are stopped until it is renewed")
		}
	}
}

// suspend stops every engine, without a signal to any command, and waits for them. It reports false when that was done before.
func (a *activation) suspend() bool {
	a.mu.Lock()
	was := a.suspended
	a.suspended = true
	for _, h := range a.held {
		h.stop(errLeaseDoubt)
	}
	a.mu.Unlock()
	a.engines.Wait()
	return !was
}

// resume lets the activation work again, and first take up what it holds.
func (a *activation) resume() {
	a.mu.Lock()
	was := a.suspended
	a.suspended = false
	a.mu.Unlock()
	if was {
		a.unsure.Store(true)
		a.log.Info().Msg("the lease is renewed: going on")
		a.w.nudge()
	}
}

// renewOnce renews and stops the engines whose right is gone.
func (a *activation) renewOnce(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, a.w.Lease/6)
	defer cancel()
	a.mu.Lock()
	mine := maps.Clone(a.held)
	a.mu.Unlock()
	seen, err := a.w.leases.Renew(call, a.id, a.w.Lease)
	if err != nil {
		return err
	}
	rights := make(map[uuid.UUID]int64, len(seen))
	for _, s := range seen {
		rights[s.ID] = s.Claim
		if mine[s.ID] == nil {
			a.unsure.Store(true) // claimed this moment, or driven by nobody: the next look tells
		}
	}
	for id, h := range mine { // those that were held before the question was asked
		if claim, ok := rights[id]; !ok || claim != h.claim {
			h.stop(errs.E(errs.StaleClaim, "The right to this execution is gone."))
		}
	}
	a.tellAll(seen)
	return nil
}
