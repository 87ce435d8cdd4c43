package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/idempotency"
	"foundry/internal/postgres/dbsqlc"
)

// Request asks for an execution. Inputs have been checked against the version.
type Request struct {
	OrganizationID uuid.UUID
	WorkflowID     uuid.UUID
	Version        int
	Source         execution.Source
	Actor          string                     // the name of who asks; may be empty
	Priority       int                        // -10…10
	Inputs         json.RawMessage            // a JSON object with the defaults filled in
	Timeout        time.Duration              // from the first claim; 0 is none
	QueueTimeout   time.Duration              // the longest wait for the first claim
	Once           *idempotency.Guard[Queued] // nil: every time
}

// Full is the code of an execution that is refused because as many of its workflow are queued as may be.
const Full errs.Code = "queue_full"

// Queued is an admitted execution.
type Queued struct {
	ID       uuid.UUID
	Number   int64
	QueuedAt time.Time
}

// Enqueue admits an execution: when it returns nil, the execution is durable and ready. It is one
// transaction, and workers are woken with it or, if they have just been woken, within 5 ms. errs.NotFound
// when the organization has no such workflow, Full when as many of it are queued as may be.
func (s *Store) Enqueue(ctx context.Context, r Request) (Queued, error) {
	params, err := enqueueParams(r)
	if err != nil {
		return Queued{}, err
	}
	var queued Queued
	err = s.transact(ctx, wake{work: true, ids: []uuid.UUID{params.ID}}, func(tx dbsqlc.DBTX) (err error) {
		queued, err = r.Once.Do(ctx, tx, func() (Queued, error) {
			row, err := s.insert(ctx, dbsqlc.New(tx), params)
			return Queued{ID: params.ID, Number: row.Number, QueuedAt: row.QueuedAt}, err
		})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Queued{}, errs.E(errs.NotFound, "There is no workflow with this id.")
	}
	if err != nil {
		return Queued{}, fmt.Errorf("enqueuing an execution: %w", err)
	}
	return queued, nil
}

// insert admits an execution in the caller's transaction. pgx.ErrNoRows when the organization has no such workflow, Full when as many of it
// are queued as may be. Most of the time it is one statement, which compares two columns of the workflow's row: how many executions it has
// had, and how many of these are known to have left the queue. Only when their difference has reached the limit are the queued counted, under the
// workflow's lock; so n that were missing then buy n executions that need no count. Neither a claim nor an end has to write the workflow's row.
func (s *Store) insert(ctx context.Context, q *dbsqlc.Queries, params dbsqlc.ExecutionEnqueueParams) (dbsqlc.ExecutionEnqueueRow, error) {
	params.QueuedMax = int32(s.queuedMax)
	row, err := q.ExecutionEnqueue(ctx, params)
	if !errors.Is(err, pgx.ErrNoRows) {
		return row, err
	}
	limit, err := q.WorkflowLockQueue(ctx, params.QueuedMax, params.WorkflowID, params.OrganizationID)
	if err != nil {
		return row, err
	}
	_, err = q.WorkflowCountQueued(ctx, params.WorkflowID, limit.QueuedMax)
	if errors.Is(err, pgx.ErrNoRows) {
		return row, full(limit)
	}
	if err != nil {
		return row, err
	}
	return q.ExecutionEnqueue(ctx, params)
}

func full(limit dbsqlc.WorkflowLockQueueRow) error {
	if limit.MaxQueued != 0 {
		return errs.E(Full, "%d executions of this workflow are queued, as many as its max_queued allows; try again later.", limit.QueuedMax)
	}
	return errs.E(Full, "%d executions of this workflow are queued, as many as FOUNDRY_QUEUED_MAX allows; try again later, or give the workflow "+
		"a max_queued of its own.", limit.QueuedMax)
}

func enqueueParams(r Request) (dbsqlc.ExecutionEnqueueParams, error) {
	event, err := json.Marshal(map[string]any{
		"workflow_id": r.WorkflowID, "version": r.Version, "source": r.Source, "priority": r.Priority,
	})
	if err != nil {
		return dbsqlc.ExecutionEnqueueParams{}, fmt.Errorf("encoding an event: %w", err)
	}
	id := execution.NewID()
	var timeout *int64
	if r.Timeout > 0 {
		ms := max(r.Timeout.Milliseconds(), 1)
		timeout = &ms
	}
	return dbsqlc.ExecutionEnqueueParams{
		WorkflowID: r.WorkflowID, OrganizationID: r.OrganizationID, ID: id, WorkflowVersion: int32(r.Version), Source: string(r.Source), Actor: r.Actor,
		Priority: int16(r.Priority), TimeoutMs: timeout, QueueTimeoutSeconds: r.QueueTimeout.Seconds(),
		Inputs: r.Inputs, Day: execution.Day(id), Event: event,
	}, nil
}
