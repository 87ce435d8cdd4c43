package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/idempotency"
	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/workflow"
)

// Why an execution cannot be rerun, or not in this way.
const (
	NotFinished         errs.Code = "execution_not_finished"
	SandboxNotAvailable errs.Code = "sandbox_not_available" // it was not kept, is gone, or another rerun has it
)

// FromFailed runs again what did not complete. A node with this key cannot be chosen.
const FromFailed = "failed"

// SandboxChoice says where a rerun goes on.
type SandboxChoice string

// The choices. SandboxAny is SandboxReuse if the sandbox is kept, else SandboxFresh.
const (
	SandboxAny   SandboxChoice = ""
	SandboxReuse SandboxChoice = "reuse"
	SandboxFresh SandboxChoice = "fresh"
)

// RerunRequest asks for an execution that goes on from what an earlier one has done.
type RerunRequest struct {
	OrganizationID uuid.UUID
	Of             uuid.UUID // the earlier execution, which has ended
	From           string    // FromFailed, or the key of a node
	Latest         bool      // with the newest version of the workflow; else with the same
	Sandbox        SandboxChoice
	Source         execution.Source
	Actor          string                        // the name of who asks; may be empty
	Once           *idempotency.Guard[Rerunning] // nil: every time
}

// Rerunning is an admitted rerun, and what it does.
type Rerunning struct {
	Queued
	Plan *RerunPlan
}

// RerunPlan is what a rerun does.
type RerunPlan struct {
	Of           uuid.UUID
	WorkflowID   uuid.UUID
	WorkflowSlug string
	Version      int
	From         string
	Nodes        []RerunNode // of the version, in text order
	Sandbox      *uuid.UUID  // that the rerun goes on in; nil: a fresh one, which has none of the files
	WhyFresh     string      // a sentence; empty with a sandbox

	priority int
	inputs   json.RawMessage
	text     *workflow.Definition
	group    *workflow.Group // that the rerun enters; nil without one
	idle     bool            // nothing runs
}

// RerunNode is what becomes of one node.
type RerunNode struct {
	Key string
	// Reused are the node runs, one for each index, that stand for the node; nil: it runs, or is decided on anew.
	Reused []uuid.UUID
	// Kept are node runs of a matrix or a repeat that goes on where it was: these indexes do not run again.
	Kept []uuid.UUID
}

// PlanRerun says what a rerun would do, or returns the error that it would return: errs.NotFound, NotFinished, errs.Validation when
// the request does not fit the execution or the version, SandboxNotAvailable.
func (s *Store) PlanRerun(ctx context.Context, texts *workflow.Definitions, r RerunRequest) (*RerunPlan, error) {
	source, err := s.q.RerunSource(ctx, r.Of, r.OrganizationID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errs.E(errs.NotFound, "There is no execution with this id.")
	}
	if err != nil {
		return nil, fmt.Errorf("reading an execution to rerun: %w", err)
	}
	if status := execution.Status(source.Status); !status.Terminal() {
		return nil, errs.E(NotFinished, "Only an execution that has ended can be rerun; this one is %s.", status.Words())
	}
	runs, err := s.q.RerunNodeRunList(ctx, r.Of)
	if err != nil {
		return nil, fmt.Errorf("reading the node runs of an execution to rerun: %w", err)
	}
	plan := &RerunPlan{
		Of: r.Of, WorkflowID: source.WorkflowID, WorkflowSlug: source.WorkflowSlug, Version: int(source.WorkflowVersion), From: r.From,
		priority: int(source.Priority), inputs: source.Inputs,
	}
	if r.Latest {
		plan.Version = int(source.LatestVersion)
	}
	old, err := texts.Get(ctx, plan.WorkflowID, int(source.WorkflowVersion))
	if err != nil {
		return nil, err
	}
	if plan.text, err = texts.Get(ctx, plan.WorkflowID, plan.Version); err != nil {
		return nil, err
	}
	if err := plan.chooseNodes(old, endsOf(runs)); err != nil {
		return nil, err
	}
	if plan.idle && execution.Status(source.Status) == execution.Completed {
		return nil, refusedFrom("There is nothing to run again; name the node to run from.")
	}
	if plan.Version != int(source.WorkflowVersion) {
		if err := plan.checkInputs(); err != nil {
			return nil, err
		}
	}
	if err := plan.chooseGroup(r.Source); err != nil {
		return nil, err
	}
	return plan, plan.chooseSandbox(source, r.Sandbox)
}

