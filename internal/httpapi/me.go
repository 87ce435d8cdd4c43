package httpapi

import (
	"context"

	"foundry/internal/httpapi/openapi"
)

func (h *handlers) GetMe(ctx context.Context, _ openapi.GetMeRequestObject) (openapi.GetMeResponseObject, error) {
	p := principal(ctx)
	return openapi.GetMe200JSONResponse{
		Organization: openapi.Organization{ID: p.OrganizationID, Slug: p.OrganizationSlug},
		Token:        openapi.TokenInfo{ID: p.ID(), Name: p.Name},
	}, nil
}
