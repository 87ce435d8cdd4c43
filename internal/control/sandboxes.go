package control

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"foundry/internal/errs"
	"foundry/internal/reconcile"
)

// sandboxRetryMost bounds the pause between rounds that fail.
const sandboxRetryMost = 5 * time.Minute

// Sandboxes is what the reconciler's loop needs.
type Sandboxes struct {
	// Rest makes a round. Its Observe should be SandboxMetrics.Observe.
	Rest *reconcile.Reconciler
	// Erase forgets secrets that were kept for sandboxes that are gone.
	Erase   func(ctx context.Context) error
	Metrics *SandboxMetrics
}

// SandboxMetrics count what the control plane does to sandboxes. Safe for concurrent use.
type SandboxMetrics struct {
	provider string
	rounds   *prometheus.CounterVec
	orphans  prometheus.Counter
	calls    *prometheus.CounterVec
}

// NewSandboxMetrics returns counters for the calls to one provider; a nil registerer registers nothing.
func NewSandboxMetrics(provider string, r prometheus.Registerer) *SandboxMetrics {
	m := &SandboxMetrics{
		provider: provider,
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "foundry_reconcile_rounds_total", Help: "Rounds of the sandbox reconciler, by outcome: ok, error, or refused in a copy of the database.",
		}, []string{"outcome"}),
		orphans: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_sandbox_orphans_destroyed_total", Help: "Sandboxes that were destroyed since no row knew them.",
		}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "foundry_sandbox_calls_total", Help: "Calls that change a sandbox, by provider, call and outcome.",
		}, []string{"provider", "call", "outcome"}),
	}
	if r != nil {
		r.MustRegister(m.rounds, m.orphans, m.calls)
	}
	return m
}

// Observe counts a call.
func (m *SandboxMetrics) Observe(c reconcile.Call) {
	outcome := "ok"
	if c.Err != nil {
		outcome = "error"
	} else if c.Orphan {
		m.orphans.Inc()
	}
	m.calls.WithLabelValues(m.provider, c.Name, outcome).Inc()
}

// run makes rounds until ctx ends. One that fails is followed by a longer pause, up to five minutes.
func (s *Sandboxes) run(ctx context.Context, l *Loops) {
	pause := reconcile.Every
	for {
		err := s.round(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			pause = reconcile.Every
		default:
			pause = min(2*pause, sandboxRetryMost)
			l.Logger.Warn().Err(err).Dur("pause", pause).Msg("reconciling sandboxes failed; trying again")
		}
		timer := time.NewTimer(pause + rand.N(pause/4)) //nolint:gosec // jitter
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// round is one of the reconciler, with the secrets that its end frees.
func (s *Sandboxes) round(ctx context.Context) error {
	err := s.Rest.Round(ctx)
	outcome := "ok"
	switch {
	case errs.Is(err, reconcile.Copied):
		outcome = "refused"
	case err != nil:
		outcome = "error"
	}
	s.Metrics.rounds.WithLabelValues(outcome).Inc()
	if err != nil {
		return err
	}
	return s.Erase(ctx)
}
