package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/postgres/dbsqlc"
)

// Reaped is what one round of the reaper has done.
type Reaped struct {
	Gone  []uuid.UUID // workers whose lease has run out
	Freed []uuid.UUID // executions that workers held that are gone
}

// Reap declares gone whose lease has run out, and frees what workers hold that are gone, whenever they went. Any
// number of processes may call it at once; none may before it has known the database for one lease, or it
// would take an outage of the database for the death of every worker.
func (s *Store) Reap(ctx context.Context) (Reaped, error) {
	var gone []uuid.UUID
	err := failpoint.Around(ctx, "queue.reap", func() (err error) {
		gone, err = s.q.WorkerReap(ctx)
		return err
	})
	if err != nil {
		return Reaped{}, fmt.Errorf("reading leases: %w", err)
	}
	freed, err := s.free(ctx, func(q *dbsqlc.Queries) ([]uuid.UUID, error) {
		return q.QueueFreeLost(ctx, "The worker that held the execution is gone.")
	})
	if err != nil {
		return Reaped{Gone: gone, Freed: freed}, fmt.Errorf("freeing executions: %w", err)
	}
	return Reaped{Gone: gone, Freed: freed}, nil
}

// FreeAll gives back everything that the worker holds, first in order. Its engines must have stopped.
func (s *Store) FreeAll(ctx context.Context, workerID uuid.UUID, reason string) ([]uuid.UUID, error) {
	freed, err := s.free(ctx, func(q *dbsqlc.Queries) ([]uuid.UUID, error) {
		return q.QueueFreeAll(ctx, &workerID, reason)
	})
	if err != nil {
		return freed, fmt.Errorf("giving executions back: %w", err)
	}
	return freed, nil
}

// freeBatch is how many executions one transaction frees.
const freeBatch = 100

// free calls one, each time in a transaction of its own, until there is nothing left.
func (s *Store) free(ctx context.Context, one func(*dbsqlc.Queries) ([]uuid.UUID, error)) (all []uuid.UUID, err error) {
	for {
		ids, err := s.ready(ctx, one)
		all = append(all, ids...)
		if err != nil || len(ids) < freeBatch {
			return all, err
		}
	}
}

// ready is a transaction that makes executions ready, with the wake-up for those who claim and those who read.
func (s *Store) ready(ctx context.Context, f func(*dbsqlc.Queries) ([]uuid.UUID, error)) (ids []uuid.UUID, err error) {
	err = s.announce(ctx, func(tx dbsqlc.DBTX) (wake, error) {
		ids, err = f(dbsqlc.New(tx))
		return wake{work: len(ids) > 0, ids: ids}, err
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// UnparkDue makes ready what a time moves on, and returns how many these were. Any number of processes may call it at once.
func (s *Store) UnparkDue(ctx context.Context) (int, error) {
	const batch = 500
	for all := 0; ; {
		ids, err := s.ready(ctx, func(q *dbsqlc.Queries) ([]uuid.UUID, error) { return q.QueueUnparkDue(ctx) })
		all += len(ids)
		if err != nil {
			return all, fmt.Errorf("reading timers: %w", err)
		}
		if len(ids) < batch {
			return all, nil
		}
	}
}

// Misplaced returns executions, at most 100, that are in no place at this instant. There are none unless Foundry is wrong.
func (s *Store) Misplaced(ctx context.Context) ([]uuid.UUID, error) {
	ids, err := s.q.QueueMisplaced(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for misplaced executions: %w", err)
	}
	return ids, nil
}

// Replace makes a misplaced execution ready, or blocked if it is of a group and has no slot there. It reports false when it has a place after all.
func (s *Store) Replace(ctx context.Context, id uuid.UUID) (bool, error) {
	replaced, err := s.ready(ctx, func(q *dbsqlc.Queries) ([]uuid.UUID, error) {
		ids, err := q.QueueReplace(ctx, id)
		if err != nil || len(ids) > 0 {
			return ids, err
		}
		lost, err := q.GroupLost(ctx, execution.Day(id), id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return []uuid.UUID{id}, block(ctx, q, id, lost)
	})
	if err != nil {
		return false, fmt.Errorf("replacing execution %s: %w", id, err)
	}
	return len(replaced) > 0, nil
}

// block has an execution wait for its group again, if need be.
func block(ctx context.Context, q *dbsqlc.Queries, id uuid.UUID, lost dbsqlc.GroupLostRow) error {
	group := GroupID(lost.OrganizationID, lost.Name)
	err := q.GroupEnter(ctx, dbsqlc.GroupEnterParams{
		Ids: []uuid.UUID{group}, OrganizationIds: []uuid.UUID{lost.OrganizationID}, Names: []string{lost.Name}, Limits: []int32{lost.MaxRunning},
		Leaving: []uuid.UUID{},
	})
	if err != nil {
		return err
	}
	if err := q.GroupWait(ctx, id, group, lost.RunOrder, lost.Paused); err != nil {
		return err
	}
	return q.GroupAdmit(ctx, []uuid.UUID{}, []uuid.UUID{group})
}
