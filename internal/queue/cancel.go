package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/postgres/dbsqlc"
)

// Cancel asks for the end of an execution. One that was never claimed is canceled when Cancel
// returns; one that has started gets a signal, is ready again if it was parked, and ends when its worker has
// stopped its commands and run what runs on a cancel. A second request skips the latter. What commits first wins:
// errs.Finished when it has ended, errs.NotFound when there is none.
func (s *Store) Cancel(ctx context.Context, organizationID, id uuid.UUID, by string) error {
	return s.cancel(ctx, organizationID, id, by, func(dbsqlc.DBTX) error { return nil })
}

// CancelAs is Cancel for a person or program, whose request goes on record in the same transaction.
func (s *Store) CancelAs(ctx context.Context, by audit.Actor, id uuid.UUID) error {
	return s.cancel(ctx, by.OrganizationID, id, string(by.Kind)+" "+by.Name, func(tx dbsqlc.DBTX) error {
		return audit.Write(ctx, tx, audit.Entry{Actor: by, Action: audit.ExecutionCancel, ExecutionID: &id})
	})
}

func (s *Store) cancel(ctx context.Context, organizationID, id uuid.UUID, by string, record func(dbsqlc.DBTX) error) error {
	event, err := json.Marshal(map[string]any{"by": by})
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	err = s.announce(ctx, func(tx dbsqlc.DBTX) (wake, error) {
		q := dbsqlc.New(tx)
		row, err := lockFamily(ctx, q, organizationID, id)
		if err != nil {
			return wake{}, err
		}
		if status := execution.Status(row.Status); status.Terminal() {
			return wake{}, errs.E(errs.Finished, "The execution has already ended: it is %s.", status.Words())
		}
		if err := cancelLocked(ctx, q, row, event); err != nil {
			return wake{}, err
		}
		return wake{work: true, ids: withParent(id, row.ParentExecutionID)}, record(tx)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return errs.E(errs.NotFound, "There is no execution with this id.")
	}
	if err != nil {
		return fmt.Errorf("canceling an execution: %w", err)
	}
	return nil
}

// lockFamily locks an execution and its parent, if it has one.
func lockFamily(ctx context.Context, q *dbsqlc.Queries, organizationID, id uuid.UUID) (dbsqlc.ExecutionLockRow, error) {
	if err := q.ExecutionLockFamily(ctx, id); err != nil {
		return dbsqlc.ExecutionLockRow{}, err
	}
	return q.ExecutionLock(ctx, id, organizationID)
}

// cancelLocked cancels an execution that has not ended, whose row the transaction has locked, and its parent's, and which nothing was locked
// after.
func cancelLocked(ctx context.Context, q *dbsqlc.Queries, row dbsqlc.ExecutionLockRow, event []byte) error {
	if execution.Status(row.Status) != execution.Queued {
		if err := q.ExecutionRequestCancel(ctx, execution.Day(row.ID), event, row.ID); err != nil {
			return err
		}
		return q.QueueUnpark(ctx, row.ID)
	}
	if row.Grouped {
		// Whether it is blocked or ready is known only under the group's lock.
		if err := lockGroupOf(ctx, q, row.ID); err != nil {
			return err
		}
	}
	if err := q.ExecutionCancelQueued(ctx, execution.Day(row.ID), event, row.ID); err != nil {
		return err
	}
	if row.Grouped {
		if err := leave(ctx, q, row.ID); err != nil {
			return err
		}
	}
	return signalParent(ctx, q, row.ParentExecutionID)
}

// cancelOnce asks for a cancel that nobody has asked for, and returns how many it has: one, or none of what has ended.
func (s *Store) cancelOnce(ctx context.Context, organizationID, id uuid.UUID, data map[string]any) (asked int, err error) {
	return s.cancelUpTo(ctx, organizationID, id, false, data)
}

// cancelUpTo makes the first request for a cancel, and with forced the second, as far as nobody has made them, and returns how many it has
// made. What has ended, or is gone, needs none; what was never claimed ends with the first.
func (s *Store) cancelUpTo(ctx context.Context, organizationID, id uuid.UUID, forced bool, data map[string]any) (asked int, err error) {
	event, err := json.Marshal(data)
	if err != nil {
		return 0, fmt.Errorf("encoding an event: %w", err)
	}
	err = s.announce(ctx, func(tx dbsqlc.DBTX) (wake, error) {
		q := dbsqlc.New(tx)
		row, err := lockFamily(ctx, q, organizationID, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return wake{}, nil
		}
		if err != nil {
			return wake{}, err
		}
		for asked = 0; asked < missing(row, forced); asked++ {
			if err := cancelLocked(ctx, q, row, event); err != nil {
				return wake{}, err
			}
		}
		if asked == 0 {
			return wake{}, nil
		}
		return wake{work: true, ids: withParent(id, row.ParentExecutionID)}, nil
	})
	if err != nil {
		return 0, fmt.Errorf("canceling execution %s: %w", id, err)
	}
	return asked, nil
}

// missing counts the requests for a cancel that are to be made yet.
func missing(row dbsqlc.ExecutionLockRow, forced bool) int {
	status := execution.Status(row.Status)
	switch {
	case status.Terminal():
		return 0
	case row.CancelRequestedAt == nil && forced && status != execution.Queued:
		return 2
	case row.CancelRequestedAt == nil || forced && row.CancelForcedAt == nil:
		return 1
	}
	return 0
}
