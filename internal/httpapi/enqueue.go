package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"time"

	"github.com/google/uuid"

	"foundry/internal/auth"
	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/idempotency"
	"foundry/internal/queue"
	"foundry/internal/stream"
	"foundry/internal/workflow"
)

func (h *handlers) CreateExecution(ctx context.Context, r openapi.CreateExecutionRequestObject) (openapi.CreateExecutionResponseObject, error) {
	if r.Params.Wait == nil {
		queued, err := h.enqueue(ctx, r)
		if err != nil {
			return nil, err
		}
		return queued, nil
	}
	wait, err := time.ParseDuration(*r.Params.Wait)
	if err != nil {
		return nil, fmt.Errorf("reading a duration that the contract let through: %w", err)
	}
	// Counted before anything is queued: a refusal must have no effect.
	closed, err := h.hub.Open(principal(ctx).ID(), stream.KindExecution)
	if err != nil {
		return nil, err
	}
	defer closed()
	queued, err := h.enqueue(ctx, r)
	id := queued.Body.ID
	again, replayed := errors.AsType[*idempotency.ReplayError](err)
	if replayed {
		id, err = uuid.Parse(path.Base(again.Answer.Header["Location"]))
	}
	if err != nil {
		return nil, err
	}
	if err := h.awaitEnd(ctx, id, wait); err != nil {
		return nil, err
	}
	answer, err := h.execution(ctx, id)
	if err != nil {
		return nil, err
	}
	return awaited{execution: answer, replayed: replayed}, nil
}

// awaited answers a request that waited: with what GET would answer.
type awaited struct {
	execution openapi.Execution
	replayed  bool
}

// VisitCreateExecutionResponse implements the generated interface.
func (a awaited) VisitCreateExecutionResponse(w http.ResponseWriter) error {
	body, err := json.Marshal(a.execution)
	if err != nil {
		return fmt.Errorf("encoding an execution: %w", err)
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.Header().Set("Location", executionLocation(a.execution.ID))
	if a.replayed {
		w.Header().Set(headerReplayed, "true")
	}
	w.WriteHeader(http.StatusAccepted)
	if _, err := w.Write(append(body, '\n')); err != nil {
		return errors.Join(errClientGone, err)
	}
	return nil
}

func (h *handlers) enqueue(ctx context.Context, r openapi.CreateExecutionRequestObject) (openapi.CreateExecution202JSONResponse, error) {
	var none openapi.CreateExecution202JSONResponse
	w, err := h.theWorkflow(ctx, r.Workflow, auth.ExecutionRun)
	if err != nil {
		return none, err
	}
	request := queue.Request{
		OrganizationID: principal(ctx).OrganizationID, WorkflowID: w.ID, Source: source(principal(ctx)), Actor: actorOf(ctx).Name,
	}
	answer := func(queued queue.Queued) openapi.CreateExecution202JSONResponse {
		return openapi.CreateExecution202JSONResponse{
			Body: openapi.ExecutionQueued{
				ID: queued.ID, Number: queued.Number, Status: openapi.ExecutionStatus(execution.Queued),
				Source: openapi.ExecutionSource(request.Source), QueuedAt: queued.QueuedAt.UTC(), Workflow: w.Slug, Version: request.Version,
			},
			Headers: openapi.CreateExecution202ResponseHeaders{Location: executionLocation(queued.ID)},
		}
	}
	request.Once, err = once(ctx, h.Server, r.Params.IdempotencyKey, "POST /workflows/"+w.ID.String()+"/executions", r.Body,
		func(queued queue.Queued, to http.ResponseWriter) error {
			return answer(queued).VisitCreateExecutionResponse(to)
		})
	if err != nil {
		return none, err
	}
	if err := h.fill(ctx, &request, w, r.Body); err != nil {
		return none, err
	}
	queued, err := h.queue.Enqueue(ctx, request)
	if err != nil {
		return none, err
	}
	return answer(queued), nil
}

// fill adds what the version says and checks the inputs against it.
func (h *handlers) fill(ctx context.Context, request *queue.Request, w *workflow.Workflow, body *openapi.NewExecution) error {
	version, def, err := h.definition(ctx, w, body.Version)
	if err != nil {
		return err
	}
	inputs, details := def.ValidateInputs(body.Inputs)
	if len(details) > 0 {
		return refusedInputs(details)
	}
	request.Version, request.Priority = version, valueOr(body.Priority, def.Priority)
	return request.Fill(def, w.Slug, inputs)
}

// source says where a principal's requests come from: a session is a person at the dashboard.
func source(p auth.Principal) execution.Source {
	if p.Kind == auth.KindUser {
		return execution.FromUI
	}
	return execution.FromAPI
}

func executionLocation(id uuid.UUID) string {
	return apiPrefix + "/executions/" + id.String()
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
	def, err := h.definitions.Get(ctx, w.ID, number)
	return number, def, err
}
