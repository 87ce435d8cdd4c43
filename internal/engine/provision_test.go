package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/lifecycle"
	"foundry/internal/sandbox"
)

// TestInsist repeats a stage whose answers come 31 seconds apart.
func TestInsist(t *testing.T) {
	t.Parallel()
	odd := errors.New("HTTP 500")
	room, down := errs.E(sandbox.Quota, "No room."), errs.E(errs.Unavailable, "Down.")
	doubt := errs.E(errs.StaleClaim, "The worker can no longer be sure of its lease.")
	for name, c := range map[string]struct {
		answers []error // then it succeeds
		err     error
		told    int
	}{
		"no room":                           {[]error{room, room, room}, nil, 1},
		"no answer":                         {[]error{down, down, down}, nil, 1},
		"a lease in doubt":                  {[]error{doubt, doubt}, nil, 0},
		"a lease in doubt while no room":    {[]error{room, doubt, room}, nil, 1},
		"something odd after no room":       {[]error{room, room, odd}, nil, 2},
		"something odd after no answer":     {[]error{down, down, odd}, nil, 1},
		"something odd after a doubt":       {[]error{doubt, doubt, odd}, nil, 1},
		"something odd for a minute":        {[]error{room, odd, odd}, odd, 2},
		"something that can never work":     {[]error{errs.E(errs.Invalid, "No such image.")}, errs.E(errs.Invalid, ""), 0},
		"a sandbox that is gone for a fact": {[]error{errs.E(errs.NotFound, "No.")}, errs.E(errs.NotFound, ""), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := masking()
				r.ctx, r.inbox = t.Context(), make(chan func(), len(c.answers))
				calls := 0
				err := r.insist(t.Context(), "create", func() error {
					if calls++; calls > len(c.answers) {
						return nil
					}
					if calls > 1 {
						lifecycle.Sleep(t.Context(), 31*time.Second)
					}
					return c.answers[calls-1]
				})
				if errs.CodeOf(err) != errs.CodeOf(c.err) {
					t.Errorf("it says %v, want %v", err, c.err)
				}
				r.drainInbox()
				if len(r.entry.Records) != c.told {
					t.Errorf("%d events, want %d", len(r.entry.Records), c.told)
				}
				for _, record := range r.entry.Records {
					if record.Type != event.SandboxWaiting {
						t.Errorf("an event %s", record.Type)
					}
				}
			})
		})
	}
}

// TestInsistEndsWithItsContext has nobody want the sandbox any more.
func TestInsistEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := masking()
	r.ctx, r.inbox = t.Context(), make(chan func(), 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	err := r.insist(ctx, "create", func() error {
		cancel(errAborted)
		return errs.E(sandbox.Quota, "No room.")
	})
	if !errors.Is(err, errAborted) {
		t.Errorf("it says %v", err)
	}
}
