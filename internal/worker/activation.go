package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"foundry/internal/engine"
	"foundry/internal/errs"
	"foundry/internal/lifecycle"
	"foundry/internal/queue"
	"foundry/internal/secret"
)

// lookEvery is the time between two looks that nobody asked for (protocols.md, 9).
const lookEvery = time.Second

// activation is one life of a worker row, with the executions that it holds.
type activation struct {
	w   *Worker
	e   *engine.Engine
	id  uuid.UUID
	log zerolog.Logger

	mu        sync.Mutex
	held      map[uuid.UUID]*held
	suspended bool // the lease is in doubt: no engine runs, and nothing is claimed
	engines   sync.WaitGroup
	unsure    atomic.Bool   // there may be executions of ours that no engine drives
	more      bool          // the last claim took all that it could: there may be more
	free      chan struct{} // one slot: a slot became free while there was more
}

// held is one execution that an engine drives.
type held struct {
	claim int64
	facts chan queue.Facts // one slot, the newest
	stop  context.CancelCauseFunc
	done  chan struct{} // closed when the engine has ended
}

// tell hands the newest facts to the engine.
func (h *held) tell(f queue.Facts) {
	select {
	case <-h.facts:
	default:
	}
	h.facts <- f
}

func newActivation(w *Worker, e *engine.Engine, id uuid.UUID, log zerolog.Logger) *activation {
	return &activation{w: w, e: e, id: id, log: log, held: map[uuid.UUID]*held{}, free: make(chan struct{}, 1)}
}

// run ends with its engines, when ctx ends or the worker was declared gone.
func (a *activation) run(ctx context.Context) error {
	group := lifecycle.NewGroup(ctx)
	defer a.engines.Wait()
	group.Go("look", a.look)
	group.Go("renew", a.renew)
	group.Go("sweep", a.sweep)
	return group.Wait()
}

// look claims and reads signals, again and again.
func (a *activation) look(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	look := a.lookOnce
	for {
		if err := look(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn().Err(err).Msg("looking for work failed")
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.w.wake:
			look = a.lookOnce
		case <-ticker.C:
			look = a.lookOnce
		case <-a.free:
			look = a.claim
		}
	}
}

// lookOnce tells engines what was decided about their executions, and claims.
func (a *activation) lookOnce(ctx context.Context) error {
	if a.isSuspended() {
		return nil
	}
	if unsure := a.unsure.Swap(false); a.count() > 0 || unsure {
		if err := a.readHeld(ctx); err != nil {
			a.unsure.Store(unsure)
			return err
		}
	}
	return a.claim(ctx)
}

// readHeld tells engines what was decided about their executions, and takes up those that no engine drives.
func (a *activation) readHeld(ctx context.Context) error {
	held, err := a.w.queue.Held(ctx, a.id)
	if err != nil {
		return err
	}
	a.tellAll(held)
	return a.recover(ctx, held)
}

// recover takes up what the database says is ours and no engine drives. No claim is under way meanwhile.
func (a *activation) recover(ctx context.Context, seen []queue.Held) error {
	var missing []uuid.UUID
	a.mu.Lock()
	for _, s := range seen {
		if a.held[s.ID] == nil {
			missing = append(missing, s.ID)
		}
	}
	a.mu.Unlock()
	if len(missing) == 0 {
		return nil
	}
	claimed, err := a.w.queue.Recover(ctx, a.id, missing)
	if err != nil {
		return err
	}
	for _, c := range claimed {
		a.log.Info().Str("execution_id", c.ID.String()).Msg("taking up an execution that no engine drove")
		a.start(ctx, c)
	}
	return nil
}

// claim takes what the free slots allow.
func (a *activation) claim(ctx context.Context) error {
	free := a.w.Slots - a.count()
	if free <= 0 || a.isSuspended() {
		a.setMore(true)
		return nil
	}
	claimed, err := a.w.queue.Claim(ctx, a.id, free, a.w.locked.avoid(time.Now())...)
	if err != nil {
		a.unsure.Store(true) // it may have committed all the same
		return err
	}
	a.setMore(len(claimed) == free)
	for _, c := range claimed {
		a.w.metrics.claimWait.Observe(c.ClaimedAt.Sub(c.QueuedAt).Seconds())
		a.start(ctx, c)
	}
	return nil
}

