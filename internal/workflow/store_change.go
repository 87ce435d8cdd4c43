package workflow

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
)

// Changed is the code of a change that was meant for another revision of the workflow.
const Changed errs.Code = "precondition_failed"

// ChangeParams names a workflow as its reader saw it.
type ChangeParams struct {
	OrganizationID uuid.UUID
	WorkflowID     uuid.UUID
	Revision       int64 // 0: any
	Actor          audit.Actor
}

// Update is what becomes of a workflow. What is nil stays.
type Update struct {
	Slug      *string // links with the old one end
	Paused    *bool
	MaxQueued *int // 0: as many as the installation allows
}

// Update changes a workflow. Its pause keeps executions that have not begun from being claimed, from its commit on; what has begun goes
// on. The end of a pause wakes the workers. Changed when the revision is another by now, errs.Conflict when the slug is taken.
func (s *Store) Update(ctx context.Context, p ChangeParams, u Update) (*Workflow, error) {
	var updated *Workflow
	err := s.change(ctx, p, func(tx pgx.Tx, q *dbsqlc.Queries, now dbsqlc.WorkflowLockRow) error {
		params := dbsqlc.WorkflowUpdateParams{Slug: u.Slug, Paused: u.Paused, Actor: p.Actor.Name, ID: p.WorkflowID}
		if u.MaxQueued != nil {
			params.MaxQueued = new(int32(*u.MaxQueued))
		}
		row, err := q.WorkflowUpdate(ctx, params)
		if duplicate, ok := errors.AsType[*pgconn.PgError](err); ok && duplicate.ConstraintName == "workflows_slug" {
			return slugTaken(*u.Slug)
		}
		if err == nil && u.Paused != nil && *u.Paused != (now.PausedAt != nil) {
			err = pause(ctx, q, p.WorkflowID, *u.Paused)
		}
		if err != nil {
			return err
		}
		updated = workflowOf(dbsqlc.WorkflowGetRow(row))
		return record(ctx, tx, audit.Entry{
			Actor: p.Actor, Action: audit.WorkflowUpdate, WorkflowID: &p.WorkflowID, Target: updated.Slug, Data: u.record(now.Slug),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("updating a workflow: %w", err)
	}
	return updated, nil
}

// pause takes what is queued out of the order, or puts it back and wakes the workers. What waits for a concurrency group is passed over
// meanwhile, and is admitted afterwards if there is room: locks of groups come before those of the queue, and keep what waits where it is.
func pause(ctx context.Context, q *dbsqlc.Queries, id uuid.UUID, paused bool) error {
	groups, err := q.GroupLockOfWorkflow(ctx, id)
	if err != nil {
		return err
	}
	if err := q.QueuePause(ctx, paused, id); err != nil {
		return err
	}
	if err := q.GroupPause(ctx, paused, id); err != nil || paused {
		return err
	}
	if err := q.GroupAdmit(ctx, []uuid.UUID{}, groups); err != nil {
		return err
	}
	return q.QueueWake(ctx)
}

// record is what the audit record says of a change.
func (u Update) record(formerSlug string) map[string]any {
	data := map[string]any{}
	if u.Slug != nil {
		data["slug"], data["former_slug"] = *u.Slug, formerSlug
	}
	if u.Paused != nil {
		data["paused"] = *u.Paused
	}
	if u.MaxQueued != nil {
		data["max_queued"] = *u.MaxQueued
	}
	return data
}

// Delete takes a workflow and its secrets away. What it has run stays until retention takes it. Changed when the revision
// is another by now, errs.Conflict while executions have not ended, those in the queue included.
func (s *Store) Delete(ctx context.Context, p ChangeParams) error {
	err := s.change(ctx, p, func(tx pgx.Tx, q *dbsqlc.Queries, now dbsqlc.WorkflowLockRow) error {
		live, err := q.WorkflowIsLive(ctx, p.WorkflowID)
		if err != nil {
			return err
		}
		if live {
			return errs.E(errs.Conflict, "The workflow has executions that have not ended; cancel them or wait for their end.")
		}
		if err := q.WorkflowDelete(ctx, p.WorkflowID); err != nil {
			return err
		}
		if _, err := q.SecretErase(ctx, p.WorkflowID); err != nil {
			return err
		}
		return record(ctx, tx, audit.Entry{Actor: p.Actor, Action: audit.WorkflowDelete, WorkflowID: &p.WorkflowID, Target: now.Slug})
	})
	if err != nil {
		return fmt.Errorf("deleting a workflow: %w", err)
	}
	return nil
}

// change runs f under the workflow's lock, if it is at the revision that is meant.
func (s *Store) change(ctx context.Context, p ChangeParams, f func(pgx.Tx, *dbsqlc.Queries, dbsqlc.WorkflowLockRow) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := dbsqlc.New(tx)
		now, err := lock(ctx, q, p.OrganizationID, p.WorkflowID)
		if err != nil {
			return err
		}
		if p.Revision != 0 && p.Revision != now.Revision {
			return errs.E(Changed, "The workflow has changed since it was read; read it again.")
		}
		return f(tx, q, now)
	})
}

func lock(ctx context.Context, q *dbsqlc.Queries, organizationID, id uuid.UUID) (dbsqlc.WorkflowLockRow, error) {
	row, err := q.WorkflowLock(ctx, id, organizationID)
	if errors.Is(err, pgx.ErrNoRows) {
		return row, notFound()
	}
	return row, err
}
