package reconcile

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/sandbox/sandboxtest"
)

// TestOneSandboxIsLeft holds that a round tells the failure of single sandboxes from its own.
func TestOneSandboxIsLeft(t *testing.T) {
	t.Parallel()
	down := errs.E(errs.Unavailable, "The provider does not answer.")
	for name, c := range map[string]struct {
		faults []sandboxtest.Op
		want   bool
	}{
		"nothing fails":                      {nil, false},
		"one sandbox cannot be destroyed":    {[]sandboxtest.Op{sandboxtest.OpDestroy}, true},
		"and one cannot be stopped":          {[]sandboxtest.Op{sandboxtest.OpDestroy, sandboxtest.OpStop}, true},
		"sandboxes cannot be listed":         {[]sandboxtest.Op{sandboxtest.OpList}, false},
		"nor destroyed what is known anyway": {[]sandboxtest.Op{sandboxtest.OpDestroy, sandboxtest.OpList}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			ended := b.execution("ended")
			first, second, kept := b.sandbox(ended, "destroying"), b.sandbox(ended, "destroying"), b.sandbox(ended, "kept")
			for _, op := range c.faults {
				b.fake.Inject(sandboxtest.Fault{Op: op, Before: down})
			}
			err := b.r.Round(t.Context())
			if (err != nil) != (c.faults != nil) || err != nil && !errs.Is(err, errs.Unavailable) || IsLeft(err) != c.want {
				t.Errorf("%v, which is left to the next round: %t", err, IsLeft(err))
			}
			b.round()
			b.want(first, "destroyed")
			b.want(second, "destroyed")
			b.want(kept, "kept")
		})
	}
}

// TestListThatFailsOutweighsARow has the database fail between two pages of which the first had a sandbox that failed.
func TestListThatFailsOutweighsARow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lost := errors.New("the database is lost")
	err := b.r.each(t.Context(), func(_ context.Context, _, _ string, after uuid.UUID) ([]box, error) {
		if after != uuid.Nil {
			return nil, lost
		}
		return []box{{id: execution.NewID()}}, nil
	}, func(context.Context, box) error { return errs.E(errs.Unavailable, "The provider does not answer.") })
	if !errors.Is(err, lost) || IsLeft(err) {
		t.Errorf("%v, which is left to the next round: %t", err, IsLeft(err))
	}
}