// errSuperseded is why an engine stops whose execution this worker has claimed anew: it was parked, or given back, and
// was ready again before the engine had ended.
var errSuperseded error = errs.E(errs.StaleClaim, "The execution was claimed again.")

// start has an engine drive an execution until it ends, or the activation does. An engine that drove it under an earlier
// claim ends first: there is never more than one.
func (a *activation) start(ctx context.Context, c queue.Claimed) {
	ctx, stop := context.WithCancelCause(ctx)
	h := &held{claim: c.Claim, facts: make(chan queue.Facts, 1), stop: stop, done: make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.suspended { // it is taken up when that is over
		stop(nil)
		return
	}
	before := a.held[c.ID]
	if before != nil {
		before.stop(errSuperseded)
	}
	a.held[c.ID] = h
	a.w.metrics.held.Inc()
	a.engines.Go(func() {
		defer close(h.done)
		defer stop(nil)
		if before != nil {
			<-before.done
		}
		released := a.drive(ctx, c, h)
		a.end(c.ID, h)
		if !released {
			a.unsure.Store(true) // it is ours, and nobody drives it
		}
	})
}

// drive runs the engine. It reports false when the execution should have been given back and was not.
func (a *activation) drive(ctx context.Context, c queue.Claimed, h *held) (released bool) {
	err := a.e.Run(ctx, c, h.facts)
	switch {
	case errs.Is(err, secret.KeyMissing):
		a.w.locked.add(c.WorkflowID, sentence(err), time.Now())
		return a.giveBack(ctx, c, err)
	case errs.Is(err, engine.Elsewhere):
		a.w.locked.pass(c.ID, time.Now())
		return a.giveBack(ctx, c, err)
	case err != nil && ctx.Err() == nil:
		a.log.Warn().Err(err).Str("execution_id", c.ID.String()).Msg("the engine gave an execution up")
	case c.HasSecrets && err == nil:
		a.w.locked.opened(c.WorkflowID)
	}
	return true
}

// sentence is what an error says to people.
func sentence(err error) string {
	return errs.MessageOf(err, "The worker cannot drive this execution.")
}

// giveBack releases an execution that this worker cannot drive. It reports false when that failed.
func (a *activation) giveBack(ctx context.Context, c queue.Claimed, cause error) bool {
	reason := sentence(cause)
	a.log.Warn().Err(cause).Str("execution_id", c.ID.String()).Msg("giving an execution back")
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := a.w.queue.Release(release, c.ID, c.Claim, reason); err != nil && !errs.Is(err, errs.StaleClaim) {
		a.log.Warn().Err(err).Str("execution_id", c.ID.String()).Msg("releasing an execution failed; trying again")
		return false
	}
	return true
}

// end frees the slot of an engine, unless another one has it by now, and has it filled at once if there may be more to claim.
func (a *activation) end(id uuid.UUID, h *held) {
	a.mu.Lock()
	if a.held[id] == h {
		delete(a.held, id)
	}
	more := a.more
	a.mu.Unlock()
	a.w.metrics.held.Dec()
	if !more {
		return
	}
	select {
	case a.free <- struct{}{}:
	default:
	}
}

func (a *activation) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.held)
}

func (a *activation) isSuspended() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.suspended
}

func (a *activation) setMore(more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.more = more
}

// tellAll passes facts on to the engines that they concern.
func (a *activation) tellAll(seen []queue.Held) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range seen {
		if h := a.held[s.ID]; h != nil && h.claim == s.Claim && s.Facts.Signal > 0 {
			h.tell(s.Facts)
		}
	}
}

// sweep destroys what is to be destroyed, at the start and then at every engine.SweepEvery.
func (a *activation) sweep(ctx context.Context) error {
	ticker := time.NewTicker(engine.SweepEvery)
	defer ticker.Stop()
	for {
		if err := a.e.Sweep(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn().Err(err).Msg("sweeping sandboxes failed")
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
