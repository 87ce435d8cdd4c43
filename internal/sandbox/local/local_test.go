package local_test

import (
	"testing"

	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/local"
	"foundry/internal/sandbox/sandboxtest"
)

func TestProcessLevelConforms(t *testing.T) {
	t.Parallel()
	sandboxtest.Run(t, func(t *testing.T) sandboxtest.Harness {
		return sandboxtest.Harness{Provider: newProvider(t, local.Process), Here: true}
	})
}

// A fence that lets everything pass changes nothing.
func TestFencedConforms(t *testing.T) {
	t.Parallel()
	sandboxtest.Run(t, func(t *testing.T) sandboxtest.Harness {
		return sandboxtest.Harness{Provider: sandbox.Fence(newProvider(t, local.Process), nil), Here: true}
	})
}

func TestBwrapLevelConforms(t *testing.T) {
	t.Parallel()
	needBwrap(t)
	sandboxtest.Run(t, func(t *testing.T) sandboxtest.Harness {
		return sandboxtest.Harness{Provider: newProvider(t, local.Bwrap), Here: true}
	})
}

func newProvider(t *testing.T, level local.Level) *local.Provider {
	t.Helper()
	p, err := local.New(t.Context(), config(t, level))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func config(t *testing.T, level local.Level) local.Config {
	t.Helper()
	return local.Config{
		StateDir:   t.TempDir(),
		Level:      level,
		Executable: sandboxtest.ShimBinary(t),
		Log:        zerolog.New(zerolog.NewTestWriter(t)),
	}
}

// needBwrap skips where bubblewrap does not work, unless FOUNDRY_REQUIRE says that it must.
func needBwrap(t *testing.T) {
	t.Helper()
	_, err := local.New(t.Context(), config(t, local.Bwrap))
	if err == nil {
		return
	}
	if sandboxtest.Required("bwrap") {
		t.Fatal(err)
	}
	t.Skip(err)
}

func TestProbeThatIsCutShortIsNoReasonToDropIsolation(t *testing.T) {
	t.Parallel()
	needBwrap(t)
	ctx := t.Context()
	t.Run("whose context ends", func(t *testing.T) { ctx = t.Context() })
	p, err := local.New(ctx, config(t, ""))
	if !errs.Is(err, errs.Unavailable) {
		t.Fatalf("a provider %v, and the error %v", p, err)
	}
}
