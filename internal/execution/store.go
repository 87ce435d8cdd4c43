package execution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
)

// Store reads executions and their node runs. Safe for concurrent use.
type Store struct {
	q *dbsqlc.Queries
}

// NewStore returns a store on the pool.
func NewStore(pool *pgxpool.Pool) *Store {
	return &Store{q: dbsqlc.New(pool)}
}

// Get returns one execution of the organization, with its data. errs.NotFound if there is none, errs.Expired if there may have been:
// the day in the id is one whose history was dropped.
func (s *Store) Get(ctx context.Context, organizationID, id uuid.UUID) (*Execution, error) {
	row, err := s.q.ExecutionGet(ctx, id, organizationID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, s.missing(ctx, id)
	}
	if err != nil {
		return nil, fmt.Errorf("reading execution %s: %w", id, err)
	}
	failure, err := failureFrom(row.Error)
	if err != nil {
		return nil, err
	}
	return &Execution{
		ID: row.ID, WorkflowID: row.WorkflowID, WorkflowSlug: row.WorkflowSlug, Version: int(row.WorkflowVersion),
		Number: row.Number, Status: Status(row.Status), Source: Source(row.Source), Actor: row.Actor, Priority: int(row.Priority),
		LastSeq: row.LastSeq, WorkerID: row.WorkerID, RerunOf: row.RerunOf, Group: row.ConcurrencyGroup, Blocked: row.Blocked, Parent: parentFrom(&row),
		QueuedAt: row.QueuedAt, ClaimedAt: row.ClaimedAt, StartedAt: row.StartedAt, DeadlineAt: row.DeadlineAt,
		CancelRequestedAt: row.CancelRequestedAt, FinishedAt: row.FinishedAt,
		Inputs: row.Inputs, Outputs: row.Outputs, Failure: failure,
	}, nil
}

// parentFrom is nil where retention has taken a part of the parent away.
func parentFrom(row *dbsqlc.ExecutionGetRow) *Parent {
	if row.ParentID == nil || row.ParentNumber == nil || row.ParentWorkflow == nil || row.ParentNode == nil || row.ParentIndex == nil {
		return nil
	}
	return &Parent{
		ExecutionID: *row.ParentID, WorkflowSlug: *row.ParentWorkflow, Number: *row.ParentNumber, Node: *row.ParentNode, Index: int(*row.ParentIndex),
	}
}

// missing is the error for an id that no execution has. What is gone leaves no row, but its id says of which day it was; that says
// nothing of whether there ever was such an execution, nor whose.
func (s *Store) missing(ctx context.Context, id uuid.UUID) error {
	if id.Version() == 7 {
		expired, err := s.q.ExecutionExpired(ctx, Day(id))
		if err != nil {
			return fmt.Errorf("looking for the day of execution %s: %w", id, err)
		}
		if expired {
			return errs.E(errs.Expired, "Executions of %s are kept no more.", Day(id).Format(time.DateOnly))
		}
	}
	return errs.E(errs.NotFound, "There is no execution with this id.")
}

// Summary is the few facts of an execution that list screens show live.
type Summary struct {
	ID             uuid.UUID
	OrganizationID uuid.UUID
	Execution      Execution // without data, worker and cancel time
}

// Summaries returns those of the executions given that exist, in no order.
func (s *Store) Summaries(ctx context.Context, ids []uuid.UUID) ([]Summary, error) {
	rows, err := s.q.ExecutionSummaries(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("reading summaries: %w", err)
	}
	list := make([]Summary, 0, len(rows))
	for _, row := range rows {
		list = append(list, Summary{ID: row.ID, OrganizationID: row.OrganizationID, Execution: Execution{
			ID: row.ID, WorkflowSlug: row.WorkflowSlug, Version: int(row.WorkflowVersion), Number: row.Number,
			Status: Status(row.Status), Source: Source(row.Source), LastSeq: row.LastSeq,
			QueuedAt: row.QueuedAt, StartedAt: row.StartedAt, FinishedAt: row.FinishedAt,
		}})
	}
	return list, nil
}

// Head is how far an execution's sequence has come.
type Head struct {
	LastSeq  int64
	Finished bool
}

// Heads returns the heads of those of the executions given that exist.
func (s *Store) Heads(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]Head, error) {
	rows, err := s.q.ExecutionHeads(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("reading heads: %w", err)
	}
	heads := make(map[uuid.UUID]Head, len(rows))
	for _, row := range rows {
		heads[row.ID] = Head{LastSeq: row.LastSeq, Finished: row.Finished}
	}
	return heads, nil
}

// Place is where a ready execution stands in the queue.
type Place struct {
	Ahead       int        // ready executions that go first, counted to 1,001
	PausedSince *time.Time // its workflow is, and it has not begun: it is not claimed; else nil
	PausedBy    string     // the name of a user or token
}

