package httpapi

import (
	"context"

	"github.com/google/uuid"

	"foundry/internal/httpapi/openapi"
)

func (h *handlers) ListWorkers(ctx context.Context, _ openapi.ListWorkersRequestObject) (openapi.ListWorkersResponseObject, error) {
	workers, err := h.machines.Workers(ctx)
	if err != nil {
		return nil, err
	}
	answer := openapi.ListWorkers200JSONResponse{Data: make([]openapi.Worker, 0, len(workers))}
	for _, w := range workers {
		answer.Data = append(answer.Data, openapi.Worker{
			ID: w.ID, State: openapi.WorkerState(w.State), Host: w.Host, Pid: w.PID, Version: w.Version, Slots: w.Slots, Held: w.Held,
			StartedAt: w.StartedAt.UTC(), LeaseUntil: w.LeaseUntil.UTC(), GoneAt: inUTC(w.GoneAt),
		})
	}
	return answer, nil
}

func (h *handlers) ListSandboxes(ctx context.Context, r openapi.ListSandboxesRequestObject) (openapi.ListSandboxesResponseObject, error) {
	before, err := decodeID(listSandboxes, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, pageDefault)
	sandboxes, err := h.machines.Sandboxes(ctx, principal(ctx).OrganizationID, before, limit+1)
	if err != nil {
		return nil, err
	}
	sandboxes, next := page(listSandboxes, sandboxes, limit, func(s sandboxRow) string { return s.ID.String() })
	answer := openapi.ListSandboxes200JSONResponse{Data: make([]openapi.Sandbox, 0, len(sandboxes)), NextCursor: next}
	for _, s := range sandboxes {
		answer.Data = append(answer.Data, sandboxJSON(s))
	}
	return answer, nil
}

// StopSandbox writes an intent, which the reconciler carries out: a handler calls no provider.
func (h *handlers) StopSandbox(ctx context.Context, r openapi.StopSandboxRequestObject) (openapi.StopSandboxResponseObject, error) {
	row, err := h.machines.StopSandbox(ctx, actorOf(ctx), r.Sandbox)
	if err != nil {
		return nil, err
	}
	return openapi.StopSandbox202JSONResponse(sandboxJSON(row)), nil
}

// DestroySandbox writes an intent too.
func (h *handlers) DestroySandbox(ctx context.Context, r openapi.DestroySandboxRequestObject) (openapi.DestroySandboxResponseObject, error) {
	row, err := h.machines.DestroySandbox(ctx, actorOf(ctx), r.Sandbox)
	if err != nil {
		return nil, err
	}
	return openapi.DestroySandbox202JSONResponse(sandboxJSON(row)), nil
}

func sandboxJSON(s sandboxRow) openapi.Sandbox {
	return openapi.Sandbox{
		ID: s.ID, ExecutionID: s.ExecutionID, Workflow: s.WorkflowSlug, Number: s.Number, Provider: s.Provider, Host: s.Host,
		State: openapi.SandboxState(s.State), Isolation: s.Isolation, Reason: s.Reason, KeepUntil: inUTC(s.KeepUntil),
		Seconds: int64(s.Up.Seconds()), CreatedAt: s.CreatedAt.UTC(), ReadyAt: inUTC(s.ReadyAt),
	}
}

// decodeID reads a cursor whose key is an id; nil for no cursor.
func decodeID(l list, cursor *string) (*uuid.UUID, error) {
	key, err := l.decode(cursor)
	if err != nil || key == "" {
		return nil, err
	}
	id, err := uuid.Parse(key)
	if err != nil {
		return nil, invalidCursor()
	}
	return &id, nil
}
