package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
)

const (
	// Every is the time from the end of a round to the next.
	Every = 15 * time.Second
	// goneGap is the least time between the two answers after which a sandbox counts as gone.
	goneGap = 15 * time.Second
	// callTimeout bounds each call to the provider.
	callTimeout = 30 * time.Second
	// parallel is how many calls to the provider a round has under way.
	parallel = 4
)

// Config is what a reconciler needs; every field but Observe is required.
type Config struct {
	Store    *Store
	Provider sandbox.Provider
	// Host is where the provider's sandboxes can be reached from, as their rows have it. Others' rows are left alone.
	Host   string
	Logger zerolog.Logger
	// Observe is told of every call that changes a sandbox and of every orphan; it may be called concurrently. nil is fine.
	Observe func(Call)
}

// Call is a call that changed a sandbox, or failed to.
type Call struct {
	Name   string // stop or destroy
	Orphan bool   // no row knew the sandbox
	Err    error
}

// Reconciler completes what others have left, for the sandboxes of one provider and host. Its memory is of the rounds before, so that
// one is made and kept. Safe for concurrent use; rounds take turns.
type Reconciler struct {
	Config
	now func() time.Time

	round   sync.Mutex
	orphans map[string]bool // listed without a row in the last round, by the provider's id

	mu      sync.Mutex
	missing map[uuid.UUID]time.Time // not known to the provider, by when it first said so
}

// New returns a reconciler.
func New(c Config) *Reconciler {
	if c.Observe == nil {
		c.Observe = func(Call) {}
	}
	return &Reconciler{Config: c, now: time.Now, orphans: map[string]bool{}, missing: map[uuid.UUID]time.Time{}}
}

// Round writes the intents that are due, carries out all that there are, and compares the provider's list with the rows. One sandbox
// that cannot be dealt with does not hold up the others; the error says so, and IsLeft of it is true when nothing else went wrong. In a
// copy of the database nothing happens, and the error is Copied.
func (r *Reconciler) Round(ctx context.Context) error {
	r.round.Lock()
	defer r.round.Unlock()
	installation, err := r.Store.Home(ctx)
	if err != nil {
		return err
	}
	if err := r.Store.intend(ctx, r.Provider.Name(), r.Host); err != nil {
		return err
	}
	return errors.Join(
		r.each(ctx, r.Store.destroying, func(ctx context.Context, b box) error { return r.Destroy(ctx, b.id, b.providerID) }),
		r.each(ctx, r.Store.stopping, r.stop),
		r.compare(ctx, installation),
	)
}

// leftError is that of a sandbox which is left to the next round.
type leftError struct{ err error }

func (e *leftError) Error() string { return e.err.Error() }
func (e *leftError) Unwrap() error { return e.err }

// IsLeft reports whether the error of a round is of single sandboxes only: the others were dealt with, and the next round meets these
// again.
func IsLeft(err error) bool {
	if all, ok := err.(interface{ Unwrap() []error }); ok { // one of many is not enough
		return !slices.ContainsFunc(all.Unwrap(), func(err error) bool { return !IsLeft(err) })
	}
	_, ok := errors.AsType[*leftError](err)
	return ok
}

// each calls do for all rows of a list, several at once. It returns the error of the list, or else the first of a row.
func (r *Reconciler) each(
	ctx context.Context, list func(ctx context.Context, provider, host string, after uuid.UUID) ([]box, error), do func(context.Context, box) error,
) error {
	var first error
	for after := uuid.Nil; ; {
		boxes, err := list(ctx, r.Provider.Name(), r.Host, after)
		if err != nil || len(boxes) == 0 {
			return cmp.Or(err, first)
		}
		after = boxes[len(boxes)-1].id
		first = cmp.Or(first, r.all(ctx, boxes, do))
	}
}

// all is each for rows that are known. A failure ends neither what is under way nor what follows; the first is returned, and the rest logged.
func (r *Reconciler) all(ctx context.Context, boxes []box, do func(context.Context, box) error) error {
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, b := range boxes {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			call, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			if err := do(call, b); err != nil {
				if ctx.Err() == nil {
					r.Logger.Warn().Err(err).Str("sandbox_id", b.id.String()).Msg("a sandbox is left to the next round")
				}
				return &leftError{err}
			}
			return nil
		})
	}
	return group.Wait()
}

// Destroy carries out a durable intent to destroy a sandbox and records the result. It is harmless to repeat. With an empty provider id,
// the answer to its creation was lost, and it is found by its label.
func (r *Reconciler) Destroy(ctx context.Context, id uuid.UUID, providerID string) error {
	ids := []string{providerID}
	if providerID == "" {
		infos, err := r.Provider.List(ctx, map[string]string{sandbox.LabelSandbox: id.String()})
		if err != nil {
			return fmt.Errorf("looking for a sandbox: %w", err)
		}
		ids = nil
		for _, info := range infos {
			ids = append(ids, info.ProviderID)
		}
	}
	for _, providerID := range ids {
		if err := r.destroy(ctx, providerID, false); err != nil {
			return err
		}
	}
	return r.Store.Finish(ctx, id)
}

func (r *Reconciler) destroy(ctx context.Context, providerID string, orphan bool) error {
	err := r.Provider.Destroy(ctx, providerID)
	r.Observe(Call{Name: "destroy", Orphan: orphan, Err: err})
	if err != nil {
		return fmt.Errorf("destroying a sandbox: %w", err)
	}
	return nil
}

// stop stops a sandbox that nobody needs up. What is gone is left to the search for that.
func (r *Reconciler) stop(ctx context.Context, b box) error {
	may, err := r.Store.mayStop(ctx, b.id)
	if err != nil || !may {
		return err
	}
	err = r.Provider.Stop(ctx, b.providerID)
	r.Observe(Call{Name: "stop", Err: err})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stopping a sandbox: %w", err)
	}
	return r.Store.stopped(ctx, b.id)
}