// QueuePosition returns where a ready execution stands. ok is false when it is not in the queue.
func (s *Store) QueuePosition(ctx context.Context, id uuid.UUID) (place Place, ok bool, err error) {
	row, err := s.q.ExecutionQueuePosition(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Place{}, false, nil
	}
	if err != nil {
		return Place{}, false, fmt.Errorf("reading the position in the queue: %w", err)
	}
	place = Place{Ahead: int(row.Ahead)}
	if row.Paused {
		place.PausedSince, place.PausedBy = row.PausedAt, row.PausedBy
	}
	return place, true, nil
}

// holdersShown is how many holders of a concurrency group are named.
const holdersShown = 20

// Block is what an execution waits for that its concurrency group has no room for.
type Block struct {
	Place   // among those that wait for the group
	Group   string
	Limit   int
	Held    int         // how many have a slot; more than Limit after it was lowered
	Holders []uuid.UUID // the oldest of these, 20 at most
}

// Blocked returns what a blocked execution waits for. ok is false when it is not blocked.
func (s *Store) Blocked(ctx context.Context, id uuid.UUID) (block Block, ok bool, err error) {
	row, err := s.q.GroupOfWaiter(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Block{}, false, nil
	}
	if err != nil {
		return Block{}, false, fmt.Errorf("reading what an execution waits for: %w", err)
	}
	block = Block{Group: row.Name, Limit: int(row.MaxRunning), Held: int(row.Held), Place: Place{Ahead: int(row.Ahead)}, Holders: []uuid.UUID{}}
	if row.Paused {
		block.PausedSince, block.PausedBy = row.PausedAt, row.PausedBy
	}
	holders, err := s.q.GroupHolders(ctx, row.ID, holdersShown)
	if err != nil {
		return Block{}, false, fmt.Errorf("reading who holds a concurrency group: %w", err)
	}
	for _, h := range holders {
		block.Holders = append(block.Holders, h.ID)
	}
	return block, true, nil
}

// Hold says what holds up an execution that has begun: the type of the event that says so, and its reason as a sentence, which may be
// empty. The type is empty when nothing does.
func (s *Store) Hold(ctx context.Context, id uuid.UUID) (event, reason string, err error) {
	row, err := s.q.EventHold(ctx, Day(id), id)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("reading what holds up an execution: %w", err)
	}
	return row.Type, row.Reason, nil
}

// Settle waits until no transaction is under way that might still write the execution under this claim;
// what is read after that is final. errs.StaleClaim when the claim is gone or the execution has ended.
func (s *Store) Settle(ctx context.Context, id uuid.UUID, claim int64) (Settled, error) {
	row, err := s.q.ExecutionSettle(ctx, id, claim)
	if errors.Is(err, pgx.ErrNoRows) {
		return Settled{}, errs.E(errs.StaleClaim, "The right to this execution is gone.")
	}
	if err != nil {
		return Settled{}, fmt.Errorf("settling execution %s: %w", id, err)
	}
	return Settled{
		Started: row.StartedAt != nil, Signal: row.Signal, CanceledAt: row.CancelRequestedAt,
		CancelForced: row.CancelForcedAt != nil, DeadlinePassed: row.DeadlinePassedAt != nil,
	}, nil
}

// Settled is what an execution's row says when nobody is writing it.
type Settled struct {
	Started        bool
	Signal         int64
	CanceledAt     *time.Time // when the first cancel was requested, by the database's clock
	CancelForced   bool
	DeadlinePassed bool
}

// NodeRuns returns every node run of an execution, by key, index and attempt.
func (s *Store) NodeRuns(ctx context.Context, id uuid.UUID) ([]NodeRun, error) {
	rows, err := s.q.NodeRunList(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading node runs: %w", err)
	}
	list := make([]NodeRun, 0, len(rows))
	for _, row := range rows {
		failure, err := failureFrom(row.Error)
		if err != nil {
			return nil, err
		}
		run := NodeRun{
			ID: row.ID, Key: row.NodeKey, Index: int(row.Index), Attempt: int(row.Attempt), Status: NodeStatus(row.Status),
			SandboxID: row.SandboxID, Cursor: row.Cursor, StdoutBytes: row.StdoutBytes, StderrBytes: row.StderrBytes,
			Outputs: row.Outputs, Failure: failure, StartedAt: row.StartedAt, FinishedAt: row.FinishedAt,
			Prompt: row.Prompt, Decision: row.Decision, DueAt: row.DueAt, DueIn: pause(row.DueAt, row.ReadAt), RetryIn: pause(row.RetryAt, row.ReadAt), ReusedFrom: row.ReusedFrom,
			Combination: row.Matrix, ChildID: row.ChildID,
		}
		if row.ExitCode != nil {
			code := int(*row.ExitCode)
			run.ExitCode = &code
		}
		if row.Summary != nil {
			run.Summary = *row.Summary
		}
		list = append(list, run)
	}
	return list, nil
}

// pause is how long an instant is away from now, nil for none.
func pause(at *time.Time, now time.Time) *time.Duration {
	if at == nil {
		return nil
	}
	d := at.Sub(now)
	return &d
}

func failureFrom(raw []byte) (*Failure, error) {
	if raw == nil {
		return nil, nil //nolint:nilnil // no failure is not an error
	}
	var f Failure
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("decoding a stored failure: %w", err)
	}
	return &f, nil
}
