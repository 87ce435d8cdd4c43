package engine

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/reconcile"
)

// SandboxStore reads the sandboxes rows. Writes go through the journal, or are package reconcile's. Safe for concurrent use.
type SandboxStore struct {
	q    *dbsqlc.Queries
	rest *reconcile.Store
}

// NewSandboxStore returns a store on the pool.
func NewSandboxStore(pool *pgxpool.Pool) *SandboxStore {
	return &SandboxStore{q: dbsqlc.New(pool), rest: reconcile.NewStore(pool)}
}

// Installation returns the id of this database's installation, which labels its sandboxes.
func (s *SandboxStore) Installation(ctx context.Context) (uuid.UUID, error) {
	id, err := s.q.InstallationGet(ctx)
	if err != nil {
		return uuid.Nil, fmt.Errorf("reading the installation: %w", err)
	}
	return id, nil
}

// known is a sandbox that the execution has. The provider's id is empty until it was ready once.
type known struct {
	id         uuid.UUID
	provider   string
	host       string
	providerID string
	stopped    bool // or to be stopped, or started again
	expired    bool // it was destroyed because its execution waited too long
	broken     bool // it is to be destroyed
}

// current returns the execution's newest sandbox that has not been destroyed, or has expired; nil if there is none.
func (s *SandboxStore) current(ctx context.Context, executionID uuid.UUID) (found *known, err error) {
	rows, err := s.q.SandboxListByExecution(ctx, executionID)
	if err != nil {
		return nil, fmt.Errorf("reading sandboxes: %w", err)
	}
	for _, row := range rows {
		k := known{id: row.ID, provider: row.Provider, host: row.Host}
		if row.ProviderID != nil {
			k.providerID = *row.ProviderID
		}
		switch row.State {
		case "creating":
			k.providerID = "" // to be found by our id
		case "ready":
		case "starting", "stopping", "stopped":
			k.stopped = true
		case "destroying", "destroyed":
			k.expired = row.Reason != nil && *row.Reason == reconcile.ReasonExpired
			k.broken = !k.expired && row.State == "destroying"
			if !k.expired && !k.broken {
				continue
			}
		default:
			continue
		}
		found = &k
	}
	return found, nil
}
