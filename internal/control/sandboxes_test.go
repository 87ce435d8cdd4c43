package control

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/reconcile"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/sandboxtest"
)

// withSandboxes gives a control plane a provider.
func (b *testBundle) withSandboxes(l *Loops) (*sandboxtest.Fake, *prometheus.Registry) {
	b.t.Helper()
	fake := sandboxtest.NewFake(b.t)
	registry := prometheus.NewRegistry()
	metrics := NewSandboxMetrics("fake", registry)
	l.Sandboxes = &Sandboxes{
		Rest: reconcile.New(reconcile.Config{
			Store: reconcile.NewStore(b.pool), Provider: fake, Host: "here", Logger: zerolog.Nop(), Observe: metrics.Observe,
		}),
		Erase: func(context.Context) error { return nil }, Metrics: metrics,
	}
	return fake, registry
}

// TestHangingProviderHoldsUpNothing has a provider that does not answer: deadlines pass all the same, and the loops end.
func TestHangingProviderHoldsUpNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	fake, _ := b.withSandboxes(b.one)
	fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpList, Gate: make(chan struct{}), Times: -1})
	stop, ended := b.background(b.one.lead)
	await(t, "the call that hangs", func() bool { return fake.Calls(sandboxtest.OpList) == 1 })
	b.awaitTimedOut(b.due())
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestLosingTheLockEndsTheReconciler holds that a call to a provider goes on for no longer than the right to make it.
func TestLosingTheLockEndsTheReconciler(t *testing.T) {
	t.Parallel()
	b := setup(t)
	fake, _ := b.withSandboxes(b.one)
	fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpList, Gate: make(chan struct{}), Times: -1})
	_, ended := b.background(b.one.lead)
	await(t, "the call that hangs", func() bool { return fake.Calls(sandboxtest.OpList) == 1 })
	pgtest.Get[bool](t, b.pool, "SELECT pg_terminate_backend($1, 10000)", b.leader())
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the loss is not told")
		}
	case <-time.After(20 * time.Second): // the call itself has 30
		t.Error("the call outlives the lock")
	}
}

func TestRoundsAreCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	fake, registry := b.withSandboxes(b.one)
	s := b.one.Sandboxes
	orphan := execution.NewID()
	spec := sandbox.Spec{ID: orphan, Labels: map[string]string{
		sandbox.LabelInstallation: pgtest.Get[string](t, b.pool, "SELECT id::text FROM installation"), sandbox.LabelSandbox: orphan.String(),
	}}
	if _, err := fake.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	erased := 0
	s.Erase = func(context.Context) error { erased++; return nil }
	for range 2 {
		if err := s.round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpList, Before: errs.E(errs.Unavailable, "The provider does not answer.")})
	if err := s.round(t.Context()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a failed round says %v", err)
	}
	pgtest.Exec(t, b.pool, "UPDATE installation SET home = $1", uuid.NewString())
	if err := s.round(t.Context()); !errs.Is(err, reconcile.Copied) {
		t.Errorf("a round in a copy says %v", err)
	}
	got := counters(t, registry)
	want := map[string]float64{
		"foundry_reconcile_rounds_total ok": 2, "foundry_reconcile_rounds_total error": 1, "foundry_reconcile_rounds_total refused": 1,
		"foundry_sandbox_orphans_destroyed_total": 1, "foundry_sandbox_calls_total destroy ok fake": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
	if erased != 4 {
		t.Errorf("erased %d times, want 4", erased)
	}
}

// TestOneSandboxSlowsNothingDown holds that a sandbox which cannot be destroyed keeps no other waiting, and no secret.
func TestOneSandboxSlowsNothingDown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	fake, registry := b.withSandboxes(b.one)
	s := b.one.Sandboxes
	erased := 0
	var failure error
	s.Erase = func(context.Context) error { erased++; return failure }
	x := b.due()
	if _, err := b.queue.PassDeadlines(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		pgtest.Exec(t, b.pool, `INSERT INTO sandboxes (id, execution_id, provider, host, provider_id, state, claim)
			VALUES (gen_random_uuid(), $1, 'fake', 'here', 'p', 'destroying', 1)`, x)
	}
	fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpDestroy, Before: errs.E(errs.Unavailable, "The provider does not answer."), Times: 3})
	for range 2 {
		err := s.round(t.Context())
		if err == nil || pauseAfter(time.Minute, err) != reconcile.Every {
			t.Errorf("after %v the pause is %s", err, pauseAfter(time.Minute, err))
		}
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM sandboxes WHERE state = 'destroyed'"); n != 1 || erased != 2 {
		t.Errorf("%d sandboxes were destroyed, and secrets erased %d times; want 1 and 2", n, erased)
	}
	if n := counters(t, registry)["foundry_reconcile_rounds_total partial"]; n != 2 {
		t.Errorf("%v rounds are counted as partial", n)
	}
	failure = errs.E(errs.Unavailable, "The database does not answer.")
	fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpDestroy, Before: failure})
	if err := s.round(t.Context()); pauseAfter(time.Minute, err) != 2*time.Minute {
		t.Errorf("after %v the pause is %s", err, pauseAfter(time.Minute, err))
	}
}

func TestPauseAfterFailures(t *testing.T) {
	t.Parallel()
	pause, down := reconcile.Every, errs.E(errs.Unavailable, "The provider does not answer.")
	for _, want := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute} {
		if pause = pauseAfter(pause, down); pause != want {
			t.Errorf("the pause is %s, want %s", pause, want)
		}
	}
	if pause = pauseAfter(pause, nil); pause != reconcile.Every {
		t.Errorf("the pause after a round that went well is %s", pause)
	}
}

// counters reads a registry: names followed by the values of labels, in the order of the labels' names.
func counters(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			values[name] = metric.GetCounter().GetValue()
		}
	}
	return values
}
