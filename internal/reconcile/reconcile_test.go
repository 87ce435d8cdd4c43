package reconcile

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/sandboxtest"
)

func TestOrphansEndAtTheSecondRound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orphan, foreign, unlabeled := execution.NewID(), execution.NewID(), execution.NewID()
	b.create(orphan, b.installation)
	b.create(foreign, uuid.NewString())
	b.create(unlabeled, "")
	ended := b.sandbox(b.execution("ended"), "destroyed")
	lost := b.sandbox(b.execution("held"), "failed")
	held, creating := b.sandbox(b.execution("held"), "ready"), b.sandbox(b.execution("held"), "creating")
	elsewhere := execution.NewID()
	b.create(elsewhere, b.installation)
	b.row(elsewhere, b.execution("ready"), "ready", "there")

	b.round()
	for _, id := range []uuid.UUID{orphan, ended, lost} {
		b.wantThere(id, sandbox.Ready)
	}
	b.restart() // which begins to count again
	b.round()
	b.wantThere(orphan, sandbox.Ready)
	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpDestroy, Before: errs.E(errs.Unavailable, "The provider does not answer.")})
	if err := b.r.Round(t.Context()); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("a call that fails is told as %v", err)
	}
	b.round()
	for _, id := range []uuid.UUID{orphan, ended, lost} {
		b.wantThere(id, "")
	}
	for _, id := range []uuid.UUID{foreign, unlabeled, held, creating, elsewhere} {
		b.wantThere(id, sandbox.Ready)
	}
	destroyed := 0
	for _, c := range b.calls {
		if c.Name != "destroy" || !c.Orphan {
			t.Errorf("the call %+v", c)
		}
		if c.Err == nil {
			destroyed++
		}
	}
	if destroyed != 3 {
		t.Errorf("%d orphans were counted", destroyed)
	}
	pgtest.CheckInvariants(t, b.pool)
}

// TestOrphanForOneRound holds that one round without a row is not enough, however often that happens.
func TestOrphanForOneRound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	x := b.execution("held")
	id := b.sandbox(x, "ready")
	pgtest.Exec(t, b.pool, "DELETE FROM sandboxes WHERE id = $1", id)
	b.round()
	b.row(id, x, "ready", "here")
	b.round()
	pgtest.Exec(t, b.pool, "DELETE FROM sandboxes WHERE id = $1", id)
	b.round()
	b.wantThere(id, sandbox.Ready)
	b.round()
	b.wantThere(id, "")
}

func TestIntentsAreCompleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	known, unknown, never := b.sandbox(b.execution("ended"), "destroying"), execution.NewID(), execution.NewID()
	b.create(unknown, b.installation) // its creation was not answered
	unnamed := b.execution("ended")
	b.row(unknown, unnamed, "creating", "here")
	b.row(never, b.execution("ended"), "creating", "here")
	creating := execution.NewID() // by a worker that is at work
	b.row(creating, b.execution("held"), "creating", "here")
	others := execution.NewID()
	b.row(others, b.execution("ended"), "destroying", "there")

	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpDestroy, Before: errs.E(errs.Unavailable, "The provider does not answer.")})
	if err := b.r.Round(t.Context()); err == nil {
		t.Fatal("a call that failed is not told")
	}
	b.round()
	for _, id := range []uuid.UUID{known, unknown, never} {
		b.want(id, "destroyed")
		b.wantThere(id, "")
	}
	b.want(creating, "creating")
	b.want(others, "destroying")
}

func TestSandboxesOfEndedExecutionsAreAbandoned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, state := range []string{"creating", "starting", "ready", "stopping", "stopped"} {
		ended, goesOn := b.sandbox(b.execution("ended"), state), b.sandbox(b.execution("held"), state)
		b.round()
		b.want(ended, "destroyed")
		b.wantThere(ended, "")
		b.want(goesOn, state)
		b.wantThere(goesOn, sandbox.Ready)
	}
}

func TestKeptSandboxIsStoppedAndExpires(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.sandbox(b.execution("ended"), "kept")
	b.round()
	b.want(id, "kept")
	b.wantThere(id, sandbox.Stopped)
	stops := b.fake.Calls(sandboxtest.OpStop)
	b.round()
	if n := b.fake.Calls(sandboxtest.OpStop); n != stops {
		t.Errorf("what is stopped is stopped again: %d calls", n)
	}
	b.passed("keep_until", "sandboxes", id, 2*time.Hour)
	b.round()
	b.want(id, "destroyed")
	b.wantThere(id, "")
}

func TestGoneSandboxes(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"ready", "parked", "held", "ended"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			x := b.execution(place)
			state := "ready"
			if place == "ended" {
				state = "kept"
			}
			id := execution.NewID()
			b.row(id, x, state, "here")
			b.round()
			b.clock = b.clock.Add(goneGap - time.Millisecond)
			b.round()
			b.want(id, state) // not yet
			b.clock = b.clock.Add(time.Millisecond)
			b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpGet, Before: errs.E(errs.Unavailable, "The provider does not answer.")})
			if err := b.r.Round(t.Context()); place != "held" && !errs.Is(err, errs.Unavailable) {
				t.Fatalf("an outage is told as %v", err)
			}
			b.want(id, state) // an outage is no answer
			b.round()
			if place == "held" {
				b.want(id, "ready") // its engine will find out
				return
			}
			b.want(id, "failed")
			wantEvents, wantSignal := 1, int64(1)
			if place == "ended" {
				wantEvents, wantSignal = 0, 0
			}
			events := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM execution_events WHERE execution_id = $1 AND type = 'sandbox.failed'", x)
			if signal := pgtest.Get[int64](t, b.pool, "SELECT signal FROM executions WHERE id = $1", x); events != wantEvents || signal != wantSignal {
				t.Errorf("%d events and signal %d, want %d and %d", events, signal, wantEvents, wantSignal)
			}
			pgtest.CheckInvariants(t, b.pool)
		})
	}
}

// TestOneAnswerIsNotEnough has a provider that denies a sandbox once, and does not list it at all.
func TestOneAnswerIsNotEnough(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := execution.NewID()
	b.create(id, "not listed")
	b.row(id, b.execution("parked"), "ready", "here")
	denied := errs.E(errs.NotFound, "There is no such sandbox.")
	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpGet, Before: denied})
	for range 4 {
		b.round()
		b.clock = b.clock.Add(goneGap)
		b.want(id, "ready")
	}
	// An answer between two denials begins the count anew.
	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpGet, Before: denied})
	b.round()
	b.clock = b.clock.Add(goneGap)
	b.want(id, "ready")
	b.round()
	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpGet, Before: denied, Times: 2})
	b.round()
	b.want(id, "ready")
	b.clock = b.clock.Add(goneGap)
	b.round()
	b.want(id, "failed")
}
