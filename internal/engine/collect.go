package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"foundry/internal/artifact"
	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/journal"
	"foundry/internal/lifecycle"
	"foundry/internal/shim"
)

const (
	// latePatience is how long what a command has left is collected once its execution is to end.
	latePatience = 5 * time.Second
	// collectTries is how often files that change, or are refused, are tried.
	collectTries = 3
)

// errLate ends a collection whose execution is to end.
var errLate = errors.New("the execution is to end")

// collector stores what the commands of one execution leave (package artifact). What is in it belongs to the goroutine that says so.
type collector struct {
	r    *run
	runs map[uuid.UUID]*leaving // of the loop's goroutine

	mu     sync.Mutex // never held over a call
	late   bool
	ending map[*time.Timer]struct{} // of collections that go on

	accountMu sync.Mutex
	account   *artifact.Account // nil until something is stored
}

// leaving is what one node run leaves.
type leaving struct {
	id    uuid.UUID
	place artifact.Node

	looking chan struct{} // of the loop: closed when the goroutine has ended that looks for checkpoints; nil: there is none
	again   bool          // it must look once more

	mu     sync.Mutex // held while checkpoints are looked at; it guards what follows
	loaded bool
	mark   artifact.Mark     // of the last checkpoint that was looked at
	older  []artifact.Stored // checkpoints of the node, oldest first
	number int               // of the last one
}

func newCollector(r *run) *collector {
	return &collector{r: r, runs: map[uuid.UUID]*leaving{}, ending: map[*time.Timer]struct{}{}}
}

// of returns what is known of a node run; for the loop.
func (c *collector) of(id uuid.UUID, place artifact.Node) *leaving {
	l := c.runs[id]
	if l == nil {
		l = &leaving{id: id, place: place}
		c.runs[id] = l
	}
	return l
}

// hurry bounds what is being collected and what will be: the execution is to end.
func (c *collector) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.late {
		return
	}
	c.late = true
	for timer := range c.ending {
		timer.Reset(latePatience)
	}
}

// bounded returns a context that ends with ctx, or some time after hurry.
func (c *collector) bounded(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(latePatience, func() { cancel(errLate) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.late {
		timer.Stop()
	}
	c.ending[timer] = struct{}{}
	return ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		timer.Stop()
		delete(c.ending, timer)
		cancel(nil)
	}
}

// accounts returns what the execution has stored, and deletes what earlier claims have left unfinished when it is asked first.
func (c *collector) accounts(ctx context.Context) (*artifact.Account, error) {
	c.accountMu.Lock()
	defer c.accountMu.Unlock()
	if c.account == nil {
		account, err := c.r.e.Uploads.Begin(ctx, c.r.c.ID, c.r.c.Claim)
		if err != nil {
			return nil, err
		}
		c.account = account
	}
	return c.account, nil
}

// sandboxError is an error of a call to the sandbox.
type sandboxError struct{ error }

func (e sandboxError) Unwrap() error { return e.error }

// ofSandbox reports whether an error is the sandbox's, or that of the way to it, and not the database's.
func ofSandbox(err error) bool {
	_, ok := errors.AsType[sandboxError](err)
	return ok || artifact.OfSource(err)
}

// insist repeats a step until it is done. It gives up, and says false, when the step is refused for good, or ctx ends.
func (c *collector) insist(ctx context.Context, id uuid.UUID, step func(ctx context.Context) error) bool {
	refused := 0
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		err := step(ctx)
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			return false
		case ofSandbox(err):
			if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Unavailable) {
				c.r.tell(ctx, func() { c.r.machine.suspect(c.r) })
			}
		case errs.Is(err, errs.StaleClaim):
			c.r.stop(err)
			return false
		}
		c.r.log.Warn().Err(err).Str("node_run_id", id.String()).Msg("storing what a command has left; trying again")
		if artifact.Refused(err) || ofSandbox(err) && errs.Is(err, errs.Invalid) {
			if refused++; refused == collectTries {
				return false
			}
		}
		if !lifecycle.Sleep(ctx, pause) {
			return false
		}
	}
}

// commandEnded collects what a command has left, if it has left something, and ends its node run after that. For the loop.
func (r *run) commandEnded(id uuid.UUID, exit *shim.Exit) {
	place, ok := r.placeOf(id)
	if !ok {
		return
	}
	l, sh := r.files.of(id, place), r.machine.shim
	if sh == nil || !exit.HasArtifacts && !exit.HasCheckpoints && l.looking == nil {
		delete(r.files.runs, id)
		r.exited(id, exit)
		return
	}
	ctx, looking := r.machine.ctx, l.looking
	r.work.Go(func() {
		if looking != nil {
			<-looking // nothing of a node run is submitted after its end
		}
		left := r.files.collect(ctx, sh, l, exit)
		r.tell(ctx, func() {
			delete(r.files.runs, id)
			if _, ok := r.placeOf(id); !ok {
				return // its sandbox was given up meanwhile
			}
			r.entry.Records = append(r.entry.Records, left.records...)
			r.entry.Artifacts = append(r.entry.Artifacts, left.ids...)
			r.exited(id, exit)
		})
	})
}

// commandLost looks for a checkpoint that was not seen yet, and interrupts a node run after that whose command is gone. For the loop.
func (r *run) commandLost(id uuid.UUID, reason string) {
	place, ok := r.placeOf(id)
	sh := r.machine.shim
	if !ok || sh == nil {
		r.interrupt(id, reason)
		return
	}
	l, machine := r.files.of(id, place), r.machine.ctx
	looking := l.looking
	r.work.Go(func() {
		if looking != nil {
			<-looking
		}
		ctx, cancel := context.WithTimeoutCause(machine, latePatience, errLate)
		defer cancel()
		r.files.insist(ctx, id, func(ctx context.Context) error { return r.files.checkpoint(ctx, sh, l, false) })
		r.tell(machine, func() {
			delete(r.files.runs, id)
			r.interrupt(id, reason)
		})
	})
}

// left is what is to be committed with the end of a node run.
type left struct {
	records []journal.Record
	ids     []uuid.UUID
}

// collect stores the checkpoint that a command has left last, and then its artifacts. What cannot be had is told in warnings.
func (c *collector) collect(ctx context.Context, sh machineShim, l *leaving, exit *shim.Exit) left {
	ctx, done := c.bounded(ctx)
	defer done()
	var found left
	whole := true
	if exit.HasCheckpoints {
		whole = c.insist(ctx, l.id, func(ctx context.Context) error { return c.checkpoint(ctx, sh, l, false) })
	}
	if exit.HasArtifacts {
		h := &harvest{c: c, sh: sh, l: l, files: map[string]harvested{}}
		whole = c.insist(ctx, l.id, h.gather) && whole
		found = h.left(whole)
	}
	if !whole {
		c.r.log.Warn().Err(context.Cause(ctx)).Str("node_run_id", l.id.String()).Msg("what a command has left was not collected whole")
		found.records = append(found.records, c.warning(l.id, "artifacts_incomplete", "Not all that the command has left could be collected."))
	}
	return found
}

// warning is an event about files that are not kept.
func (c *collector) warning(id uuid.UUID, code, message string) journal.Record {
	return c.r.made(event.Warning, id, map[string]any{"code": code, "message": message})
}
