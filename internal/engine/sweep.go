package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"foundry/internal/sandbox"
)

// SweepEvery is how often a worker sweeps.
const SweepEvery = 30 * time.Second

// Destroy carries out a durable intent to destroy a sandbox and records the result. It is harmless to
// repeat. With an empty provider id, the answer to its creation was lost, and it is found by its label.
func (e *Engine) Destroy(ctx context.Context, id uuid.UUID, providerID string) error {
	ids := []string{providerID}
	if providerID == "" {
		infos, err := e.Provider.List(ctx, map[string]string{sandbox.LabelSandbox: id.String()})
		if err != nil {
			return fmt.Errorf("looking for a sandbox: %w", err)
		}
		ids = nil
		for _, info := range infos {
			ids = append(ids, info.ProviderID)
		}
	}
	for _, providerID := range ids {
		err := e.Provider.Destroy(ctx, providerID)
		e.metrics.sandboxCalls.WithLabelValues(e.Provider.Name(), "destroy", outcome(err)).Inc()
		if err != nil {
			return fmt.Errorf("destroying a sandbox: %w", err)
		}
	}
	return e.Sandboxes.finish(ctx, id)
}

// Sweep completes what others have left: it destroys this host's sandboxes whose intent is durable, and
// kept ones whose time has passed. Values that were kept for them are erased.
func (e *Engine) Sweep(ctx context.Context) error {
	if err := e.Secrets.Sweep(ctx); err != nil {
		return err
	}
	provider := e.Provider.Name()
	if err := e.Sandboxes.expireKept(ctx, provider, e.Host); err != nil {
		return err
	}
	for after := uuid.Nil; ; {
		list, err := e.Sandboxes.destroying(ctx, provider, e.Host, after)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, d := range list {
			after = d.id
			if err := e.sweepOne(ctx, d); err != nil {
				e.Logger.Warn().Err(err).Str("sandbox_id", d.id.String()).Msg("a sandbox is left to the next sweep")
			}
		}
	}
}

func (e *Engine) sweepOne(ctx context.Context, d doomed) error {
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	return e.Destroy(ctx, d.id, d.providerID)
}
