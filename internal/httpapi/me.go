package httpapi

import (
	"context"

	"foundry/internal/auth"
	"foundry/internal/httpapi/openapi"
)

func (h *handlers) GetMe(ctx context.Context, _ openapi.GetMeRequestObject) (openapi.GetMeResponseObject, error) {
	p := principal(ctx)
	me := openapi.GetMe200JSONResponse{
		Kind: openapi.MeKind(p.Kind), Name: p.Name, Role: openapi.Role(p.Role), Scopes: p.Scopes,
		Organization: openapi.Organization{ID: p.OrganizationID, Slug: p.OrganizationSlug, Name: p.OrganizationName},
		Version:      h.config.Version, Environment: h.config.Environment,
	}
	switch p.Kind {
	case auth.KindUser:
		me.User, me.Scopes = &openapi.User{ID: p.ID(), Email: p.Email, Name: p.Name}, []string{"*"}
	case auth.KindToken:
		me.Token = &openapi.TokenInfo{ID: p.ID(), Name: p.Name, UserID: p.UserID}
	}
	return me, nil
}
