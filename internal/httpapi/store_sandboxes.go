package httpapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
)

// sandboxInUse is the code of what is refused because an execution needs the sandbox.
const sandboxInUse errs.Code = "sandbox_in_use"

// sandboxRow is a sandbox that exists.
type sandboxRow struct {
	ID           uuid.UUID
	ExecutionID  uuid.UUID
	WorkflowSlug string
	Number       int64 // of the execution
	Provider     string
	Host         string
	State        string
	Isolation    *string
	Reason       *string
	KeepUntil    *time.Time
	Up           time.Duration // for how long it has been up
	CreatedAt    time.Time
	ReadyAt      *time.Time
}

// Sandboxes returns a page of an organization's sandboxes, newest first, before the id given (nil for the first).
func (s *store) Sandboxes(ctx context.Context, organizationID uuid.UUID, before *uuid.UUID, limit int) ([]sandboxRow, error) {
	rows, err := s.q.SandboxList(ctx, organizationID, before, int32(limit))
	if err != nil {
		return nil, fmt.Errorf("listing sandboxes: %w", err)
	}
	list := make([]sandboxRow, 0, len(rows))
	for _, row := range rows {
		list = append(list, sandboxRow{
			ID: row.ID, ExecutionID: row.ExecutionID, WorkflowSlug: row.WorkflowSlug, Number: row.Number, Provider: row.Provider, Host: row.Host,
			State: row.State, Isolation: row.Isolation, Reason: row.Reason, KeepUntil: row.KeepUntil, Up: milliseconds(row.UpMs),
			CreatedAt: row.CreatedAt, ReadyAt: row.ReadyAt,
		})
	}
	return list, nil
}

// StopSandbox writes the intent to stop a sandbox whose execution waits. A kept one, and one that is stopped or going to be, stays as it is.
func (s *store) StopSandbox(ctx context.Context, by audit.Actor, id uuid.UUID) (sandboxRow, error) {
	return s.changeSandbox(ctx, by, id, audit.SandboxStop, func(q *dbsqlc.Queries, row dbsqlc.SandboxGetRow) (bool, error) {
		switch row.State {
		case "kept", "stopping", "stopped", "destroying":
			return false, nil
		}
		n, err := q.SandboxRequestStop(ctx, id, by.OrganizationID)
		if err == nil && n == 0 {
			err = errs.E(sandboxInUse, "The sandbox is in use: its execution is at work.")
		}
		return n > 0, err
	})
}

// DestroySandbox writes the intent to destroy a sandbox whose execution has ended.
func (s *store) DestroySandbox(ctx context.Context, by audit.Actor, id uuid.UUID) (sandboxRow, error) {
	reason := fmt.Sprintf("%s %s asked for its end.", by.Kind, by.Name)
	return s.changeSandbox(ctx, by, id, audit.SandboxDestroy, func(q *dbsqlc.Queries, row dbsqlc.SandboxGetRow) (bool, error) {
		if row.State == "destroying" {
			return false, nil
		}
		n, err := q.SandboxRequestDestroy(ctx, reason, id, by.OrganizationID)
		if err == nil && n == 0 {
			err = errs.E(sandboxInUse, "The sandbox belongs to an execution that has not ended; cancel that first.")
		}
		return n > 0, err
	})
}

// changeSandbox makes a change, if there is one to make, and records who asked for it. It returns the sandbox as it is then.
func (s *store) changeSandbox(
	ctx context.Context, by audit.Actor, id uuid.UUID, action audit.Action, change func(*dbsqlc.Queries, dbsqlc.SandboxGetRow) (bool, error),
) (sandboxRow, error) {
	var row dbsqlc.SandboxGetRow
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		q := dbsqlc.New(tx)
		if row, err = q.SandboxGet(ctx, id, by.OrganizationID); err != nil {
			return err
		}
		changed, err := change(q, row)
		if err != nil || !changed {
			return err
		}
		err = audit.Write(ctx, tx, audit.Entry{
			Actor: by, Action: action, WorkflowID: &row.WorkflowID, ExecutionID: &row.ExecutionID, Target: id.String(),
		})
		if err != nil {
			return err
		}
		row, err = q.SandboxGet(ctx, id, by.OrganizationID)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return sandboxRow{}, errs.E(errs.NotFound, "There is no sandbox with this id, or not any more.")
	}
	if err != nil {
		return sandboxRow{}, fmt.Errorf("changing a sandbox: %w", err)
	}
	return sandboxRow{
		ID: row.ID, ExecutionID: row.ExecutionID, WorkflowSlug: row.WorkflowSlug, Number: row.Number, Provider: row.Provider, Host: row.Host,
		State: row.State, Isolation: row.Isolation, Reason: row.Reason, KeepUntil: row.KeepUntil, Up: milliseconds(row.UpMs),
		CreatedAt: row.CreatedAt, ReadyAt: row.ReadyAt,
	}, nil
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
