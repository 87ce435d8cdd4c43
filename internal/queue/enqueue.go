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
	"foundry/internal/workflow"
)

// Request asks for an execution. Inputs have been checked against the version.
type Request struct {
	ID             uuid.UUID // zero: a new one
	OrganizationID uuid.UUID
	WorkflowID     uuid.UUID
	Version        int
	Source         execution.Source
	Actor          string          // the name of who asks; may be empty
	Priority       int             // -10…10
	Inputs         json.RawMessage // a JSON object with the defaults filled in
	Timeout        time.Duration   // from the first claim; 0 is none
	QueueTimeout   time.Duration   // the longest wait for the first claim
	Group          *workflow.Group // that it enters; nil without one
	// Parent is the node that runs it; nil without one. It enters no group that the parent, or one above it, has a slot in.
	Parent *Parent
	Once   *idempotency.Guard[Queued] // nil: every time. Enqueue only
}

// Fill takes from the version what the request does not say: limits of time, and the group that it enters with these inputs, as
// Definition.ValidateInputs returns them. Source and Version are set before. A group without a name is errs.Validation.
func (r *Request) Fill(def *workflow.Definition, slug string, inputs map[string]any) (err error) {
	if r.Inputs, err = json.Marshal(inputs); err != nil {
		return fmt.Errorf("encoding inputs: %w", err)
	}
	r.Timeout, r.QueueTimeout = def.Timeout, def.QueueTimeout
	r.Group, err = def.EnterGroup(inputs, workflow.GroupFacts{Source: string(r.Source), Version: r.Version, Workflow: slug})
	return err
}

// Parent is the node run that an execution belongs to. It has no other.
type Parent struct {
	ExecutionID uuid.UUID
	NodeRunID   uuid.UUID
	Depth       int // of the parent: 0 to MaxDepth - 1
}

// MaxDepth is how many parents may be above an execution.
const MaxDepth = 5

// Full is the code of an execution that is refused because as many of its workflow are queued as may be.
const Full errs.Code = "queue_full"

// Queued is an admitted execution.
type Queued struct {
	ID       uuid.UUID
	Number   int64
	QueuedAt time.Time
}

// Enqueue admits an execution: when it returns nil, the execution is durable, and ready or waiting for its group. It is one
// transaction, which those of its workflow share that come while another is under way, and workers are woken with it or, if they have just been woken, within 5 ms. What it is to replace in its group gets a cancel
// afterwards, here and again by CancelSuperseded. errs.NotFound when the organization has no such workflow, Full when as many of it are queued
// as may be, GroupConflict, GroupHeldByParent.
func (s *Store) Enqueue(ctx context.Context, r Request) (Queued, error) {
	n, err := newcomerOf(r)
	if err != nil {
		return Queued{}, err
	}
	if r.Once == nil && r.Group == nil && r.Parent == nil {
		shared, err := s.enqueues.Run(ctx, lane{r.OrganizationID, r.WorkflowID}, n)
		if err != nil {
			return Queued{}, fmt.Errorf("enqueuing an execution: %w", err)
		}
		if !shared.alone {
			return shared.queued, nil
		}
	}
	return s.enqueueAlone(ctx, r, n)
}

// enqueueAlone is Enqueue in a transaction of its own.
func (s *Store) enqueueAlone(ctx context.Context, r Request, n *newcomer) (Queued, error) {
	var queued Queued
	err := s.transact(ctx, wake{work: true, ids: []uuid.UUID{n.ID}}, func(tx dbsqlc.DBTX) (err error) {
		queued, err = r.Once.Do(ctx, tx, func() (Queued, error) {
			return admitOne(ctx, dbsqlc.New(tx), s.queuedMax, n)
		})
		return err
	})
	if err != nil {
		return Queued{}, fmt.Errorf("enqueuing an execution: %w", err)
	}
	s.supersede(ctx, n)
	return queued, nil
}

// Admission is what a transaction admits.
type Admission struct {
	Requests  []Request
	QueuedMax int // as of a store; 0 is DefaultQueuedMax
	// Leaving are executions, locked by the caller, that end in the same transaction. Where a request enters a group, theirs are locked with
	// it, so that all groups of the transaction are locked in one order. They do not leave by this.
	Leaving []uuid.UUID
}

// Admitted is what became of a request.
type Admitted struct {
	Queued
	Refused *errs.Error // nil: it is admitted. Else nothing of it was written, for one of the reasons of Enqueue
}

// Admit admits executions in the caller's transaction, which may go on when some are refused. What became of each is in the order of the
// requests. The caller holds no lock that comes after executions (see the package's comment), and wakes the workers when it commits. An error,
// and not a refusal, means that the transaction must be rolled back. Safe on a postgres.Pipeline, where statements may be left for the next one.
func Admit(ctx context.Context, tx dbsqlc.DBTX, a Admission) ([]Admitted, error) {
	newcomers := make([]*newcomer, len(a.Requests))
	for i, r := range a.Requests {
		n, err := newcomerOf(r)
		if err != nil {
			return nil, err
		}
		newcomers[i] = n
	}
	return admit(ctx, dbsqlc.New(tx), cmp.Or(a.QueuedMax, DefaultQueuedMax), a.Leaving, newcomers...)
}

