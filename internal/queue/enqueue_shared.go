package queue

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
)

// Every enqueue locks its workflow's row until its commit, so commits of one workflow's come one after another: 64 clients got 600 to 1,100
// a second. What arrives while one is under way therefore shares the next commit, unless it has an idempotency key or a concurrency group.

// lane is whose enqueues share commits.
type lane struct{ organizationID, workflowID uuid.UUID }

// share is what a shared commit has made of an execution.
type share struct {
	queued Queued
	alone  bool // the commit was refused, perhaps for another's sake: try it alone
}

// enqueueShared admits executions of one workflow in one transaction, or says that each must try alone: then nothing was written.
func (s *Store) enqueueShared(ctx context.Context, l lane, all []*newcomer) ([]share, error) {
	shares := make([]share, len(all))
	many := manyParams(l, s.queuedMax, all)
	err := s.transact(ctx, wake{work: true, ids: many.Ids}, func(tx dbsqlc.DBTX) error {
		rows, err := dbsqlc.New(tx).ExecutionEnqueueMany(ctx, many)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return errAlone
		}
		for i, row := range rows { // numbered in the order that they were given in
			shares[i].queued = Queued{ID: row.ID, Number: row.Number, QueuedAt: row.QueuedAt}
		}
		return nil
	})
	_, refused := errors.AsType[*pgconn.PgError](err)
	if refused && !errs.Is(err, errs.Unknown) || errors.Is(err, errAlone) {
		for i := range shares {
			shares[i] = share{alone: true}
		}
		return shares, nil
	}
	return shares, err
}

// errAlone ends a transaction for which the workflow has no room, or which it has no workflow for.
var errAlone = errors.New("not all of these can be admitted")

func manyParams(l lane, queuedMax int, all []*newcomer) dbsqlc.ExecutionEnqueueManyParams {
	many := dbsqlc.ExecutionEnqueueManyParams{OrganizationID: l.organizationID, WorkflowID: l.workflowID, QueuedMax: int32(queuedMax)}
	for i, p := range all {
		timeout := int64(0)
		if p.TimeoutMs != nil {
			timeout = *p.TimeoutMs
		}
		many.Ids, many.Numbers, many.Versions = append(many.Ids, p.ID), append(many.Numbers, int64(i+1)), append(many.Versions, p.WorkflowVersion)
		many.Sources, many.Actors, many.Priorities = append(many.Sources, p.Source), append(many.Actors, p.Actor), append(many.Priorities, p.Priority)
		many.TimeoutsMs = append(many.TimeoutsMs, timeout)
		many.QueueTimeoutsSeconds = append(many.QueueTimeoutsSeconds, p.QueueTimeoutSeconds)
		many.Inputs, many.Days, many.Events = append(many.Inputs, string(p.Inputs)), append(many.Days, p.Day), append(many.Events, string(p.Event))
	}
	return many
}
