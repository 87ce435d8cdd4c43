package httpapi

import (
	"context"

	"github.com/google/uuid"

	"foundry/internal/audit"
	"foundry/internal/httpapi/openapi"
)

func (h *handlers) ListAudit(ctx context.Context, r openapi.ListAuditRequestObject) (openapi.ListAuditResponseObject, error) {
	before, err := decodeID(listAudit, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, pageDefault)
	params := audit.ListParams{
		OrganizationID: principal(ctx).OrganizationID, Before: before, Action: r.Params.Action, Actor: r.Params.Actor, Limit: limit + 1,
	}
	if params.WorkflowID, err = h.recordedWorkflow(ctx, r.Params.Workflow); err != nil {
		return nil, err
	}
	records, err := h.audit.List(ctx, params)
	if err != nil {
		return nil, err
	}
	records, next := page(listAudit, records, limit, func(a audit.Record) string { return a.ID.String() })
	answer := openapi.ListAudit200JSONResponse{Data: make([]openapi.AuditEntry, 0, len(records)), NextCursor: next}
	for _, a := range records {
		answer.Data = append(answer.Data, openapi.AuditEntry{
			ID: a.ID, Time: a.Time.UTC(), ActorKind: openapi.AuditEntryActorKind(a.Actor.Kind), ActorID: a.Actor.ID, Actor: a.Actor.Name,
			Action: string(a.Action), WorkflowID: a.WorkflowID, ExecutionID: a.ExecutionID, Target: a.Target, Data: a.Raw,
			Address: a.Actor.Address, RequestID: a.Actor.RequestID,
		})
	}
	return answer, nil
}

// recordedWorkflow returns the id that a filter means. An id is taken as it is: the record outlives the workflow.
func (h *handlers) recordedWorkflow(ctx context.Context, ref *string) (*uuid.UUID, error) {
	if ref == nil {
		return nil, nil //nolint:nilnil // no filter is not an error
	}
	if id, err := uuid.Parse(*ref); err == nil {
		return &id, nil
	}
	w, err := h.workflows.Get(ctx, principal(ctx).OrganizationID, *ref)
	if err != nil {
		return nil, err
	}
	return &w.ID, nil
}