// newcomer is an execution to be admitted.
type newcomer struct {
	dbsqlc.ExecutionEnqueueParams
	group *workflow.Group // nil without one
}

// admitOne admits one; a refusal is an error.
func admitOne(ctx context.Context, q *dbsqlc.Queries, queuedMax int, n *newcomer) (Queued, error) {
	admitted, err := admit(ctx, q, queuedMax, nil, n)
	if err == nil && admitted[0].Refused != nil {
		err = admitted[0].Refused
	}
	if err != nil {
		return Queued{}, err
	}
	return admitted[0].Queued, nil
}

func admit(ctx context.Context, q *dbsqlc.Queries, queuedMax int, leaving []uuid.UUID, newcomers ...*newcomer) ([]Admitted, error) {
	if err := lockGroups(ctx, q, leaving, newcomers); err != nil {
		return nil, fmt.Errorf("locking concurrency groups: %w", err)
	}
	// Workflows are locked in the order of their ids; executions of one are numbered in that of the requests.
	order := make([]int, len(newcomers))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		return bytes.Compare(newcomers[i].WorkflowID[:], newcomers[j].WorkflowID[:])
	})
	admitted := make([]Admitted, len(newcomers))
	for _, i := range order {
		queued, err := newcomers[i].insert(ctx, q, queuedMax)
		if refused, ok := errors.AsType[*errs.Error](err); ok {
			admitted[i].Refused = refused
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("admitting an execution: %w", err)
		}
		admitted[i].Queued = queued
	}
	return admitted, nil
}

// insert admits an execution. A refusal is an *errs.Error and comes before anything of it is written. Most of the time it is one
// statement, which compares two columns of the workflow's row: how many executions it has had, and how many of these are known to have left
// the queue. Only when their difference has reached the limit are the queued counted, under the workflow's lock; so n that were missing then
// buy n executions that need no count. Neither a claim nor an end has to write the workflow's row. With a group, whose lock is held, it comes
// to those that wait first, and all that there is room for are admitted then: it, or others if its limit is a higher one.
func (n *newcomer) insert(ctx context.Context, q *dbsqlc.Queries, queuedMax int) (Queued, error) {
	n.QueuedMax = int32(queuedMax)
	if n.group != nil {
		if err := n.mayEnter(ctx, q); err != nil {
			return Queued{}, err
		}
	}
	row, err := q.ExecutionEnqueue(ctx, n.ExecutionEnqueueParams)
	if errors.Is(err, pgx.ErrNoRows) {
		if err := n.room(ctx, q); err != nil {
			return Queued{}, err
		}
		row, err = q.ExecutionEnqueue(ctx, n.ExecutionEnqueueParams)
	}
	if err == nil && n.group != nil {
		err = n.enter(ctx, q)
	}
	if err != nil {
		return Queued{}, err
	}
	return Queued{ID: n.ID, Number: row.Number, QueuedAt: row.QueuedAt}, nil
}

// room locks the workflow and counts what of it is queued. nil: one more may be.
func (n *newcomer) room(ctx context.Context, q *dbsqlc.Queries) error {
	limit, err := q.WorkflowLockQueue(ctx, n.QueuedMax, n.WorkflowID, n.OrganizationID)
	if errors.Is(err, pgx.ErrNoRows) {
		return errs.E(errs.NotFound, "There is no workflow with this id.")
	}
	if err != nil {
		return err
	}
	_, err = q.WorkflowCountQueued(ctx, n.WorkflowID, limit.QueuedMax)
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

func newcomerOf(r Request) (*newcomer, error) {
	n := &newcomer{group: r.Group, ExecutionEnqueueParams: dbsqlc.ExecutionEnqueueParams{
		WorkflowID: r.WorkflowID, OrganizationID: r.OrganizationID, ID: r.ID, WorkflowVersion: int32(r.Version), Source: string(r.Source), Actor: r.Actor,
		Priority: int16(r.Priority), QueueTimeoutSeconds: r.QueueTimeout.Seconds(), Inputs: r.Inputs,
	}}
	if n.ID == uuid.Nil {
		n.ID = execution.NewID()
	}
	n.Day = execution.Day(n.ID)
	if r.Timeout > 0 {
		n.TimeoutMs = new(max(r.Timeout.Milliseconds(), 1))
	}
	if p := r.Parent; p != nil {
		n.ParentExecutionID, n.ParentNodeRunID, n.Depth = &p.ExecutionID, &p.NodeRunID, int16(p.Depth+1)
	}
	if g := r.Group; g != nil {
		n.ConcurrencyGroup, n.GroupID = &g.Name, new(GroupID(r.OrganizationID, g.Name))
		n.Cancels = g.OnConflict == workflow.ConflictCancelRunning
	}
	facts := map[string]any{"workflow_id": r.WorkflowID, "version": r.Version, "source": r.Source, "priority": r.Priority}
	if r.Parent != nil {
		facts["parent_execution_id"] = r.Parent.ExecutionID
	}
	return n, n.record(facts)
}

// record makes the data of execution.queued.
func (n *newcomer) record(data map[string]any) (err error) {
	if g := n.group; g != nil {
		data["group"] = map[string]any{"name": g.Name, "limit": g.Limit, "on_conflict": g.OnConflict}
	}
	if n.Event, err = json.Marshal(data); err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	return nil
}
