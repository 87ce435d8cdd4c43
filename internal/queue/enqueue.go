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

// Queued is an admitted execution.
type Queued struct {
	ID       uuid.UUID
	Number   int64
	QueuedAt time.Time
}

// Enqueue admits an execution: when it returns nil, the execution is durable and ready. It is one
// transaction, and workers are woken with it or, if they have just been woken, within 5 ms. errs.NotFound
// when the organization has no such workflow.
func (s *Store) Enqueue(ctx context.Context, r Request) (Queued, error) {
	params, err := enqueueParams(r)
	if err != nil {
		return Queued{}, err
	}
	var queued Queued
	err = s.transact(ctx, wake{work: true, ids: []uuid.UUID{params.ID}}, func(tx dbsqlc.DBTX) (err error) {
		queued, err = r.Once.Do(ctx, tx, func() (Queued, error) {
			row, err := dbsqlc.New(tx).ExecutionEnqueue(ctx, params)
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
