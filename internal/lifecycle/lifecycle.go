// Package lifecycle starts the long-running parts of a process, stops them together, and
// tells why.
//
//	ctx, release := lifecycle.Signals(context.Background())
//	defer release()
//	g := lifecycle.NewGroup(ctx)
//	g.OnStop("closing the pool", func(context.Context) error { pool.Close(); return nil })
//	g.Go("listener", listener.Run)
//	g.Go("server", server.Run)
//	err := g.Wait() // nil after a signal; the cause is context.Cause(g.Context())
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
)

// StopTimeout is how long one function given to OnStop may take.
const StopTimeout = 10 * time.Second

// echo is how long after a signal a second one is taken for the same: timeout(1) and some supervisors
// signal both a process and its group.
const echo = 500 * time.Millisecond

// Group is a set of things that run until one of them fails, Stop is called, or the
// parent context ends. Make it with NewGroup. Its methods may be called concurrently,
// but Go and OnStop not after Wait has returned.
type Group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	things sync.WaitGroup

	mu    sync.Mutex
	errs  []error // in the order in which they happened
	hooks []hook
}

type hook struct {
	name string
	run  func(context.Context) error
}

// NewGroup returns a group that also stops when ctx ends.
func NewGroup(ctx context.Context) *Group {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Group{ctx: ctx, cancel: cancel}
}

// Context is what the group's things run under. Its cause says what stopped them: the
// parent's cause, the one given to Stop, or the first error.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs f in a goroutine of the group. An error stops the group; nil means that this
// thing is done and the others go on. What f returns because its context has ended is
// no error.
func (g *Group) Go(name string, f func(ctx context.Context) error) {
	g.things.Go(func() {
		if err := f(g.ctx); err != nil && !g.isStopping(err) {
			g.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// isStopping reports whether err only says that the group's context has ended.
func (g *Group) isStopping(err error) bool {
	if g.ctx.Err() == nil {
		return false
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(g.ctx))
}

func (g *Group) fail(err error) {
	g.mu.Lock()
	g.errs = append(g.errs, err)
	g.mu.Unlock()
	g.cancel(err)
}

// Stop ends the group's context with a cause. The first cause wins.
func (g *Group) Stop(cause error) { g.cancel(cause) }

// OnStop registers what Wait does after every thing has returned, last registered first:
// flushing, then closing. Its context has not ended, but does after StopTimeout.
func (g *Group) OnStop(name string, f func(ctx context.Context) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hooks = append(g.hooks, hook{name, f})
}

// Wait returns when everything has returned and the functions of OnStop have run. It
// returns all errors, the first one first; being stopped is none.
func (g *Group) Wait() error {
	g.things.Wait()
	g.cancel(context.Canceled) // releases the context when all things ended by themselves
	g.mu.Lock()
	hooks := g.hooks
	g.hooks = nil
	g.mu.Unlock()
	for _, h := range slices.Backward(hooks) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(g.ctx), StopTimeout)
		if err := h.run(ctx); err != nil {
			g.fail(fmt.Errorf("%s: %w", h.name, err))
		}
		cancel()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.errs...)
}

// SignalError is the cause of a context that a signal has ended.
type SignalError struct{ Signal os.Signal }

// Error names the signal as the system does.
func (e SignalError) Error() string { return "received signal: " + e.Signal.String() }

// Signals returns a context that SIGINT or SIGTERM ends, with a SignalError as its cause.
// A second signal, half a second later or more, has its usual effect, so that a person can end a
// shutdown that hangs.
// release undoes it all and waits for its goroutine; call it once, when the context is not needed.
func Signals(parent context.Context) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	released := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		defer signal.Stop(signals)
		select {
		case s := <-signals:
			cancel(SignalError{s})
		case <-ctx.Done():
			return
		}
		timer := time.NewTimer(echo)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-released:
		}
	})
	return ctx, func() {
		close(released)
		cancel(context.Canceled)
		watcher.Wait()
	}
}
