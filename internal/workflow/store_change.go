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

// Rename gives a workflow another slug; links with the old one end. Changed when the revision is another
// by now, errs.Conflict when the slug is taken.
func (s *Store) Rename(ctx context.Context, p ChangeParams, slug string) (*Workflow, error) {
	var renamed *Workflow
	err := s.change(ctx, p, func(tx pgx.Tx, q *dbsqlc.Queries, now dbsqlc.WorkflowLockRow) error {
		row, err := q.WorkflowSetSlug(ctx, slug, p.WorkflowID)
		if duplicate, ok := errors.AsType[*pgconn.PgError](err); ok && duplicate.ConstraintName == "workflows_slug" {
			return slugTaken(slug)
		}
		if err != nil {
			return err
		}
		renamed = workflowOf(dbsqlc.WorkflowGetRow(row))
		return record(ctx, tx, audit.Entry{
			Actor: p.Actor, Action: audit.WorkflowUpdate, WorkflowID: &p.WorkflowID, Target: slug,
			Data: map[string]any{"slug": slug, "former_slug": now.Slug},
		})
	})
	if err != nil {
		return nil, fmt.Errorf("renaming a workflow: %w", err)
	}
	return renamed, nil
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
