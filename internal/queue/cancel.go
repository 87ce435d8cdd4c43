package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/postgres/dbsqlc"
)

// Cancel asks for the end of an execution. One that was never claimed is canceled when Cancel
// returns; one that has started gets a signal, and ends when its worker has stopped its commands
// and run what runs on a cancel. A second request skips the latter. What commits first wins:
// errs.Finished when it has ended, errs.NotFound when there is none.
func (s *Store) Cancel(ctx context.Context, organizationID, id uuid.UUID, by string) error {
	event, err := json.Marshal(map[string]any{"by": by})
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	err = s.change(ctx, wake{work: true, ids: []uuid.UUID{id}}, func(q *dbsqlc.Queries) error {
		row, err := q.ExecutionLock(ctx, id, organizationID)
		if err != nil {
			return err
		}
		status := execution.Status(row.Status)
		switch {
		case status.Terminal():
			return errs.E(errs.Finished, "The execution has already ended: it is %s.", status.Words())
		case status == execution.Queued:
			return q.ExecutionCancelQueued(ctx, execution.Day(id), event, id)
		default:
			return q.ExecutionRequestCancel(ctx, execution.Day(id), event, id)
		}
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return errs.E(errs.NotFound, "There is no execution with this id.")
	}
	if err != nil {
		return fmt.Errorf("canceling an execution: %w", err)
	}
	return nil
}
