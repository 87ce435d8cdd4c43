package engine

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"foundry/internal/reconcile"
)

// SweepEvery is how often a worker sweeps.
const SweepEvery = reconcile.Every

// newReconciler returns what deals with the sandboxes of this host that no engine drives.
func newReconciler(c Config, m *metrics) *reconcile.Reconciler {
	return reconcile.New(reconcile.Config{
		Store: c.Sandboxes.rest, Provider: c.Provider, Host: c.Place, Logger: c.Logger,
		Observe: func(call reconcile.Call) {
			m.sandboxCalls.WithLabelValues(c.Provider.Name(), call.Name, outcome(call.Err)).Inc()
		},
	})
}

// Destroy carries out a durable intent to destroy a sandbox and records the result. It is harmless to
// repeat. With an empty provider id, the answer to its creation was lost, and it is found by its label.
func (e *Engine) Destroy(ctx context.Context, id uuid.UUID, providerID string) error {
	return e.rest.Destroy(ctx, id, providerID)
}

// Sweep completes what others have left of this host's sandboxes: a round of package reconcile. Values that were kept
// for sandboxes that have ended are erased after it, whatever became of it.
func (e *Engine) Sweep(ctx context.Context) error {
	return errors.Join(e.rest.Round(ctx), e.Secrets.Sweep(ctx))
}
