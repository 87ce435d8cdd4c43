package httpapi

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"foundry/internal/auth"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/workflow"
)

func (h *handlers) ListVersions(ctx context.Context, r openapi.ListVersionsRequestObject) (openapi.ListVersionsResponseObject, error) {
	before := math.MaxInt32
	key, err := listVersions.decode(r.Params.Cursor)
	if err == nil && key != "" {
		if before, err = strconv.Atoi(key); err != nil || before < 1 || before > math.MaxInt32 {
			err = invalidCursor()
		}
	}
	if err != nil {
		return nil, err
	}
	w, err := h.workflows.Get(ctx, principal(ctx).OrganizationID, r.Workflow)
	if err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, pageDefault)
	versions, err := h.workflows.Versions(ctx, w.ID, before, limit+1)
	if err != nil {
		return nil, err
	}
	versions, next := page(listVersions, versions, limit, func(v workflow.Version) string { return strconv.Itoa(v.Number) })
	answer := openapi.ListVersions200JSONResponse{Data: make([]openapi.VersionSummary, 0, len(versions)), NextCursor: next}
	for _, v := range versions {
		answer.Data = append(answer.Data, openapi.VersionSummary{Version: v.Number, CreatedAt: v.CreatedAt.UTC(), CreatedBy: v.CreatedBy})
	}
	return answer, nil
}

func (h *handlers) CreateVersion(ctx context.Context, r openapi.CreateVersionRequestObject) (openapi.CreateVersionResponseObject, error) {
	sent, err := receive(r.MultipartBody, false)
	if r.JSONBody != nil {
		sent, err = submissionFrom(r.JSONBody.Source, "", r.JSONBody.Files)
	}
	if err != nil {
		return nil, err
	}
	w, err := h.theWorkflow(ctx, r.Workflow, auth.VersionPush)
	if err != nil {
		return nil, err
	}
	guard, err := once(ctx, h.Server, r.Params.IdempotencyKey, "POST /workflows/"+w.ID.String()+"/versions", sent.said(),
		func(number int, to http.ResponseWriter) error {
			return versionCreated(w, number).VisitCreateVersionResponse(to)
		})
	if err != nil {
		return nil, err
	}
	def, err := sent.compile()
	if err != nil {
		return nil, err
	}
	p := principal(ctx)
	number, err := h.workflows.AddVersion(ctx, workflow.VersionParams{
		WorkflowID: w.ID, OrganizationID: p.OrganizationID, Actor: actorOf(ctx), Name: def.Name, Source: sent.source, Files: sent.files,
		Public: !auth.Can(p, auth.VersionPush, auth.Resource{OwnerID: w.OwnerID, HasSecrets: true}), Once: guard,
	})
	if err != nil {
		return nil, err
	}
	return versionCreated(w, number), nil
}

func versionCreated(w *workflow.Workflow, number int) openapi.CreateVersion201JSONResponse {
	return openapi.CreateVersion201JSONResponse{
		Body: openapi.VersionCreated{Version: number},
		Headers: openapi.CreateVersion201ResponseHeaders{
			Location: fmt.Sprintf("%s/workflows/%s/versions/%d", apiPrefix, w.Slug, number),
		},
	}
}

func (h *handlers) GetVersion(ctx context.Context, r openapi.GetVersionRequestObject) (openapi.GetVersionResponseObject, error) {
	w, err := h.workflows.Get(ctx, principal(ctx).OrganizationID, r.Workflow)
	if err != nil {
		return nil, err
	}
	v, err := h.workflows.Version(ctx, w.ID, r.Version)
	if err != nil {
		return nil, err
	}
	tag := revisionTag(v.Number) // a version never changes
	if unchanged(r.Params.IfNoneMatch, tag) {
		return openapi.GetVersion304Response{Headers: openapi.GetVersion304ResponseHeaders{ETag: tag}}, nil
	}
	files, err := h.workflows.ContentInfos(ctx, w.ID, r.Version)
	if err != nil {
		return nil, err
	}
	answer := openapi.Version{
		Version: v.Number, Grammar: v.Grammar, Source: v.Source, CreatedAt: v.CreatedAt.UTC(), CreatedBy: v.CreatedBy,
		Files: make([]openapi.FileInfo, 0, len(files)),
	}
	for _, f := range files {
		answer.Files = append(answer.Files, openapi.FileInfo{Path: f.Path, Size: f.Size, Executable: f.Executable})
	}
	return openapi.GetVersion200JSONResponse{Body: answer, Headers: openapi.GetVersion200ResponseHeaders{ETag: tag}}, nil
}
