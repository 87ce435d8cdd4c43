package worker_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/reconcile"
	"foundry/internal/sandbox/sandboxtest"
)

// restText needs its sandbox before and after a wait. The command after it does not end when it is run for the first time in a sandbox that
// has the file hang.
const restText = `
name: rest
nodes:
  before: { run: "echo made >made; echo ok" }
  ask: { needs: [before], approval: { message: "Go on?" } }
  after:
    needs: [ask]
    run: |
      cat made
      test ! -f hang || { rm hang; sleep 1000; }
      echo done
`

// atRest runs an execution until it is parked, as if it had been for as long as the interval says.
func (b *testBundle) atRest(interval string) (id uuid.UUID, r *reconcile.Reconciler) {
	b.t.Helper()
	id = b.enqueue(b.push(restText), "")
	b.parked(id)
	pgtest.Exec(b.t, b.pool, "UPDATE executions SET parked_at = parked_at - $2::text::interval WHERE id = $1", id, interval)
	return id, reconcile.New(reconcile.Config{
		Store: reconcile.NewStore(b.pool), Provider: b.fake, Host: "test", Logger: zerolog.New(zerolog.NewTestWriter(b.t)),
	})
}

func (b *testBundle) sandboxStates(id uuid.UUID) string {
	b.t.Helper()
	return pgtest.Get[string](b.t, b.pool, "SELECT COALESCE(string_agg(state, ' ' ORDER BY id), '') FROM sandboxes WHERE execution_id = $1", id)
}

func (b *testBundle) wantDone(id uuid.UUID, log string) {
	b.t.Helper()
	if x := b.end(id); x.Status != execution.Completed {
		b.t.Fatalf("status %s, %+v", x.Status, x.Failure)
	}
	if got := b.log(id, "after", event.Stdout); got != log {
		b.t.Errorf("the command after the wait printed %q", got)
	}
	await(b.t, "the end of its only sandbox", func() bool { return b.sandboxStates(id) == "destroyed" })
	pgtest.CheckInvariants(b.t, b.pool)
}

func TestStoppedSandboxIsStartedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id, r := b.atRest("11 minutes")
	if err := r.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.sandboxStates(id); got != "stopped" {
		t.Fatalf("the sandbox is %s", got)
	}
	if err := b.decide(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	b.wantDone(id, "made\ndone\n")
}

func TestExpiredSandboxFailsTheNextCommand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id, r := b.atRest("8 days")
	if err := r.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.decide(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	if x := b.end(id); x.Status != execution.Failed || x.Failure == nil || x.Failure.Code != "sandbox_expired" {
		t.Fatalf("status %s, %+v", x.Status, x.Failure)
	}
}

// TestIntentToStopThatWasNotCarriedOut has a reconciler die after the intent: the engine goes on from it.
func TestIntentToStopThatWasNotCarriedOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id, r := b.atRest("11 minutes")
	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpStop, Before: errs.E(errs.Unavailable, "The provider does not answer.")})
	if err := r.Round(t.Context()); err == nil {
		t.Fatal("a stop that failed is not told")
	}
	if got := b.sandboxStates(id); got != "stopping" {
		t.Fatalf("the sandbox is %s", got)
	}
	if err := b.decide(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	b.wantDone(id, "made\ndone\n")
}

// TestStopThatComesLate delays a call to stop until the execution has gone on and a command runs in the sandbox: the engine finds it
// stopped, starts it again, and runs the command again, which is charged to nobody.
func TestStopThatComesLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id, r := b.atRest("11 minutes")
	provider := pgtest.Get[string](t, b.pool, "SELECT provider_id FROM sandboxes WHERE execution_id = $1", id)
	box, err := b.fake.Open(t.Context(), provider)
	if err != nil {
		t.Fatal(err)
	}
	info, err := b.fake.Get(t.Context(), provider)
	if err != nil {
		t.Fatal(err)
	}
	if err := box.PutFile(t.Context(), info.Workspace+"/hang", strings.NewReader(""), 0o600); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpStop, Gate: gate})
	rounds := make(chan error, 1)
	go func() { rounds <- r.Round(t.Context()) }()
	await(t, "the call to stop", func() bool { return b.fake.Calls(sandboxtest.OpStop) == 1 })
	if err := b.decide(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	await(t, "output of the command after the wait", func() bool {
		return slices.Contains(b.types(id), event.Type("sandbox.ready")) &&
			pgtest.Get[int](t, b.pool, "SELECT count(*) FROM node_runs WHERE execution_id = $1 AND node_key = 'after' AND stdout_bytes > 0", id) == 1
	})
	close(gate)
	if err := <-rounds; err != nil {
		t.Fatal(err)
	}
	b.wantDone(id, "made\ndone\n")
	runs, err := b.executions.NodeRuns(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var after []execution.NodeStatus
	for _, run := range runs {
		if run.Key == "after" {
			after = append(after, run.Status)
		}
	}
	if !slices.Equal(after, []execution.NodeStatus{execution.NodeInterrupted, execution.NodeCompleted}) {
		t.Errorf("the runs after the wait are %v", after)
	}
}
