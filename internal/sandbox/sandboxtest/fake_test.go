package sandboxtest_test

import (
	"testing"

	"foundry/internal/sandbox"
	"foundry/internal/sandbox/sandboxtest"
)

func TestFakeConforms(t *testing.T) {
	t.Parallel()
	sandboxtest.Run(t, func(t *testing.T) sandboxtest.Harness {
		return sandboxtest.Harness{Provider: sandboxtest.NewFake(t), Here: true}
	})
}

// A fence that lets everything pass changes nothing.
func TestFencedFakeConforms(t *testing.T) {
	t.Parallel()
	sandboxtest.Run(t, func(t *testing.T) sandboxtest.Harness {
		return sandboxtest.Harness{Provider: sandbox.Fence(sandboxtest.NewFake(t), nil), Here: true}
	})
}
