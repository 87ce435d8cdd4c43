package httpapi

import (
	"context"
	"time"

	"github.com/google/uuid"

	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
)

func (h *handlers) ListExecutions(ctx context.Context, r openapi.ListExecutionsRequestObject) (openapi.ListExecutionsResponseObject, error) {
	before, err := decodeID(listExecutions, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, pageDefault)
	params := execution.ListParams{OrganizationID: principal(ctx).OrganizationID, Before: before, Limit: limit + 1}
	params.Actor, params.ParentID = valueOr(r.Params.Actor, ""), r.Params.Parent
	params.CreatedAfter, params.CreatedBefore = r.Params.CreatedAfter, r.Params.CreatedBefore
	for _, status := range valueOr(r.Params.Status, nil) {
		params.Statuses = append(params.Statuses, execution.Status(status))
	}
	for _, source := range valueOr(r.Params.Source, nil) {
		params.Sources = append(params.Sources, execution.Source(source))
	}
	if r.Params.Workflow != nil {
		w, err := h.workflows.Get(ctx, params.OrganizationID, *r.Params.Workflow)
		if err != nil {
			return nil, err
		}
		params.WorkflowID = &w.ID
	}
	executions, err := h.executions.List(ctx, params)
	if err != nil {
		return nil, err
	}
	executions, next := page(listExecutions, executions, limit, func(e execution.Execution) string { return e.ID.String() })
	answer := openapi.ListExecutions200JSONResponse{Data: make([]openapi.ExecutionListed, 0, len(executions)), NextCursor: next}
	for i := range executions {
		answer.Data = append(answer.Data, listedJSON(&executions[i]))
	}
	return answer, nil
}

func (h *handlers) GetExecution(ctx context.Context, r openapi.GetExecutionRequestObject) (openapi.GetExecutionResponseObject, error) {
	answer, err := h.execution(ctx, r.Execution)
	if err != nil {
		return nil, err
	}
	tag, err := contentTag(answer)
	if err != nil {
		return nil, err
	}
	if unchanged(r.Params.IfNoneMatch, tag) {
		return openapi.GetExecution304Response{Headers: openapi.GetExecution304ResponseHeaders{ETag: tag}}, nil
	}
	return openapi.GetExecution200JSONResponse{Body: answer, Headers: openapi.GetExecution200ResponseHeaders{ETag: tag}}, nil
}

func (h *handlers) CancelExecution(ctx context.Context, r openapi.CancelExecutionRequestObject) (openapi.CancelExecutionResponseObject, error) {
	if err := h.queue.CancelAs(ctx, actorOf(ctx), r.Execution); err != nil {
		return nil, err
	}
	answer, err := h.execution(ctx, r.Execution)
	if err != nil {
		return nil, err
	}
	return openapi.CancelExecution202JSONResponse(answer), nil
}

func (h *handlers) execution(ctx context.Context, id uuid.UUID) (openapi.Execution, error) {
	e, err := h.executions.Get(ctx, principal(ctx).OrganizationID, id)
	if err != nil {
		return openapi.Execution{}, err
	}
	waiting, err := h.waitingFor(ctx, e)
	if err != nil {
		return openapi.Execution{}, err
	}
	return executionJSON(e, waiting), nil
}

func executionJSON(e *execution.Execution, waiting *openapi.WaitingFor) openapi.Execution {
	l := listedJSON(e)
	return openapi.Execution{
		ID: l.ID, Number: l.Number, Status: l.Status, Source: l.Source, Workflow: l.Workflow, Version: l.Version, WorkflowID: l.WorkflowID, Actor: l.Actor,
		LastSeq: l.LastSeq, Priority: l.Priority, ConcurrencyGroup: l.ConcurrencyGroup, Blocked: l.Blocked, WorkerID: l.WorkerID, QueuedAt: l.QueuedAt, ClaimedAt: l.ClaimedAt, StartedAt: l.StartedAt,
		CancelRequestedAt: l.CancelRequestedAt, FinishedAt: l.FinishedAt, Error: l.Error,
		DeadlineAt: inUTC(e.DeadlineAt), RerunOf: e.RerunOf, Inputs: e.Inputs, Outputs: e.Outputs, WaitingFor: waiting, Parent: parentJSON(e.Parent),
	}
}

func listedJSON(e *execution.Execution) openapi.ExecutionListed {
	return openapi.ExecutionListed{
		ID: e.ID, Number: e.Number, Status: openapi.ExecutionStatus(e.Status), Source: openapi.ExecutionSource(e.Source),
		Workflow: e.WorkflowSlug, Version: e.Version, WorkflowID: e.WorkflowID, Actor: e.Actor, LastSeq: e.LastSeq, Priority: e.Priority,
		ConcurrencyGroup: e.Group, Blocked: e.Blocked, WorkerID: e.WorkerID,
		QueuedAt: e.QueuedAt.UTC(), ClaimedAt: inUTC(e.ClaimedAt), StartedAt: inUTC(e.StartedAt),
		CancelRequestedAt: inUTC(e.CancelRequestedAt), FinishedAt: inUTC(e.FinishedAt), Error: failureJSON(e.Failure),
	}
}

func parentJSON(p *execution.Parent) *openapi.ExecutionParent {
	if p == nil {
		return nil
	}
	return &openapi.ExecutionParent{ExecutionID: p.ExecutionID, Workflow: p.WorkflowSlug, Number: p.Number, Node: p.Node, Index: p.Index}
}

func failureJSON(f *execution.Failure) *openapi.Failure {
	if f == nil {
		return nil
	}
	return &openapi.Failure{Code: f.Code, Message: f.Message, Node: f.Node, Index: f.Index}
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	return new(t.UTC())
}
