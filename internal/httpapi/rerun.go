package httpapi

import (
	"cmp"
	"context"
	"net/http"

	"github.com/google/uuid"

	"foundry/internal/auth"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/queue"
)

func (h *handlers) RerunExecution(ctx context.Context, r openapi.RerunExecutionRequestObject) (openapi.RerunExecutionResponseObject, error) {
	request, err := h.rerunRequest(ctx, r.Execution, r.Body)
	if err != nil {
		return nil, err
	}
	answer := func(rerun queue.Rerunning) openapi.RerunExecution202JSONResponse {
		return openapi.RerunExecution202JSONResponse{
			Body: openapi.RerunQueued{
				ID: rerun.ID, Number: rerun.Number, Status: openapi.ExecutionStatus(execution.Queued), Source: openapi.ExecutionSource(request.Source),
				QueuedAt: rerun.QueuedAt.UTC(), Workflow: rerun.Plan.WorkflowSlug, Version: rerun.Plan.Version,
				RerunOf: rerun.Plan.Of, Sandbox: sandboxPlanJSON(rerun.Plan),
			},
			Headers: openapi.RerunExecution202ResponseHeaders{Location: executionLocation(rerun.ID)},
		}
	}
	request.Once, err = once(ctx, h.Server, r.Params.IdempotencyKey, "POST /executions/"+r.Execution.String()+"/rerun", r.Body,
		func(rerun queue.Rerunning, to http.ResponseWriter) error {
			return answer(rerun).VisitRerunExecutionResponse(to)
		})
	if err != nil {
		return nil, err
	}
	rerun, err := h.queue.Rerun(ctx, h.definitions, request)
	if err != nil {
		return nil, err
	}
	return answer(rerun), nil
}

func (h *handlers) PreviewRerun(ctx context.Context, r openapi.PreviewRerunRequestObject) (openapi.PreviewRerunResponseObject, error) {
	request, err := h.rerunRequest(ctx, r.Execution, r.Body)
	if err != nil {
		return nil, err
	}
	plan, err := h.queue.PlanRerun(ctx, h.definitions, request)
	if err != nil {
		return nil, err
	}
	answer := openapi.PreviewRerun200JSONResponse{
		RerunOf: plan.Of, Workflow: plan.WorkflowSlug, Version: plan.Version, From: plan.From,
		Sandbox: sandboxPlanJSON(plan), Nodes: make([]openapi.NodePlan, 0, len(plan.Nodes)),
	}
	for _, n := range plan.Nodes {
		node := openapi.NodePlan{Key: n.Key, Plan: openapi.Run, Kept: len(n.Kept)}
		if n.Reused != nil {
			node.Plan = openapi.Reused
		}
		answer.Nodes = append(answer.Nodes, node)
	}
	return answer, nil
}

// rerunRequest is what a body asks for, of an execution whose workflow the caller may run.
func (h *handlers) rerunRequest(ctx context.Context, id uuid.UUID, body *openapi.Rerun) (queue.RerunRequest, error) {
	p := principal(ctx)
	x, err := h.executions.Get(ctx, p.OrganizationID, id)
	if err != nil {
		return queue.RerunRequest{}, err
	}
	if _, err := h.theWorkflow(ctx, x.WorkflowID.String(), auth.ExecutionRun); err != nil {
		return queue.RerunRequest{}, err
	}
	if body == nil {
		body = &openapi.Rerun{}
	}
	return queue.RerunRequest{
		OrganizationID: p.OrganizationID, Of: id, From: cmp.Or(body.From, queue.FromFailed), Latest: body.Version == openapi.Latest,
		Sandbox: queue.SandboxChoice(body.Sandbox), Source: source(p), Actor: actorOf(ctx).Name,
	}, nil
}

func sandboxPlanJSON(plan *queue.RerunPlan) openapi.SandboxPlan {
	if plan.Sandbox != nil {
		return openapi.SandboxPlan{Use: openapi.SandboxPlanUseReuse, ID: plan.Sandbox}
	}
	return openapi.SandboxPlan{Use: openapi.SandboxPlanUseFresh, Reason: plan.WhyFresh}
}
