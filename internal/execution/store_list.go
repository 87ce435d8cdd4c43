package execution

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"foundry/internal/postgres/dbsqlc"
)

// ListParams filters and pages a list, newest first. What is nil or empty filters nothing.
type ListParams struct {
	OrganizationID uuid.UUID
	WorkflowID     *uuid.UUID
	ParentID       *uuid.UUID // the execution whose nodes run them
	Statuses       []Status   // any of these
	Sources        []Source   // any of these
	Actor          string     // the name of who asked for it
	CreatedAfter   *time.Time // exclusive; to the millisecond, by the time in the id
	CreatedBefore  *time.Time // exclusive
	Before         *uuid.UUID // the last id of the page before
	Limit          int        // at most 201: one more than a page, to know whether there is another
}

// List returns a page of executions without inputs and outputs. Whatever the filters leave out, it reads little more
// than it returns.
func (s *Store) List(ctx context.Context, p ListParams) ([]Execution, error) {
	rows, err := s.listRows(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("listing executions: %w", err)
	}
	list := make([]Execution, 0, len(rows))
	for _, row := range rows {
		failure, err := failureFrom(row.Error)
		if err != nil {
			return nil, err
		}
		list = append(list, Execution{
			ID: row.ID, WorkflowID: row.WorkflowID, WorkflowSlug: row.WorkflowSlug, Version: int(row.WorkflowVersion),
			Number: row.Number, Status: Status(row.Status), Source: Source(row.Source), Actor: row.Actor, Priority: int(row.Priority),
			LastSeq: row.LastSeq, WorkerID: row.WorkerID, Group: row.ConcurrencyGroup, Blocked: row.Blocked,
			QueuedAt: row.QueuedAt, ClaimedAt: row.ClaimedAt, StartedAt: row.StartedAt,
			CancelRequestedAt: row.CancelRequestedAt, FinishedAt: row.FinishedAt, Failure: failure,
		})
	}
	return list, nil
}

// listRows asks the query whose index the filters need.
func (s *Store) listRows(ctx context.Context, p ListParams) ([]dbsqlc.ExecutionListRow, error) {
	first, below := p.idRange()
	lim := int32(p.Limit)
	sources, statuses := p.set()
	switch {
	case p.ParentID != nil:
		rows, err := s.q.ExecutionListOfParent(ctx, dbsqlc.ExecutionListOfParentParams{
			ParentID: *p.ParentID, OrganizationID: p.OrganizationID, WorkflowID: p.WorkflowID, Actor: p.Actor, Sources: sources, Statuses: statuses,
			First: first, Below: below, Lim: lim,
		})
		return listed(rows, func(r dbsqlc.ExecutionListOfParentRow) dbsqlc.ExecutionListRow { return dbsqlc.ExecutionListRow(r) }), err
	case p.Actor != "" && p.WorkflowID != nil:
		rows, err := s.q.ExecutionListOfWorkflowByActor(ctx, dbsqlc.ExecutionListOfWorkflowByActorParams{
			OrganizationID: p.OrganizationID, WorkflowID: *p.WorkflowID, Actor: p.Actor, Sources: sources, Statuses: statuses,
			First: first, Below: below, Lim: lim,
		})
		return listed(rows, func(r dbsqlc.ExecutionListOfWorkflowByActorRow) dbsqlc.ExecutionListRow {
			return dbsqlc.ExecutionListRow(r)
		}), err
	case p.Actor != "":
		rows, err := s.q.ExecutionListByActor(ctx, dbsqlc.ExecutionListByActorParams{
			OrganizationID: p.OrganizationID, Actor: p.Actor, Sources: sources, Statuses: statuses, First: first, Below: below, Lim: lim,
		})
		return listed(rows, func(r dbsqlc.ExecutionListByActorRow) dbsqlc.ExecutionListRow { return dbsqlc.ExecutionListRow(r) }), err
	case p.WorkflowID != nil:
		rows, err := s.q.ExecutionListOfWorkflow(ctx, dbsqlc.ExecutionListOfWorkflowParams{
			OrganizationID: p.OrganizationID, WorkflowID: *p.WorkflowID, Sources: sources, Statuses: statuses, First: first, Below: below, Lim: lim,
		})
		return listed(rows, func(r dbsqlc.ExecutionListOfWorkflowRow) dbsqlc.ExecutionListRow { return dbsqlc.ExecutionListRow(r) }), err
	default:
		return s.q.ExecutionList(ctx, dbsqlc.ExecutionListParams{
			OrganizationID: p.OrganizationID, Sources: sources, Statuses: statuses, First: first, Below: below, Lim: lim,
		})
	}
}

// listed gives the rows of a list query, which all have the same columns, one type.
func listed[T any](rows []T, convert func(T) dbsqlc.ExecutionListRow) []dbsqlc.ExecutionListRow {
	list := make([]dbsqlc.ExecutionListRow, 0, len(rows))
	for _, row := range rows {
		list = append(list, convert(row))
	}
	return list
}

// set returns the sources and statuses to merge, each once: all of them where there is no filter.
func (p *ListParams) set() (sources, statuses []string) {
	for _, source := range Sources() {
		if len(p.Sources) == 0 || slices.Contains(p.Sources, source) {
			sources = append(sources, string(source))
		}
	}
	for _, status := range Statuses() {
		if len(p.Statuses) == 0 || slices.Contains(p.Statuses, status) {
			statuses = append(statuses, string(status))
		}
	}
	return sources, statuses
}

// idRange returns the ids of the list: from first to below, which is left out.
func (p *ListParams) idRange() (first, below uuid.UUID) {
	below = uuid.Max
	if p.CreatedAfter != nil {
		first = FirstID(p.CreatedAfter.Truncate(time.Millisecond).Add(time.Millisecond))
	}
	if p.CreatedBefore != nil {
		below = FirstID(*p.CreatedBefore)
	}
	if p.Before != nil && bytes.Compare(p.Before[:], below[:]) < 0 {
		below = *p.Before
	}
	return first, below
}

// FirstID returns what no id made at t or later is below, and no id made in an earlier millisecond is above.
func FirstID(t time.Time) (id uuid.UUID) {
	ms := min(max(t.UnixMilli(), 0), 1<<48-1)
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}
