package httpapi

import (
	"context"

	"github.com/labstack/echo/v4"

	"foundry/internal/auth"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/workflow"
)

// permit refuses operations that the principal may do to nothing in its organization. Where the right depends on the
// workflow, its handler asks again with that (theWorkflow).
func (s *Server) permit(next openapi.StrictHandlerFunc, operation string) openapi.StrictHandlerFunc {
	action := actionOf(operation)
	if action == "" {
		return next
	}
	return func(c echo.Context, request any) (any, error) {
		if err := auth.Require(principal(c.Request().Context()), action, auth.Resource{}); err != nil {
			return nil, err
		}
		return next(c, request)
	}
}

// actionOf returns what an operation does, or "" where only its handler can tell.
func actionOf(operation string) auth.Action {
	switch operation {
	case "ListWorkflows", "GetWorkflow", "ListVersions", "GetVersion", "ValidateWorkflow":
		return auth.WorkflowRead
	case "CreateWorkflow", "UpdateWorkflow", "DeleteWorkflow":
		return auth.WorkflowWrite
	case "CreateExecution", "RerunExecution", "PreviewRerun":
		return auth.ExecutionRun
	case "ListExecutions", "GetExecution", "ListNodes", "ListExecutionEvents", "GetExecutionLogs", "StreamEvents",
		"ListArtifacts", "GetArtifact", "GetArtifactContent", "GetExecutionSummary":
		return auth.ExecutionRead
	case "CancelExecution":
		return auth.ExecutionCancel
	case "ApproveNode", "RejectNode":
		return auth.ApprovalDecide
	case "ListWorkers":
		return auth.WorkerRead
	case "ListSandboxes":
		return auth.SandboxRead
	case "StopSandbox", "DestroySandbox":
		return auth.SandboxManage
	case "ListAudit":
		return auth.AuditRead
	}
	return ""
}

// theWorkflow returns the workflow with this id or slug, if the principal may do the action to it.
func (s *Server) theWorkflow(ctx context.Context, ref string, action auth.Action) (*workflow.Workflow, error) {
	p := principal(ctx)
	w, err := s.workflows.Get(ctx, p.OrganizationID, ref)
	if err != nil {
		return nil, err
	}
	return w, auth.Require(p, action, auth.Resource{OwnerID: w.OwnerID, HasSecrets: w.HasSecrets})
}
