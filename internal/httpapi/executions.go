package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

func (h *handlers) CreateExecution(ctx context.Context, r openapi.CreateExecutionRequestObject) (openapi.CreateExecutionResponseObject, error) {
	organizationID := principal(ctx).OrganizationID
	w, err := h.workflows.Get(ctx, organizationID, r.Workflow)
	if err != nil {
		return nil, err
	}
	version, def, err := h.definition(ctx, w, r.Body.Version)
	if err != nil {
		return nil, err
	}
	inputs, details := def.ValidateInputs(r.Body.Inputs)
	if len(details) > 0 {
		return nil, refusedInputs(details)
	}
	encoded, err := json.Marshal(inputs)
	if err != nil {
		return nil, fmt.Errorf("encoding inputs: %w", err)
	}
	queued, err := h.queue.Enqueue(ctx, queue.Request{
		OrganizationID: organizationID, WorkflowID: w.ID, Version: version, Source: execution.FromAPI,
		Priority: valueOr(r.Body.Priority, def.Priority), Inputs: encoded, Timeout: def.Timeout, QueueTimeout: def.QueueTimeout,
	})
	if err != nil {
		return nil, err
	}
	return openapi.CreateExecution202JSONResponse{
		Body: openapi.ExecutionQueued{
			ID: queued.ID, Number: queued.Number, Status: openapi.ExecutionStatus(execution.Queued),
			Source: openapi.ExecutionSource(execution.FromAPI), QueuedAt: queued.QueuedAt.UTC(), Workflow: w.Slug, Version: version,
		},
		Headers: openapi.CreateExecution202ResponseHeaders{Location: apiPrefix + "/executions/" + queued.ID.String()},
	}, nil
}

func refusedInputs(details []errs.Detail) error {
	refused := errs.E(errs.Validation, "%d inputs are not what the workflow takes.", len(details))
	if len(details) == 1 {
		refused.Message = details[0].Detail
	}
	refused.Details = details
	return refused
}

// definition loads a version of a workflow; 0 is the latest.
func (h *handlers) definition(ctx context.Context, w *workflow.Workflow, number int) (int, *workflow.Definition, error) {
	if number == 0 {
		number = w.LatestVersion
	}
	if number > w.LatestVersion {
		return 0, nil, refusal(errs.E(errs.Validation, "There is no such version.").With("/version", "The latest version is %d.", w.LatestVersion))
	}
	v, err := h.workflows.Version(ctx, w.ID, number)
	if err != nil {
		return 0, nil, err
	}
	def, err := workflow.Load([]byte(v.Source), v.Grammar)
	if err != nil {
		return 0, nil, fmt.Errorf("loading version %d of workflow %s: %w", number, w.ID, err)
	}
	return number, def, nil
}

func (h *handlers) ListExecutions(ctx context.Context, r openapi.ListExecutionsRequestObject) (openapi.ListExecutionsResponseObject, error) {
	before, err := decodeID(listExecutions, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, pageDefault)
	params := execution.ListParams{OrganizationID: principal(ctx).OrganizationID, Before: before, Limit: limit + 1}
	for _, status := range valueOr(r.Params.Status, nil) {
		params.Statuses = append(params.Statuses, execution.Status(status))
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
	return openapi.GetExecution200JSONResponse(answer), nil
}

func (h *handlers) CancelExecution(ctx context.Context, r openapi.CancelExecutionRequestObject) (openapi.CancelExecutionResponseObject, error) {
	p := principal(ctx)
	if err := h.queue.Cancel(ctx, p.OrganizationID, r.Execution, "token "+p.Name); err != nil {
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

// waitingFor says why a queued execution does not run yet; nil for any other.
func (h *handlers) waitingFor(ctx context.Context, e *execution.Execution) (*openapi.WaitingFor, error) {
	if e.Status != execution.Queued {
		return nil, nil //nolint:nilnil // waiting for nothing is not an error
	}
	ahead, ok, err := h.executions.QueuePosition(ctx, e.ID)
	if err != nil || !ok { // not in the queue: claimed since it was read
		return nil, err
	}
	now, err := h.machines.Capacity(ctx)
	if err != nil {
		return nil, err
	}
	return waitingJSON(ahead, now), nil
}

// positionCounted is how far a position is counted.
const positionCounted = 1000

func waitingJSON(ahead int, now capacity) *openapi.WaitingFor {
	position := strconv.Itoa(ahead + 1)
	if ahead+1 > positionCounted {
		position = strconv.Itoa(positionCounted) + "+"
	}
	w := &openapi.WaitingFor{Position: &position, Workers: now.Workers}
	switch {
	case now.Workers == 0:
		w.Reason, w.Message = openapi.WaitingForReasonWorker, "No worker is alive."
	case now.Held >= now.Slots:
		w.Reason, w.Message = openapi.WaitingForReasonSlot, fmt.Sprintf("All %d slots of the workers are taken.", now.Slots)
	default:
		w.Reason, w.Message = openapi.WaitingForReasonTurn, "A worker has a free slot and is about to take it."
	}
	w.Message += " Position in the queue: " + position + "."
	return w
}

func executionJSON(e *execution.Execution, waiting *openapi.WaitingFor) openapi.Execution {
	l := listedJSON(e)
	return openapi.Execution{
		ID: l.ID, Number: l.Number, Status: l.Status, Source: l.Source, Workflow: l.Workflow, Version: l.Version, WorkflowID: l.WorkflowID,
		LastSeq: l.LastSeq, Priority: l.Priority, WorkerID: l.WorkerID, QueuedAt: l.QueuedAt, ClaimedAt: l.ClaimedAt, StartedAt: l.StartedAt,
		CancelRequestedAt: l.CancelRequestedAt, FinishedAt: l.FinishedAt, Error: l.Error,
		DeadlineAt: inUTC(e.DeadlineAt), Inputs: e.Inputs, Outputs: e.Outputs, WaitingFor: waiting,
	}
}

func listedJSON(e *execution.Execution) openapi.ExecutionListed {
	return openapi.ExecutionListed{
		ID: e.ID, Number: e.Number, Status: openapi.ExecutionStatus(e.Status), Source: openapi.ExecutionSource(e.Source),
		Workflow: e.WorkflowSlug, Version: e.Version, WorkflowID: e.WorkflowID, LastSeq: e.LastSeq, Priority: e.Priority, WorkerID: e.WorkerID,
		QueuedAt: e.QueuedAt.UTC(), ClaimedAt: inUTC(e.ClaimedAt), StartedAt: inUTC(e.StartedAt),
		CancelRequestedAt: inUTC(e.CancelRequestedAt), FinishedAt: inUTC(e.FinishedAt), Error: failureJSON(e.Failure),
	}
}

func failureJSON(f *execution.Failure) *openapi.Failure {
	if f == nil {
		return nil
	}
	return &openapi.Failure{Code: f.Code, Message: f.Message, Node: f.Node}
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	return new(t.UTC())
}