// Rerun admits an execution as PlanRerun says, in one transaction that also moves the sandbox. Of two that want the same sandbox one is
// SandboxNotAvailable; one that leaves the choice gets a fresh sandbox then. Its errors are those of PlanRerun, and Full.
func (s *Store) Rerun(ctx context.Context, texts *workflow.Definitions, r RerunRequest) (Rerunning, error) {
	for {
		plan, err := s.PlanRerun(ctx, texts, r)
		if err != nil {
			return Rerunning{}, err
		}
		rerunning, err := s.admit(ctx, r, plan)
		if errs.Is(err, SandboxNotAvailable) && r.Sandbox == SandboxAny {
			continue // it is not kept any more, and never again by the same execution: the next plan has none
		}
		if err != nil {
			return Rerunning{}, fmt.Errorf("enqueuing a rerun: %w", err)
		}
		return rerunning, nil
	}
}

// admit makes a plan true.
func (s *Store) admit(ctx context.Context, r RerunRequest, plan *RerunPlan) (Rerunning, error) {
	n, err := newcomerOf(Request{
		OrganizationID: r.OrganizationID, WorkflowID: plan.WorkflowID, Version: plan.Version, Source: r.Source, Actor: r.Actor,
		Priority: plan.priority, Inputs: plan.inputs, Timeout: plan.text.Timeout, QueueTimeout: plan.text.QueueTimeout,
		Group: plan.group,
	})
	if err != nil {
		return Rerunning{}, err
	}
	n.RerunOf = &plan.Of
	if plan.Sandbox != nil {
		n.SandboxFrom = &plan.Of
	}
	if err = n.record(plan.facts(r)); err != nil {
		return Rerunning{}, err
	}
	var rerunning Rerunning
	err = s.transact(ctx, wake{work: true, ids: []uuid.UUID{n.ID}}, func(tx dbsqlc.DBTX) (err error) {
		rerunning, err = r.Once.Do(ctx, tx, func() (Rerunning, error) {
			q := dbsqlc.New(tx)
			queued, err := admitOne(ctx, q, s.queuedMax, n)
			if err != nil {
				return Rerunning{}, err
			}
			return Rerunning{Queued: queued, Plan: plan}, plan.write(ctx, q, n.ID)
		})
		return err
	})
	if err == nil {
		s.supersede(ctx, n)
	}
	return rerunning, err
}

// write gives the new execution what it takes over.
func (p *RerunPlan) write(ctx context.Context, q *dbsqlc.Queries, id uuid.UUID) error {
	if p.Sandbox != nil {
		taken, err := q.RerunTakeSandbox(ctx, id, *p.Sandbox, p.Of)
		if err != nil {
			return err
		}
		if len(taken) == 0 {
			return errs.E(SandboxNotAvailable, "The sandbox of the execution has just been taken by another rerun, or is being destroyed.")
		}
	}
	var ids, reused []uuid.UUID
	for _, n := range p.Nodes {
		for _, run := range slices.Concat(n.Reused, n.Kept) {
			ids, reused = append(ids, execution.NewID()), append(reused, run)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	written, err := q.RerunReuseNodeRuns(ctx, id, ids, reused, p.Of)
	if err == nil && len(written) != len(ids) {
		err = fmt.Errorf("%d of %d node runs were there to be reused", len(written), len(ids))
	}
	return err
}

// facts are the data of execution.queued.
func (p *RerunPlan) facts(r RerunRequest) map[string]any {
	data := map[string]any{
		"workflow_id": p.WorkflowID, "version": p.Version, "source": r.Source, "priority": p.priority,
		"rerun_of": p.Of, "from": p.From, "reused": p.ReusedKeys(),
	}
	if p.Sandbox != nil {
		data["sandbox_id"] = *p.Sandbox
	}
	return data
}
