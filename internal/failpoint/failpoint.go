// Package failpoint lets a test decide what happens at named instants of a program: right before an effect
// that others see, and right after it. A point asks the hook in its context. Without one it costs a look into the context and
// changes nothing; there is no global state, so tests run side by side.
//
// Names are <package>.<operation>.<before|after>, such as journal.commit.before:
//
//	before ──(the effect: a commit, a call)──▶ after
//	   │                                         │
//	   ├ Err: fails without the effect           └ Err: fails although the effect was had
//	   └ Twice: the effect is had two times
//
// A hook may do whatever it wants before it answers: wait, take a note, or end the process, which is what happens
// to real ones at such instants. Parse makes a hook of a text, for processes.
package failpoint

import "context"

// The ends of the two points of an operation.
const (
	Before = ".before"
	After  = ".after"
)

// Answer is what a hook has happen. The zero value is: go on.
type Answer struct {
	Err   error // the call fails with it
	Twice bool  // of a before-point whose effect may be repeated: have it twice; the second answer counts
}

// Hook answers at a point. It is called by any number of goroutines at once.
type Hook func(ctx context.Context, name string) Answer

type key struct{}

// With returns a context whose points ask the hook. nil asks nobody, whatever ctx had.
func With(ctx context.Context, hook Hook) context.Context {
	return context.WithValue(ctx, key{}, hook)
}

// Active reports whether the points of ctx ask anybody.
func Active(ctx context.Context) bool { return hookOf(ctx) != nil }

// Hit asks the hook of ctx about one point.
func Hit(ctx context.Context, name string) Answer {
	hook := hookOf(ctx)
	if hook == nil {
		return Answer{}
	}
	return hook(ctx, name)
}

// Around has an effect between the two points of an operation. The effect is not repeated, whatever the hook
// answers, so this is for commits.
func Around(ctx context.Context, operation string, effect func() error) error {
	hook := hookOf(ctx)
	if hook == nil {
		return effect()
	}
	if err := hook(ctx, operation+Before).Err; err != nil {
		return err
	}
	return after(ctx, hook, operation, effect())
}

// Call is Around for an effect that may be had twice and that answers something. An answer that a point replaces by
// an error is the zero value.
func Call[T any](ctx context.Context, operation string, effect func() (T, error)) (T, error) {
	hook := hookOf(ctx)
	if hook == nil {
		return effect()
	}
	var none T
	before := hook(ctx, operation+Before)
	if before.Err != nil {
		return none, before.Err
	}
	if before.Twice {
		_, _ = effect() // nobody sees the first of two answers
	}
	answer, err := effect()
	if err := after(ctx, hook, operation, err); err != nil {
		return none, err
	}
	return answer, nil
}

func after(ctx context.Context, hook Hook, operation string, err error) error {
	if hidden := hook(ctx, operation+After).Err; err == nil {
		return hidden
	}
	return err
}

func hookOf(ctx context.Context) Hook {
	hook, _ := ctx.Value(key{}).(Hook)
	return hook
}
