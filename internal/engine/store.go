package engine

import (
	"context"
	"fmt"

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

// Installation returns the id of this database's installation, which labels its sandboxes.
func (s *SandboxStore) Installation(ctx context.Context) (uuid.UUID, error) {
	id, err := s.q.InstallationGet(ctx)
	if err != nil {
		return uuid.Nil, fmt.Errorf("reading the installation: %w", err)
	}
	return id, nil
}

// ReasonExpired is the reason on the row of a sandbox that was destroyed since its execution waited for days.
const ReasonExpired = "The execution waited for too long to keep its sandbox."

// known is a sandbox that the execution has. The provider's id is empty until it was ready once.
type known struct {
	id         uuid.UUID
	provider   string
	host       string
	providerID string
	stopped    bool // or to be stopped, or started again
	expired    bool // it was destroyed because its execution waited too long
}

// current returns the execution's newest sandbox that has not been given up, or has expired; nil if there is none.
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
			if row.Reason == nil || *row.Reason != ReasonExpired {
				continue
			}
			k.expired = true
		default:
			continue
		}
		found = &k
	}
	return found, nil
}

// finish records that a sandbox was destroyed. Nothing changes if another process was first.
func (s *SandboxStore) finish(ctx context.Context, id uuid.UUID) error {
	if _, err := s.q.SandboxFinish(ctx, id); err != nil {
		return fmt.Errorf("recording the end of a sandbox: %w", err)
	}
	return nil
}

// expireKept turns kept sandboxes whose time has passed into intents to destroy them.
func (s *SandboxStore) expireKept(ctx context.Context, provider, host string) error {
	if err := s.q.SandboxExpireKept(ctx, provider, host); err != nil {
		return fmt.Errorf("expiring kept sandboxes: %w", err)
	}
	return nil
}

// doomed is a sandbox whose intent to be destroyed is durable.
type doomed struct {
	id         uuid.UUID
	providerID string // empty when the provider never told one
}

// destroying returns at most 100 sandboxes to destroy, by id, from the one after the id given.
func (s *SandboxStore) destroying(ctx context.Context, provider, host string, after uuid.UUID) ([]doomed, error) {
	rows, err := s.q.SandboxListDestroying(ctx, provider, host, after)
	if err != nil {
		return nil, fmt.Errorf("reading sandboxes to destroy: %w", err)
	}
	list := make([]doomed, 0, len(rows))
	for _, row := range rows {
		d := doomed{id: row.ID}
		if row.ProviderID != nil {
			d.providerID = *row.ProviderID
		}
		list = append(list, d)
	}
	return list, nil
}
