package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"foundry/internal/execution"
	"foundry/internal/postgres/dbsqlc"
)

// PassDeadlines turns deadlines that have passed, at most 100 of each kind a call, into facts: an
// execution that was claimed gets a signal, one that waited too long for its first claim ends
// timed_out. It returns how many it changed. Any number of processes may call it at once.
func (s *Store) PassDeadlines(ctx context.Context) (int, error) {
	due, err := s.q.ExecutionDeadlinesDue(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading deadlines: %w", err)
	}
	waited, err := s.q.ExecutionQueueDeadlinesDue(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading queue deadlines: %w", err)
	}
	ids := make([]uuid.UUID, 0, len(waited))
	late := make(map[uuid.UUID]dbsqlc.ExecutionQueueDeadlinesDueRow, len(waited))
	for _, row := range waited {
		ids, late[row.ID] = append(ids, row.ID), row
	}
	passed, err := each(ctx, due, s.passDeadline)
	ended, waitedErr := each(ctx, ids, func(ctx context.Context, id uuid.UUID) (int, error) { return s.timeOutQueued(ctx, late[id]) })
	return passed + ended, errors.Join(err, waitedErr)
}

// each calls f for all ids, so that one which Postgres refuses does not hold up those behind it, and
// counts. It stops when there is no answer at all.
func each(ctx context.Context, ids []uuid.UUID, f func(context.Context, uuid.UUID) (int, error)) (changed int, failed error) {
	for _, id := range ids {
		n, err := f(ctx, id)
		changed += n
		failed = errors.Join(failed, err)
		if _, refused := errors.AsType[*pgconn.PgError](err); err != nil && !refused {
			break
		}
	}
	return changed, failed
}

func (s *Store) passDeadline(ctx context.Context, id uuid.UUID) (int, error) {
	var changed []uuid.UUID
	err := s.change(ctx, wake{work: true}, func(q *dbsqlc.Queries) (err error) {
		changed, err = q.ExecutionPassDeadline(ctx, id)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("passing the deadline of %s: %w", id, err)
	}
	return len(changed), nil
}

func (s *Store) timeOutQueued(ctx context.Context, late dbsqlc.ExecutionQueueDeadlinesDueRow) (int, error) {
	id, message := late.ID, "No worker took the execution before its queue-timeout had passed."
	if late.Blocked {
		message = "Its concurrency group had no room for the execution before its queue-timeout had passed."
	}
	failure, err := json.Marshal(execution.Failure{Code: "queue_timeout", Message: message})
	if err != nil {
		return 0, fmt.Errorf("encoding a failure: %w", err)
	}
	event := fmt.Appendf(nil, `{"error":%s}`, failure)
	var changed []uuid.UUID
	err = s.change(ctx, wake{work: late.Grouped || late.ParentExecutionID != nil, ids: withParent(id, late.ParentExecutionID)}, func(q *dbsqlc.Queries) (err error) {
		// What is locked before the execution: that one is locked only where nobody has to be waited for.
		if late.ParentExecutionID != nil {
			if err = q.ChildLockParent(ctx, *late.ParentExecutionID); err != nil {
				return err
			}
		}
		if late.Grouped {
			if err = lockGroupOf(ctx, q, id); err != nil {
				return err
			}
		}
		changed, err = q.ExecutionTimeOutQueued(ctx, id, failure, execution.Day(id), event)
		if err == nil && late.Grouped && len(changed) > 0 {
			err = leave(ctx, q, id)
		}
		if err == nil && len(changed) > 0 {
			err = signalParent(ctx, q, late.ParentExecutionID)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("timing out %s: %w", id, err)
	}
	return len(changed), nil
}
