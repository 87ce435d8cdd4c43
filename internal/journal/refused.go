package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/postgres/dbsqlc"
)

// endInternal ends an execution whose data was refused, and returns what its callers get.
func (j *Journal) endInternal(ctx context.Context, r right) error {
	failure := &execution.Failure{Code: string(errs.Internal), Message: "Foundry could not store what the execution did."}
	end, err := j.refusal(ctx, r, failure)
	if err != nil {
		return err
	}
	_, refused, err := j.persist(ctx, []*pending{end})
	switch {
	case err != nil:
		return err
	case refused[end] != nil:
		return refused[end]
	}
	return errs.E(errs.Internal, "%s", failure.Message)
}

// Fail ends an execution that no worker can go on with, together with what it leaves behind. Its errors are
// those of Commit.
func (j *Journal) Fail(ctx context.Context, executionID uuid.UUID, claim int64, failure execution.Failure) error {
	end, err := j.refusal(ctx, right{executionID, claim}, &failure)
	if err != nil {
		return err
	}
	end.entry.Started = true
	_, err = j.Commit(ctx, end.entry)
	return err
}

// refusal is the entry that ends an execution together with what it leaves behind: its unfinished
// node runs are interrupted, and its sandboxes are to be destroyed, which a sweep does. What it reads stays
// true until it is written: only the holder of the claim writes these rows, through this journal.
func (j *Journal) refusal(ctx context.Context, r right, failure *execution.Failure) (*pending, error) {
	var runs []dbsqlc.NodeRunListRow
	var sandboxes []dbsqlc.SandboxListByExecutionRow
	err := j.untilDone(ctx, func() (err error) {
		q := dbsqlc.New(j.pool)
		if runs, err = q.NodeRunList(ctx, r.executionID); err != nil {
			return err
		}
		sandboxes, err = q.SandboxListByExecution(ctx, r.executionID)
		return err
	})
	if err != nil {
		return nil, err
	}
	entry := &Entry{ExecutionID: r.executionID, Claim: r.claim, Signal: math.MaxInt64, End: &End{Status: execution.Failed, Failure: failure}}
	for _, run := range runs {
		if execution.NodeStatus(run.Status).Terminal() {
			continue
		}
		entry.NodeRuns = append(entry.NodeRuns, NodeRun{
			ID: run.ID, Key: run.NodeKey, Index: int(run.Index), Attempt: int(run.Attempt), Status: execution.NodeInterrupted, Failure: failure,
		})
		if err := entry.addError(event.NodeInterrupted, run.ID, failure); err != nil {
			return nil, err
		}
	}
	for _, s := range sandboxes { // those that are being destroyed, or are gone, stay as they are
		entry.Sandboxes = append(entry.Sandboxes, Sandbox{
			ID: s.ID, Provider: s.Provider, Host: s.Host, State: SandboxDestroying, Reason: failure.Message,
		})
	}
	if err := entry.addError(event.ExecutionFailed, uuid.Nil, failure); err != nil {
		return nil, err
	}
	return &pending{entry: entry}, nil
}

func (e *Entry) addError(t event.Type, nodeRun uuid.UUID, failure *execution.Failure) error {
	data, err := json.Marshal(map[string]*execution.Failure{"error": failure})
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	e.Records = append(e.Records, Record{Type: t, NodeRunID: nodeRun, Data: data})
	return nil
}
