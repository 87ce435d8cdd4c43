package worker_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/sandbox/sandboxtest"
	"foundry/internal/secret"
)

// cancelTwice asks for an end by force.
func (b *testBundle) cancelTwice(id uuid.UUID) {
	b.t.Helper()
	for range 2 {
		if err := b.queue.Cancel(b.t.Context(), b.org, id, "test"); err != nil {
			b.t.Fatal(err)
		}
	}
}

// passDeadline lets the time of an execution that was claimed be over.
func (b *testBundle) passDeadline(id uuid.UUID) {
	b.t.Helper()
	pgtest.Exec(b.t, b.pool, "UPDATE executions SET deadline_at = now() WHERE id = $1", id)
	b.passesDeadline()
}

// TestForcedEndWhereTheSandboxIsElsewhere has the machine of the sandbox never come back.
func TestForcedEndWhereTheSandboxIsElsewhere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stop := b.startWorker(1)
	id := b.enqueue(b.push(restText), "")
	b.parked(id)
	stop()
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET host = 'burnt' WHERE execution_id = $1", id)
	b.cancelTwice(id)
	b.startWorker(1)
	if x := b.end(id); x.Status != execution.Canceled || x.Failure != nil {
		t.Errorf("status %s, failure %+v", x.Status, x.Failure)
	}
	if ask := b.nodes(id)["ask"]; ask.Status != execution.NodeCanceled {
		t.Errorf("the wait is %s", ask.Status)
	}
	if got := b.sandboxStates(id); got != "destroying" {
		t.Errorf("the sandbox, which its host is to destroy, is %s", got)
	}
	pgtest.CheckInvariants(t, b.pool)
}

// TestDeadlineWhereTheSandboxIsElsewhere has an execution be given back until its time is over.
func TestDeadlineWhereTheSandboxIsElsewhere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stop := b.startWorker(1)
	id := b.enqueue(b.push(restText), "")
	b.parked(id)
	stop()
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET host = 'burnt' WHERE execution_id = $1", id)
	if err := b.queue.Cancel(t.Context(), b.org, id, "test"); err != nil {
		t.Fatal(err)
	}
	stop = b.startWorker(1)
	await(t, "the release", func() bool { return b.has(id, event.ExecutionReleased) })
	stop()
	b.passDeadline(id)
	b.startWorker(1)
	if x := b.end(id); x.Status != execution.TimedOut || x.Failure == nil || x.Failure.Code != "timed_out" {
		t.Errorf("status %s, failure %+v", x.Status, x.Failure)
	}
	pgtest.CheckInvariants(t, b.pool)
}

// TestForcedEndWithoutTheKey has the only worker that is left lack the key of the execution's secrets: the command ends with its sandbox.
func TestForcedEndWithoutTheKey(t *testing.T) {
	t.Parallel()
	b, keys := setup(t), keyring(t, secret.NewKey("a"))
	w := b.push(gated)
	b.setSecret(keys, w, "ONE", "value-of-one")
	_, stop := b.startWorkerWith(1, keys)
	id := b.enqueue(w, "")
	_, pid := b.workspace(1)
	stop()
	b.cancelTwice(id)
	b.startWorkerWith(1, keyring(t, secret.NewKey("b")))
	if x := b.end(id); x.Status != execution.Canceled {
		t.Errorf("status %s, failure %+v", x.Status, x.Failure)
	}
	run := b.nodes(id)["wait"]
	if run.Status != execution.NodeInterrupted || run.Failure == nil || !strings.Contains(run.Failure.Message, "ended by force") {
		t.Errorf("the command is %s, failure %+v", run.Status, run.Failure)
	}
	b.startWorkerWith(1, keys) // whose first sweep does not wait for the next of the other
	await(t, "the end of the sandbox", func() bool { return b.sandboxStates(id) == "destroyed" })
	if runs(pid) {
		t.Error("the command runs on without its sandbox")
	}
	pgtest.CheckInvariants(t, b.pool)
}

// TestForcedEndOfASandboxThatDoesNotAnswer has a provider go down for good while a command runs.
func TestForcedEndOfASandboxThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		takeover bool
		force    func(b *testBundle, id uuid.UUID)
		status   execution.Status
	}{
		"canceled, taken over": {true, (*testBundle).cancelTwice, execution.Canceled},
		"canceled":             {false, (*testBundle).cancelTwice, execution.Canceled},
		"timed out":            {true, (*testBundle).passDeadline, execution.TimedOut},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			stop := b.startWorker(1)
			id := b.enqueue(b.push(gated), "")
			_, pid := b.workspace(1)
			if c.takeover {
				stop()
			}
			for _, op := range []sandboxtest.Op{sandboxtest.OpGet, sandboxtest.OpRun} {
				b.fake.Inject(sandboxtest.Fault{Op: op, Times: -1, Before: errs.E(errs.Unavailable, "Down.")})
			}
			if c.takeover {
				b.startWorker(1)
				await(t, "a question", func() bool { return b.has(id, event.SandboxWaiting) })
			}
			c.force(b, id)
			if x := b.end(id); x.Status != c.status {
				t.Errorf("status %s, failure %+v", x.Status, x.Failure)
			}
			if run := b.nodes(id)["wait"]; run.Status != execution.NodeInterrupted {
				t.Errorf("the command is %s", run.Status)
			}
			await(t, "the end of the sandbox", func() bool { return b.sandboxStates(id) == "destroyed" })
			if runs(pid) {
				t.Error("the command runs on without its sandbox")
			}
			pgtest.CheckInvariants(t, b.pool)
		})
	}
}
