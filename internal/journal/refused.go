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
	err := j.endBy(ctx, r, End{Status: execution.Failed, Failure: failure}, failure, func(end *Entry) error {
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
	return j.leave(ctx, right{executionID, claim}, End{Status: execution.Failed, Failure: &failure}, &failure)
}

// Force ends an execution as canceled or timed out, together with what it leaves behind, when its worker cannot reach that. failure
// is the execution's and may be nil; lost is that of its commands. Its errors are those of Commit.
func (j *Journal) Force(ctx context.Context, executionID uuid.UUID, claim int64, status execution.Status, failure *execution.Failure, lost execution.Failure) error {
	return j.leave(ctx, right{executionID, claim}, End{Status: status, Failure: failure}, &lost)
}

func (j *Journal) leave(ctx context.Context, r right, end End, lost *execution.Failure) error {
	return j.endBy(ctx, r, end, lost, func(last *Entry) error {
		last.Started = true
		_, err := j.Commit(ctx, last)
		return err
	})
}

// endBy has the entry written that ends an execution. When that is refused since a fact has changed, the entry is made anew.
func (j *Journal) endBy(ctx context.Context, r right, end End, lost *execution.Failure, write func(*Entry) error) error {
	for try := 1; ; try++ {
		last, err := j.refusal(ctx, r, end, lost)
		if err != nil {
			return err
		}
		if err = write(last); !errs.Is(err, errs.Conflict) || try == refusalTries {
			return err
		}
	}
}

// refusal is the entry that ends an execution together with what it leaves behind: its unfinished node runs are interrupted, with the
// failure lost, but the waits of one that was canceled or timed out are canceled; its sandboxes are to be destroyed, which a sweep does. Others than the holder of the claim
// write these rows too, and raise the signal with it: it is read first, so that the entry is refused with errs.Conflict
// when what it was made of is not true any more.
func (j *Journal) refusal(ctx context.Context, r right, end End, lost *execution.Failure) (*Entry, error) {
	var facts []dbsqlc.JournalFactsRow
	var runs []dbsqlc.NodeRunListRow
	var sandboxes []dbsqlc.SandboxListByExecutionRow
	err := j.untilDone(ctx, func() (err error) {
		q := dbsqlc.New(j.pool)
		if facts, err = q.JournalFacts(ctx, r.executionID); err != nil {
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
	entry := &Entry{ExecutionID: r.executionID, Claim: r.claim, End: &end}
	for _, f := range facts { // none: it is gone, and the entry is refused
		entry.Signal, entry.Parent = f.Signal, f.ParentExecutionID
	}
	for _, run := range runs {
		if execution.NodeStatus(run.Status).Terminal() {
			continue
		}
		status, failure := execution.NodeInterrupted, lost
		if end.Status != execution.Failed && execution.NodeStatus(run.Status) == execution.NodeWaiting {
			status, failure = execution.NodeCanceled, nil
		}
		entry.NodeRuns = append(entry.NodeRuns, NodeRun{
			ID: run.ID, Key: run.NodeKey, Index: int(run.Index), Attempt: int(run.Attempt), Status: status, Failure: failure,
		})
		if err := entry.addEnd(event.Type("node."+string(status)), run.ID, failure); err != nil {
			return nil, err
		}
	}
	for _, s := range sandboxes { // those that are being destroyed, or are gone, stay as they are
		entry.Sandboxes = append(entry.Sandboxes, Sandbox{
			ID: s.ID, Provider: s.Provider, Host: s.Host, State: SandboxDestroying, Reason: lost.Message,
		})
	}
	if err := entry.addEnd(event.Type("execution."+string(end.Status)), uuid.Nil, end.Failure); err != nil {
		return nil, err
	}
	return entry, nil
}

// addEnd adds the event of an end; nil is no failure.
func (e *Entry) addEnd(t event.Type, nodeRun uuid.UUID, failure *execution.Failure) error {
	if failure == nil {
		e.Records = append(e.Records, Record{Type: t, NodeRunID: nodeRun})
		return nil
	}
	data, err := json.Marshal(map[string]*execution.Failure{"error": failure})
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	e.Records = append(e.Records, Record{Type: t, NodeRunID: nodeRun, Data: data})
	return nil
}
