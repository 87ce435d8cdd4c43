package worker_test

import (
	"context"
	"sync/atomic"
	"testing"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/pgtest"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/sandboxtest"
)

// TestStopBetweenReadyAndTheFirstFile has a stop arrive after the engine has found the sandbox ready and before it has written
// anything into it: the engine starts it again.
func TestStopBetweenReadyAndTheFirstFile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stop := b.startWorker(1)
	id, r := b.atRest("11 minutes")
	if err := r.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	provider := pgtest.Get[string](t, b.pool, "SELECT provider_id FROM sandboxes WHERE execution_id = $1", id)
	var stopped atomic.Bool
	b.hook = func(_ context.Context, at string) failpoint.Answer {
		if at == "provider.open.before" && !stopped.Swap(true) {
			if err := b.fake.Stop(context.WithoutCancel(t.Context()), provider); err != nil { // the late call of a control plane
				t.Error(err)
			}
		}
		return failpoint.Answer{}
	}
	if err := b.decide(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	b.startWorker(1)
	x := b.end(id)
	if got := b.log(id, "after", event.Stdout); x.Status != execution.Completed || got != "made\ndone\n" || !stopped.Load() {
		t.Errorf("status %s, stopped: %t, the command after the wait printed %q", x.Status, stopped.Load(), got)
	}
}

// TestOneNotFoundIsNoProof has the provider not know a sandbox once, at a takeover and while a stage of opening it goes on: the command
// that runs in it is attached to.
func TestOneNotFoundIsNoProof(t *testing.T) {
	t.Parallel()
	for name, op := range map[string]sandboxtest.Op{"the look at it": sandboxtest.OpGet, "the handle": sandboxtest.OpOpen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			stop := b.startWorker(1)
			id := b.enqueue(b.push(gated), "")
			dir, pid := b.workspace(1)
			stop()
			b.fake.Inject(sandboxtest.Fault{Op: op, Before: errs.E(errs.NotFound, "For a moment.")})
			b.startWorker(1)
			await(t, "an event of the takeover", func() bool { return b.has(id, event.NodeAttached) || b.has(id, event.SandboxFailed) })
			if !runs(pid) {
				t.Error("the command has ended")
			}
			openGate(t, dir)
			if x := b.end(id); x.Status != execution.Completed || b.nodes(id)["wait"].Attempt != 1 {
				t.Errorf("status %s, nodes %+v, %v", x.Status, b.nodes(id), b.types(id))
			}
		})
	}
}

// TestBrokenSandboxEndsBeforeItsCommandRunsElsewhere has the provider say that a sandbox will never work again, while its command goes on.
func TestBrokenSandboxEndsBeforeItsCommandRunsElsewhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state    sandbox.State
		takeover bool
	}{
		"it has failed":                        {sandbox.Failed, false},
		"it has failed before a takeover":      {sandbox.Failed, true},
		"somebody destroys it":                 {sandbox.Destroying, false},
		"somebody destroys it, and takes over": {sandbox.Destroying, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			stop := b.startWorker(1)
			id := b.enqueue(b.push(gated), "")
			_, pid := b.workspace(1)
			b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpDestroy, Times: 2, Before: errs.E(errs.Unavailable, "Not now.")})
			if c.takeover {
				stop()
			}
			b.fake.Break(pgtest.Get[string](t, b.pool, "SELECT provider_id FROM sandboxes WHERE execution_id = $1", id), c.state)
			if c.takeover {
				b.startWorker(1)
			}
			await(t, "the end of the sandbox", func() bool { return b.has(id, event.SandboxFailed) })
			if runs(pid) {
				t.Error("the command runs on when it is told to be lost")
			}
			dir, _ := b.workspace(1) // of the next sandbox: the first is not listed any more
			openGate(t, dir)
			if x := b.end(id); x.Status != execution.Completed || b.nodes(id)["wait"].Attempt != 2 {
				t.Errorf("status %s, nodes %+v, %v", x.Status, b.nodes(id), b.types(id))
			}
			await(t, "the end of both", func() bool { return b.sandboxStates(id) == "destroyed destroyed" })
			pgtest.CheckInvariants(t, b.pool)
		})
	}
}

// TestBrokenSandboxIsDestroyedByWhoTakesOver ends the worker between the intent and the call: the next one completes it.
func TestBrokenSandboxIsDestroyedByWhoTakesOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stop := b.startWorker(1)
	id := b.enqueue(b.push(gated), "")
	_, pid := b.workspace(1)
	stop()
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'destroying' WHERE execution_id = $1", id)
	gate := make(chan struct{})
	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpDestroy, Times: -1, Gate: gate})
	b.startWorker(1)
	await(t, "the calls of the engine and the sweep", func() bool { return b.fake.Calls(sandboxtest.OpDestroy) >= 2 })
	if n := b.nodes(id)["wait"]; n.Attempt != 1 || n.Status != execution.NodeRunning {
		t.Errorf("before the sandbox is destroyed its command is %s, attempt %d", n.Status, n.Attempt)
	}
	close(gate)
	await(t, "the end of the sandbox", func() bool { return b.has(id, event.SandboxFailed) })
	if runs(pid) {
		t.Error("the command runs on when it is told to be lost")
	}
	dir, _ := b.workspace(1)
	openGate(t, dir)
	if x := b.end(id); x.Status != execution.Completed || b.nodes(id)["wait"].Attempt != 2 {
		t.Errorf("status %s, nodes %+v, %v", x.Status, b.nodes(id), b.types(id))
	}
}
