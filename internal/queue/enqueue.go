package queue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	ID             uuid.UUID // zero: a new one
	OrganizationID uuid.UUID
	WorkflowID     uuid.UUID
	Version        int
	Source         execution.Source
	Actor          string                     // the name of who asks; may be empty
	Priority       int                        // -10…10
	Inputs         json.RawMessage            // a JSON object with the defaults filled in
	Timeout        time.Duration              // from the first claim; 0 is none
	QueueTimeout   time.Duration              // the longest wait for the first claim
	Once           *idempotency.Guard[Queued] // nil: every time. Enqueue only
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
			return insert(ctx, dbsqlc.New(tx), s.queuedMax, params)
		})
		return err
	})
	if err != nil {
		return Queued{}, fmt.Errorf("enqueuing an execution: %w", err)
	}
	return queued, nil
}

// Admission is what a transaction admits.
type Admission struct {
	Requests  []Request
	QueuedMax int // as of a store; 0 is DefaultQueuedMax
}

// Admitted is what became of a request.
type Admitted struct {
	Queued
	Refused *errs.Error // nil: it is admitted. Else nothing of it was written, for one of the reasons of Enqueue
}

// Admit admits executions in the caller's transaction, which may go on when some are refused. What became of each is in the order of the
// requests. The caller holds no lock that comes after executions, and wakes the workers when it commits. An error, and not a
// refusal, means that the transaction must be rolled back. Safe on a postgres.Pipeline.
func Admit(ctx context.Context, tx dbsqlc.DBTX, a Admission) ([]Admitted, error) {
	q, queuedMax := dbsqlc.New(tx), cmp.Or(a.QueuedMax, DefaultQueuedMax)
	order := make([]int, len(a.Requests))
	for i := range order {
		order[i] = i
	}
	// Workflows are locked in the order of their ids; executions of one are numbered in that of the requests.
	slices.SortStableFunc(order, func(i, j int) int {
		return bytes.Compare(a.Requests[i].WorkflowID[:], a.Requests[j].WorkflowID[:])
	})
	admitted := make([]Admitted, len(a.Requests))
	for _, i := range order {
		params, err := enqueueParams(a.Requests[i])
		if err != nil {
			return nil, err
		}
		queued, err := insert(ctx, q, queuedMax, params)
		if refused, ok := errors.AsType[*errs.Error](err); ok {
			admitted[i].Refused = refused
		} else if err != nil {
			return nil, fmt.Errorf("admitting an execution: %w", err)
		}
		admitted[i].Queued = queued
	}
	return admitted, nil
}

// insert admits an execution. A refusal is an *errs.Error and comes before anything of it is written. Most of the time it is one
// statement, which compares two columns of the workflow's row: how many executions it has had, and how many of these are known to have left
// the queue. Only when their difference has reached the limit are the queued counted, under the workflow's lock; so n that were missing then
// buy n executions that need no count. Neither a claim nor an end has to write the workflow's row.
func insert(ctx context.Context, q *dbsqlc.Queries, queuedMax int, params dbsqlc.ExecutionEnqueueParams) (Queued, error) {
	params.QueuedMax = int32(queuedMax)
	row, err := q.ExecutionEnqueue(ctx, params)
	if errors.Is(err, pgx.ErrNoRows) {
		if err := room(ctx, q, params); err != nil {
			return Queued{}, err
		}
		row, err = q.ExecutionEnqueue(ctx, params)
	}
	if err != nil {
		return Queued{}, err
	}
	return Queued{ID: params.ID, Number: row.Number, QueuedAt: row.QueuedAt}, nil
}

// room locks the workflow and counts what of it is queued. nil: one more may be.
func room(ctx context.Context, q *dbsqlc.Queries, params dbsqlc.ExecutionEnqueueParams) error {
	limit, err := q.WorkflowLockQueue(ctx, params.QueuedMax, params.WorkflowID, params.OrganizationID)
	if errors.Is(err, pgx.ErrNoRows) {
		return errs.E(errs.NotFound, "There is no workflow with this id.")
	}
	if err != nil {
		return err
	}
	_, err = q.WorkflowCountQueued(ctx, params.WorkflowID, limit.QueuedMax)
	if errors.Is(err, pgx.ErrNoRows) {
		return full(limit)
	}
	return err
}

func full(limit dbsqlc.WorkflowLockQueueRow) *errs.Error {
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
	id := r.ID
	if id == uuid.Nil {
		id = execution.NewID()
	}
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
