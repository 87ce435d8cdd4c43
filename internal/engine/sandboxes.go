package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/postgres/dbsqlc"
)

// SandboxStore reads the sandboxes rows and writes the ends of sandboxes whose execution has ended; all
// other writes go through the journal. Safe for concurrent use.
type SandboxStore struct {
	q *dbsqlc.Queries
}

// NewSandboxStore returns a store on the pool.
func NewSandboxStore(pool *pgxpool.Pool) *SandboxStore {
	return &SandboxStore{q: dbsqlc.New(pool)}
}

// Current returns the execution's newest sandbox that has not been given up.
func (s *SandboxStore) Current(ctx context.Context, executionID uuid.UUID) (id uuid.UUID, found bool, err error) {
	rows, err := s.q.SandboxListByExecution(ctx, executionID)
	if err != nil {
		return uuid.Nil, false, fmt.Errorf("reading sandboxes: %w", err)
	}
	for _, row := range rows {
		if row.State == "creating" || row.State == "ready" {
			id, found = row.ID, true
		}
	}
	return id, found, nil
}

// Destroy carries out a durable intent to destroy a sandbox and records the result. It is harmless to
// repeat. An empty provider id means that the provider never told one: a creation with the same
// id finds it.
func (e *Engine) Destroy(ctx context.Context, id uuid.UUID, providerID string) error {
	if providerID != "" {
		err := e.Provider.Destroy(ctx, providerID)
		e.metrics.sandboxCalls.WithLabelValues(e.Provider.Name(), "destroy", outcome(err)).Inc()
		if err != nil {
			return fmt.Errorf("destroying a sandbox: %w", err)
		}
	}
	if _, err := e.Sandboxes.q.SandboxFinish(ctx, id); err != nil {
		return fmt.Errorf("recording the end of a sandbox: %w", err)
	}
	return nil
}

// Sweep completes what others have left: it destroys this host's sandboxes whose intent is durable, and
// kept ones whose time has passed.
func (e *Engine) Sweep(ctx context.Context) error {
	provider := e.Provider.Name()
	if err := e.Sandboxes.q.SandboxExpireKept(ctx, provider, e.Host); err != nil {
		return fmt.Errorf("expiring kept sandboxes: %w", err)
	}
	after := uuid.Nil
	for {
		rows, err := e.Sandboxes.q.SandboxListDestroying(ctx, provider, e.Host, after)
		if err != nil {
			return fmt.Errorf("reading sandboxes to destroy: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		for _, row := range rows {
			after = row.ID
			if err := e.sweepOne(ctx, row); err != nil {
				e.Logger.Warn().Err(err).Str("sandbox_id", row.ID.String()).Msg("a sandbox is left to the next sweep")
			}
		}
	}
}

func (e *Engine) sweepOne(ctx context.Context, row dbsqlc.SandboxListDestroyingRow) error {
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	providerID := ""
	if row.ProviderID != nil {
		providerID = *row.ProviderID
	}
	return e.Destroy(ctx, row.ID, providerID)
}

// SweepEvery is how often a worker sweeps.
const SweepEvery = 30 * time.Second
