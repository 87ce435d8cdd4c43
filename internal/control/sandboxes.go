package control

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"foundry/internal/errs"
	"foundry/internal/lifecycle"
	"foundry/internal/reconcile"
)

// sandboxRetryMost bounds the pause after a round that fails.
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
			Name: "foundry_reconcile_rounds_total", Help: "Rounds of the sandbox reconciler, by outcome: ok, partial when single sandboxes were left to the next, error, or refused in a copy of the database.",
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

// run makes rounds until ctx ends.
func (s *Sandboxes) run(ctx context.Context, l *Loops) {
	pause := reconcile.Every
	for {
		err := s.round(ctx)
		if ctx.Err() != nil {
			return
		}
		if pause = pauseAfter(pause, err); err != nil && !reconcile.IsLeft(err) {
			l.Logger.Warn().Err(err).Dur("pause", pause).Msg("reconciling sandboxes failed; trying again")
		}
		if !lifecycle.Sleep(ctx, pause+rand.N(pause/4)) { //nolint:gosec // jitter
			return
		}
	}
}

// pauseAfter is the pause after a round that returned err, where the one before it was pause: longer and longer, up to five minutes, when
// the database or the list of sandboxes is not to be had. Single sandboxes change nothing: what they cannot do, the others can.
func pauseAfter(pause time.Duration, err error) time.Duration {
	if err == nil || reconcile.IsLeft(err) {
		return reconcile.Every
	}
	return min(2*pause, sandboxRetryMost)
}

// round is one of the reconciler, with the secrets that its end frees: also those of sandboxes that have ended without it.
func (s *Sandboxes) round(ctx context.Context) error {
	err := s.Rest.Round(ctx)
	outcome := "ok"
	switch {
	case err == nil:
	case errs.Is(err, reconcile.Copied):
		outcome = "refused"
	case reconcile.IsLeft(err):
		outcome = "partial"
	default:
		outcome = "error"
	}
	s.Metrics.rounds.WithLabelValues(outcome).Inc()
	return errors.Join(err, s.Erase(ctx))
}
