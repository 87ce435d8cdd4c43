package lifecycle_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"foundry/internal/leaktest"
	"foundry/internal/lifecycle"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestGroup(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")

	t.Run("the first error stops the others and is returned by name", func(t *testing.T) {
		t.Parallel()
		g := lifecycle.NewGroup(t.Context())
		g.Go("hub", untilDone)
		g.Go("loop", func(context.Context) error { return broken })
		err := g.Wait()
		if !errors.Is(err, broken) || err.Error() != "loop: broken" {
			t.Fatalf("Wait: %v", err)
		}
		if cause := context.Cause(g.Context()); !errors.Is(cause, broken) {
			t.Errorf("cause: %v", cause)
		}
	})

	t.Run("Stop is no failure and its cause is kept", func(t *testing.T) {
		t.Parallel()
		g := lifecycle.NewGroup(t.Context())
		g.Go("one", untilDone)
		g.Go("two", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
		g.Stop(broken)
		g.Stop(errors.New("later"))
		if err := g.Wait(); err != nil {
			t.Fatalf("Wait: %v", err)
		}
		if cause := context.Cause(g.Context()); !errors.Is(cause, broken) {
			t.Errorf("cause: %v", cause)
		}
	})

	t.Run("the parent's cause arrives", func(t *testing.T) {
		t.Parallel()
		parent, cancel := context.WithCancelCause(t.Context())
		g := lifecycle.NewGroup(parent)
		g.Go("one", untilDone)
		cancel(broken)
		if err := g.Wait(); err != nil || !errors.Is(context.Cause(g.Context()), broken) {
			t.Fatalf("Wait: %v, cause %v", err, context.Cause(g.Context()))
		}
	})

	t.Run("a thing that is done leaves the others running", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			g := lifecycle.NewGroup(t.Context())
			g.Go("short", func(context.Context) error { return nil })
			g.Go("long", untilDone)
			synctest.Wait()
			if g.Context().Err() != nil {
				t.Error("the group has stopped")
			}
			g.Stop(nil)
			if err := g.Wait(); err != nil {
				t.Errorf("Wait: %v", err)
			}
		})
	})

	t.Run("errors while stopping are collected", func(t *testing.T) {
		t.Parallel()
		late := errors.New("flush failed")
		g := lifecycle.NewGroup(t.Context())
		g.Go("one", func(ctx context.Context) error { <-ctx.Done(); return late })
		g.Go("two", func(context.Context) error { return broken })
		if err := g.Wait(); !errors.Is(err, broken) || !errors.Is(err, late) {
			t.Fatalf("Wait: %v", err)
		}
	})

	t.Run("a cancelled context of its own is an error", func(t *testing.T) {
		t.Parallel()
		g := lifecycle.NewGroup(t.Context())
		g.Go("one", func(context.Context) error { return context.Canceled })
		if err := g.Wait(); !errors.Is(err, context.Canceled) {
			t.Fatalf("Wait: %v", err)
		}
	})
}

func TestOnStop(t *testing.T) {
	t.Parallel()
	g := lifecycle.NewGroup(t.Context())
	var order []string
	step := func(name string, err error) {
		g.OnStop(name, func(ctx context.Context) error {
			if _, limited := ctx.Deadline(); ctx.Err() != nil || !limited {
				t.Errorf("%s: context has ended or no limit", name)
			}
			order = append(order, name)
			return err
		})
	}
	step("close", nil)
	step("flush", errors.New("disk full"))
	g.Go("writer", func(ctx context.Context) error {
		<-ctx.Done()
		order = append(order, "writer")
		return nil
	})
	g.Stop(errors.New("enough"))
	err := g.Wait()
	if want := []string{"writer", "flush", "close"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if err == nil || !strings.Contains(err.Error(), "flush: disk full") {
		t.Errorf("Wait: %v", err)
	}
}

// Not parallel: it signals this process.
//
//nolint:paralleltest // see above
func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		ctx, release := lifecycle.Signals(t.Context())
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute):
			t.Fatal("the signal did not arrive")
		}
		got, ok := errors.AsType[lifecycle.SignalError](context.Cause(ctx))
		if !ok || got.Signal != sig {
			t.Errorf("cause %v, want %v", context.Cause(ctx), sig)
		}
		release()
	}

	ctx, release := lifecycle.Signals(t.Context())
	release()
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		t.Errorf("cause after release: %v", context.Cause(ctx))
	}
}
