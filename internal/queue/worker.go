package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/errs"
	"foundry/internal/failpoint"
	"foundry/internal/postgres/dbsqlc"
)

// DefaultLease is how long a worker's right to its executions lasts after a renewal, unless it is told otherwise.
const DefaultLease = 30 * time.Second

// Worker is a process that claims executions.
type Worker struct {
	ID      uuid.UUID
	Host    string
	PID     int
	Version string
	Slots   int
	Lease   time.Duration
}

// Join registers a worker as active, with a fresh lease. Its id is never used again.
func (s *Store) Join(ctx context.Context, w Worker) error {
	err := failpoint.Around(ctx, "queue.join", func() error {
		return s.q.WorkerInsert(ctx, dbsqlc.WorkerInsertParams{
			ID: w.ID, Host: w.Host, Pid: int32(w.PID), Version: w.Version, Slots: int32(w.Slots), LeaseSeconds: w.Lease.Seconds(),
		})
	})
	if err != nil {
		return fmt.Errorf("registering the worker: %w", err)
	}
	return nil
}

// Renew makes the worker's lease last from now and returns everything that it holds: an engine whose
// execution is missing, or has another claim, must stop. errs.StaleClaim: the worker is gone.
func (s *Store) Renew(ctx context.Context, workerID uuid.UUID, lease time.Duration) ([]Held, error) {
	var held []Held
	err := failpoint.Around(ctx, "queue.renew", func() error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			q := dbsqlc.New(tx)
			n, err := q.WorkerRenew(ctx, lease.Seconds(), workerID)
			if err != nil {
				return err
			}
			if n == 0 {
				return errs.E(errs.StaleClaim, "This worker has been declared gone.")
			}
			rows, err := q.WorkerHeld(ctx, &workerID)
			held = heldFrom(rows)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("renewing the lease: %w", err)
	}
	return held, nil
}

// Drain stops the worker from claiming.
func (s *Store) Drain(ctx context.Context, workerID uuid.UUID) error {
	if err := failpoint.Around(ctx, "queue.drain", func() error { return s.q.WorkerDrain(ctx, workerID) }); err != nil {
		return fmt.Errorf("draining the worker: %w", err)
	}
	return nil
}

// Leave marks the worker gone, for good.
func (s *Store) Leave(ctx context.Context, workerID uuid.UUID) error {
	if err := failpoint.Around(ctx, "queue.leave", func() error { return s.q.WorkerLeave(ctx, workerID) }); err != nil {
		return fmt.Errorf("leaving: %w", err)
	}
	return nil
}
