package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/postgres/dbsqlc"
)

// Claimed is an execution that a worker has the right to write, and all that its engine needs.
type Claimed struct {
	ID             uuid.UUID
	OrganizationID uuid.UUID
	WorkflowID     uuid.UUID
	WorkflowSlug   string
	Version        int
	Number         int64
	Source         execution.Source
	WorkerID       uuid.UUID
	Claim          int64 // the fencing token of every write
	Facts          Facts
	QueuedAt       time.Time
	ClaimedAt      time.Time
	StartedAt      *time.Time // set: an earlier claim has begun it, so its state must be loaded
	Rerun          bool       // an earlier execution has left it node runs, so its state must be loaded
	Recovered      bool       // under the same claim an engine may have driven it before, so its state must be loaded
	ParentID       *uuid.UUID // the execution whose node runs this one; nil without one
	Depth          int        // how many parents are above it
	Inputs         json.RawMessage
	HasSecrets     bool      // there are secrets to read before anything runs
	ReceivedAt     time.Time // on this machine's monotonic clock
}

// Facts are what others have decided about an execution. Signal rises with each change.
type Facts struct {
	Signal         int64
	Canceled       bool // a cancel was requested
	CancelForced   bool // and once more: skip what would run on a cancel
	DeadlinePassed bool
}

// Held is an execution that a worker holds, as the database sees it.
type Held struct {
	ID    uuid.UUID
	Claim int64
	Facts Facts
}

// Claim takes at most limit executions, the first in order. It never waits for a lock, and takes
// nothing for a worker that is not active, and nothing of the workflows to avoid. Readers of the
// executions are woken by the journal's first commit, which follows at once.
func (s *Store) Claim(ctx context.Context, workerID uuid.UUID, limit int, avoid ...uuid.UUID) ([]Claimed, error) {
	if avoid == nil {
		avoid = []uuid.UUID{} // nil is NULL, which nothing differs from
	}
	var rows []dbsqlc.QueueClaimRow
	err := failpoint.Around(ctx, "queue.claim", func() (err error) {
		rows, err = s.q.QueueClaim(ctx, avoid, workerID, int32(limit))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claiming executions: %w", err)
	}
	return claimedFrom(workerID, rows), nil
}

// Recover returns those of the executions given that the worker holds: claims whose answer was lost, and those whose
// engine has stopped.
func (s *Store) Recover(ctx context.Context, workerID uuid.UUID, ids []uuid.UUID) ([]Claimed, error) {
	rows, err := s.q.QueueHeld(ctx, &workerID, ids)
	if err != nil {
		return nil, fmt.Errorf("recovering claims: %w", err)
	}
	same := make([]dbsqlc.QueueClaimRow, 0, len(rows))
	for _, row := range rows {
		same = append(same, dbsqlc.QueueClaimRow(row))
	}
	claimed := claimedFrom(workerID, same)
	for i := range claimed {
		claimed[i].Recovered = true
	}
	return claimed, nil
}

func claimedFrom(workerID uuid.UUID, rows []dbsqlc.QueueClaimRow) []Claimed {
	claimed := make([]Claimed, 0, len(rows))
	now := time.Now()
	for _, row := range rows {
		claimed = append(claimed, Claimed{
			ID: row.ID, WorkerID: workerID, OrganizationID: row.OrganizationID, WorkflowID: row.WorkflowID, WorkflowSlug: row.WorkflowSlug,
			Version: int(row.WorkflowVersion), Number: row.Number, Source: execution.Source(row.Source), Claim: row.Claim,
			Facts:    Facts{Signal: row.Signal, Canceled: row.Canceled, CancelForced: row.CancelForced, DeadlinePassed: row.DeadlinePassed},
			QueuedAt: row.QueuedAt, ClaimedAt: *row.ClaimedAt, StartedAt: row.StartedAt, Rerun: row.Rerun, Inputs: row.Inputs,
			ParentID: row.ParentExecutionID, Depth: int(row.Depth),
			HasSecrets: row.HasSecrets, ReceivedAt: now,
		})
	}
	return claimed
}

// Release gives a claim back: the execution is the first to be claimed again. The reason is a sentence that its
// history shows. errs.StaleClaim when the claim was not the worker's any more.
func (s *Store) Release(ctx context.Context, id uuid.UUID, claim int64, reason string) error {
	event, err := json.Marshal(map[string]any{"reason": reason, "claim": claim})
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	err = s.change(ctx, wake{work: true, ids: []uuid.UUID{id}}, func(q *dbsqlc.Queries) error {
		released, err := q.QueueRelease(ctx, id, claim, execution.Day(id), event)
		if err == nil && len(released) == 0 {
			return errs.E(errs.StaleClaim, "The right to this execution is gone.")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("releasing execution %s: %w", id, err)
	}
	return nil
}

// Held returns everything that the worker holds.
func (s *Store) Held(ctx context.Context, workerID uuid.UUID) ([]Held, error) {
	rows, err := s.q.WorkerHeld(ctx, &workerID)
	if err != nil {
		return nil, fmt.Errorf("reading what the worker holds: %w", err)
	}
	return heldFrom(rows), nil
}

func heldFrom(rows []dbsqlc.WorkerHeldRow) []Held {
	held := make([]Held, 0, len(rows))
	for _, row := range rows {
		held = append(held, Held{ID: row.ID, Claim: row.Claim, Facts: Facts{
			Signal: row.Signal, Canceled: row.Canceled, CancelForced: row.CancelForced, DeadlinePassed: row.DeadlinePassed,
		}})
	}
	return held
}
