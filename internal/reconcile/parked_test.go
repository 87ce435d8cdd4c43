package reconcile

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/sandboxtest"
)

func TestParkedSandboxIsStoppedAndThenExpires(t *testing.T) {
	t.Parallel()
	b := setup(t)
	x := b.execution("parked")
	id := b.sandbox(x, "ready")
	b.passed("parked_at", "executions", x, StopAfter-time.Minute)
	b.round()
	b.want(id, "ready")
	b.passed("parked_at", "executions", x, time.Minute)
	b.round()
	b.want(id, "stopped")
	b.wantThere(id, sandbox.Stopped)
	b.round()
	if n := b.fake.Calls(sandboxtest.OpStop); n != 1 {
		t.Errorf("it was stopped %d times", n)
	}
	b.passed("parked_at", "executions", x, ExpireAfter-StopAfter-time.Minute)
	b.round()
	b.want(id, "stopped")
	b.passed("parked_at", "executions", x, time.Minute)
	b.round()
	b.want(id, "destroyed")
	b.wantThere(id, "")
	if reason := pgtest.Get[string](t, b.pool, "SELECT reason FROM sandboxes WHERE id = $1", id); reason != ReasonExpired {
		t.Errorf("the reason is %q, by which the engine does not know it", reason)
	}
}

// TestOnlyParkedSandboxesAreStopped has executions that look as if they had been parked for weeks.
func TestOnlyParkedSandboxesAreStopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	unparked := b.execution("parked") // a signal or its timer has come; nobody has claimed it yet
	pgtest.Exec(t, b.pool, "INSERT INTO execution_queue (execution_id, run_order) VALUES ($1, '-infinity')", unparked)
	running := b.execution("held")
	boxes := []uuid.UUID{b.sandbox(unparked, "ready"), b.sandbox(running, "ready")}
	b.passed("parked_at", "executions", unparked, 2*ExpireAfter)
	b.passed("claimed_at", "executions", running, 2*ExpireAfter)
	elsewhere := b.execution("parked")
	b.passed("parked_at", "executions", elsewhere, 2*ExpireAfter)
	away := uuid.New()
	b.row(away, elsewhere, "ready", "there")
	b.round()
	for _, id := range boxes {
		b.want(id, "ready")
		b.wantThere(id, sandbox.Ready)
	}
	b.want(away, "ready")
}

// TestClaimBeforeTheIntent has a claim under way while a round looks for what is parked: there is no intent, and the round does not wait.
func TestClaimBeforeTheIntent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	x := b.execution("parked")
	id := b.sandbox(x, "ready")
	b.passed("parked_at", "executions", x, StopAfter)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), "UPDATE executions SET status = 'running', parked_at = NULL, claim = claim + 1 WHERE id = $1", x); err != nil {
		t.Fatal(err)
	}
	b.round()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.want(id, "ready")
	b.round()
	b.want(id, "ready")
	b.wantThere(id, sandbox.Ready)
}

// TestClaimAfterTheIntent holds that an intent whose execution was claimed is not carried out, and that a late result changes nothing.
func TestClaimAfterTheIntent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	x := b.execution("parked")
	id := b.sandbox(x, "ready")
	b.passed("parked_at", "executions", x, StopAfter)
	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpStop, Before: errs.E(errs.Unavailable, "The provider does not answer.")})
	if err := b.r.Round(t.Context()); err == nil {
		t.Fatal("a stop that failed is not told")
	}
	b.want(id, "stopping")
	pgtest.Exec(t, b.pool, "UPDATE executions SET status = 'running', parked_at = NULL, claim = claim + 1 WHERE id = $1", x)
	// The round before has read the intent, and comes to it only now.
	if err := b.r.stop(t.Context(), box{id: id, providerID: id.String()}); err != nil {
		t.Fatal(err)
	}
	b.wantThere(id, sandbox.Ready)
	b.round()
	b.want(id, "stopping") // it is the engine's now
	b.wantThere(id, sandbox.Ready)
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'starting' WHERE id = $1", id)
	if err := b.r.Store.stopped(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.want(id, "starting")
}

// TestStopIsRepeated has the process die between the call and its result.
func TestStopIsRepeated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	x := b.execution("parked")
	id := b.sandbox(x, "ready")
	b.passed("parked_at", "executions", x, StopAfter)
	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpStop, After: errs.E(errs.Unknown, "The answer was lost.")})
	if err := b.r.Round(t.Context()); err == nil {
		t.Fatal("a lost answer is not told")
	}
	b.want(id, "stopping")
	b.restart()
	b.round()
	b.want(id, "stopped")
}

// TestSandboxThatIsGoneIsNotStopped leaves it to the two questions.
func TestSandboxThatIsGoneIsNotStopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	x := b.execution("parked")
	id := uuid.New()
	b.row(id, x, "ready", "here")
	b.passed("parked_at", "executions", x, StopAfter)
	b.round()
	b.want(id, "stopping")
	b.clock = b.clock.Add(goneGap)
	b.round()
	b.want(id, "failed")
}

func TestUpTimeIsCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	x := b.execution("parked")
	id := b.sandbox(x, "creating")
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'ready', provider_id = id::text WHERE id = $1", id)
	b.passed("up_since", "sandboxes", id, time.Hour)
	b.passed("parked_at", "executions", x, StopAfter)
	b.round()
	b.want(id, "stopped")
	up := func() time.Duration {
		return time.Duration(pgtest.Get[int64](t, b.pool, "SELECT up_ms FROM sandboxes WHERE id = $1 AND up_since IS NULL", id)) * time.Millisecond
	}
	first := up()
	if first < time.Hour || first > time.Hour+time.Minute {
		t.Errorf("it was up for %s, want an hour", first)
	}
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'starting' WHERE id = $1", id)
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'ready' WHERE id = $1", id)
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'ready' WHERE id = $1", id)
	b.passed("up_since", "sandboxes", id, time.Hour)
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'destroying' WHERE id = $1", id)
	if second := up(); second < first+time.Hour || second > first+time.Hour+time.Minute {
		t.Errorf("after another hour it was up for %s, before for %s", second, first)
	}
}
