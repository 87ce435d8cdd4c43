package queue

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"foundry/internal/postgres/dbsqlc"
)

// SignalSecrets has the workflow's executions that run, and have read their secrets, mask what was set since. It is called once the new
// value is committed, in a transaction of its own: an execution's row is locked before those of secrets. Whoever is in no worker's hands
// reads the new value at the next claim. Calling it in vain does no harm.
func (s *Store) SignalSecrets(ctx context.Context, workflowID uuid.UUID) error {
	err := s.announce(ctx, func(tx dbsqlc.DBTX) (wake, error) {
		signaled, err := dbsqlc.New(tx).QueueSignalSecrets(ctx, workflowID)
		return wake{work: len(signaled) > 0}, err
	})
	if err != nil {
		return fmt.Errorf("signaling the readers of secrets: %w", err)
	}
	return nil
}
