package journal

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/postgres/dbsqlc"
)

// refusalTries bounds how often an end is decided anew since somebody has changed a fact meanwhile: a person decides on
// an approval, asks for a cancel, or rotates a secret.
const refusalTries = 10

// endInternal ends an execution whose data was refused, and returns what its callers get.
func (j *Journal) endInternal(ctx context.Context, r right) error {
	failure := &execution.Failure{Code: string(errs.Internal), Message: "Foundry could not store what the execution did."}
	err := j.endBy(ctx, r, failure, func(end *Entry) error {
		p := &pending{entry: end}
		_, refused, err := j.persist(ctx, []*pending{p})
		if err != nil {
			return err
		}
		return refused[p]
	})
	if err != nil {
		return err
	}
	return errs.E(errs.Internal, "%s", failure.Message)
}

// Fail ends an execution that no worker can go on with, together with what it leaves behind. Its errors are
// those of Commit.
func (j *Journal) Fail(ctx context.Context, executionID uuid.UUID, claim int64, failure execution.Failure) error {
	return j.endBy(ctx, right{executionID, claim}, &failure, func(end *Entry) error {
		end.Started = true
		_, err := j.Commit(ctx, end)
		return err
	})
}

// endBy has the entry written that ends an execution. When that is refused since a fact has changed, the entry is made anew.
func (j *Journal) endBy(ctx context.Context, r right, failure *execution.Failure, write func(*Entry) error) error {
	for try := 1; ; try++ {
		end, err := j.refusal(ctx, r, failure)
		if err != nil {
			return err
		}
		if err = write(end); !errs.Is(err, errs.Conflict) || try == refusalTries {
			return err
		}
	}
}

// refusal is the entry that ends an execution together with what it leaves behind: its unfinished
// node runs are interrupted, and its sandboxes are to be destroyed, which a sweep does. Others than the holder of the claim
// write these rows too, and raise the signal with it: it is read first, so that the entry is refused with errs.Conflict
// when what it was made of is not true any more.
func (j *Journal) refusal(ctx context.Context, r right, failure *execution.Failure) (*Entry, error) {
	var signal int64
	var runs []dbsqlc.NodeRunListRow
	var sandboxes []dbsqlc.SandboxListByExecutionRow
	err := j.untilDone(ctx, func() (err error) {
		q := dbsqlc.New(j.pool)
		if signal, err = q.JournalSignal(ctx, r.executionID); err != nil {
			return err
		}
		if runs, err = q.NodeRunList(ctx, r.executionID); err != nil {
			return err
		}
		sandboxes, err = q.SandboxListByExecution(ctx, r.executionID)
		return err
	})
	if err != nil {
		return nil, err
	}
	entry := &Entry{ExecutionID: r.executionID, Claim: r.claim, Signal: signal, End: &End{Status: execution.Failed, Failure: failure}}
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
	return entry, nil
}

func (e *Entry) addError(t event.Type, nodeRun uuid.UUID, failure *execution.Failure) error {
	data, err := json.Marshal(map[string]*execution.Failure{"error": failure})
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	e.Records = append(e.Records, Record{Type: t, NodeRunID: nodeRun, Data: data})
	return nil
}
