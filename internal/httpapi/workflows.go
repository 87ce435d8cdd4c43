package httpapi

import (
	"context"
	"net/http"

	"foundry/internal/auth"
	"foundry/internal/errs"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/workflow"
)

func (h *handlers) ListWorkflows(ctx context.Context, r openapi.ListWorkflowsRequestObject) (openapi.ListWorkflowsResponseObject, error) {
	after, err := listWorkflows.decode(r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, pageDefault)
	workflows, err := h.workflows.List(ctx, principal(ctx).OrganizationID, after, limit+1)
	if err != nil {
		return nil, err
	}
	workflows, next := page(listWorkflows, workflows, limit, func(w workflow.Workflow) string { return w.Slug })
	answer := openapi.ListWorkflows200JSONResponse{Data: make([]openapi.Workflow, 0, len(workflows)), NextCursor: next}
	for i := range workflows {
		answer.Data = append(answer.Data, workflowJSON(&workflows[i]))
	}
	return answer, nil
}

func (h *handlers) GetWorkflow(ctx context.Context, r openapi.GetWorkflowRequestObject) (openapi.GetWorkflowResponseObject, error) {
	w, err := h.workflows.Get(ctx, principal(ctx).OrganizationID, r.Workflow)
	if err != nil {
		return nil, err
	}
	tag := revisionTag(w.Revision)
	if unchanged(r.Params.IfNoneMatch, tag) {
		return openapi.GetWorkflow304Response{Headers: openapi.GetWorkflow304ResponseHeaders{ETag: tag}}, nil
	}
	return openapi.GetWorkflow200JSONResponse{Body: workflowJSON(w), Headers: openapi.GetWorkflow200ResponseHeaders{ETag: tag}}, nil
}

func (h *handlers) UpdateWorkflow(ctx context.Context, r openapi.UpdateWorkflowRequestObject) (openapi.UpdateWorkflowResponseObject, error) {
	change, err := h.workflowChange(ctx, r.Workflow, r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	w, err := h.workflows.Update(ctx, change, workflow.Update{Slug: r.Body.Slug, Paused: r.Body.Paused, MaxQueued: r.Body.MaxQueued})
	if err != nil {
		return nil, err
	}
	return openapi.UpdateWorkflow200JSONResponse{
		Body: workflowJSON(w), Headers: openapi.UpdateWorkflow200ResponseHeaders{ETag: revisionTag(w.Revision)},
	}, nil
}

func (h *handlers) DeleteWorkflow(ctx context.Context, r openapi.DeleteWorkflowRequestObject) (openapi.DeleteWorkflowResponseObject, error) {
	change, err := h.workflowChange(ctx, r.Workflow, r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	if err := h.workflows.Delete(ctx, change); err != nil {
		return nil, err
	}
	return openapi.DeleteWorkflow204Response{}, nil
}

// workflowChange returns what a change is to be made to, if the principal may make it.
func (h *handlers) workflowChange(ctx context.Context, ref string, ifMatch *string) (workflow.ChangeParams, error) {
	w, err := h.theWorkflow(ctx, ref, auth.WorkflowWrite)
	if err != nil {
		return workflow.ChangeParams{}, err
	}
	revision, err := requiredRevision(ifMatch)
	if err != nil {
		return workflow.ChangeParams{}, err
	}
	return workflow.ChangeParams{
		OrganizationID: principal(ctx).OrganizationID, WorkflowID: w.ID, Revision: revision, Actor: actorOf(ctx),
	}, nil
}

func (h *handlers) CreateWorkflow(ctx context.Context, r openapi.CreateWorkflowRequestObject) (openapi.CreateWorkflowResponseObject, error) {
	sent, err := receive(r.MultipartBody, true)
	if r.JSONBody != nil {
		sent, err = submissionFrom(r.JSONBody.Source, r.JSONBody.Slug, r.JSONBody.Files)
	}
	if err != nil {
		return nil, err
	}
	guard, err := once(ctx, h.Server, r.Params.IdempotencyKey, "POST /workflows", sent.said(),
		func(w *workflow.Workflow, to http.ResponseWriter) error {
			return workflowCreated(w).VisitCreateWorkflowResponse(to)
		})
	if err != nil {
		return nil, err
	}
	def, err := sent.compile()
	if err != nil {
		return nil, err
	}
	slug := sent.slug
	if slug == "" {
		slug = workflow.SlugFromName(def.Name)
	}
	if !workflow.ValidSlug(slug) {
		return nil, errs.E(errs.Validation, "A slug has 1 to 64 small letters, digits and hyphens, and no hyphen at either end.").
			With("/slug", "Choose one; none can be made from the workflow's name, or this one is not valid.")
	}
	p := principal(ctx)
	w, err := h.workflows.Create(ctx, workflow.CreateParams{
		OrganizationID: p.OrganizationID, OwnerID: p.UserID, Actor: actorOf(ctx), Slug: slug, Name: def.Name,
		Source: sent.source, Files: sent.files, Once: guard,
	})
	if err != nil {
		return nil, err
	}
	return workflowCreated(w), nil
}

func workflowCreated(w *workflow.Workflow) openapi.CreateWorkflow201JSONResponse {
	return openapi.CreateWorkflow201JSONResponse{
		Body: workflowJSON(w), Headers: openapi.CreateWorkflow201ResponseHeaders{Location: apiPrefix + "/workflows/" + w.Slug},
	}
}

func (h *handlers) ValidateWorkflow(_ context.Context, r openapi.ValidateWorkflowRequestObject) (openapi.ValidateWorkflowResponseObject, error) {
	_, diagnostics := workflow.Compile([]byte(r.Body.Source))
	return openapi.ValidateWorkflow200JSONResponse{Valid: !diagnostics.Failed(), Diagnostics: diagnosticsJSON(diagnostics)}, nil
}

func workflowJSON(w *workflow.Workflow) openapi.Workflow {
	return openapi.Workflow{
		ID: w.ID, Slug: w.Slug, Name: w.Name, Version: w.LatestVersion, OwnerID: w.OwnerID, HasSecrets: w.HasSecrets,
		PausedAt: inUTC(w.PausedAt), PausedBy: w.PausedBy, MaxQueued: w.MaxQueued, CreatedAt: w.CreatedAt.UTC(), UpdatedAt: w.UpdatedAt.UTC(),
	}
}

func diagnosticsJSON(diagnostics workflow.Diagnostics) []openapi.Diagnostic {
	list := make([]openapi.Diagnostic, 0, len(diagnostics))
	for _, d := range diagnostics {
		list = append(list, openapi.Diagnostic{
			Code: d.Code, Severity: openapi.DiagnosticSeverity(d.Severity), Message: d.Message, Hint: d.Hint,
			Line: d.Line, Column: d.Column, EndLine: d.EndLine, EndColumn: d.EndColumn, Path: d.Path,
		})
	}
	return list
}
