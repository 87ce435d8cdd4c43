package httpapi

import (
	"context"
	"time"

	"github.com/google/uuid"

	"foundry/internal/auth"
	"foundry/internal/httpapi/openapi"
)

const defaultTokenDays = 90

// overseen returns whose tokens the principal may manage: one user's, or nil for everybody's.
func overseen(p auth.Principal) (*uuid.UUID, error) {
	if auth.Can(p, auth.TokenOversee, auth.Resource{}) {
		return nil, nil //nolint:nilnil // nil is everybody
	}
	if p.UserID == nil { // a token that nobody stands behind has none of its own
		return nil, auth.Require(p, auth.TokenOversee, auth.Resource{})
	}
	return p.UserID, auth.Require(p, auth.TokenManage, auth.Resource{})
}

func (h *handlers) ListTokens(ctx context.Context, r openapi.ListTokensRequestObject) (openapi.ListTokensResponseObject, error) {
	of, err := overseen(principal(ctx))
	if err != nil {
		return nil, err
	}
	before, err := decodeID(listTokens, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, pageDefault)
	tokens, err := h.tokens.Tokens(ctx, principal(ctx).OrganizationID, of, before, limit+1)
	if err != nil {
		return nil, err
	}
	tokens, next := page(listTokens, tokens, limit, func(t auth.TokenInfo) string { return t.ID.String() })
	answer := openapi.ListTokens200JSONResponse{Data: make([]openapi.Token, 0, len(tokens)), NextCursor: next}
	for _, token := range tokens {
		answer.Data = append(answer.Data, tokenJSON(token))
	}
	return answer, nil
}

func (h *handlers) CreateToken(ctx context.Context, r openapi.CreateTokenRequestObject) (openapi.CreateTokenResponseObject, error) {
	p := principal(ctx)
	if err := auth.Require(p, auth.TokenManage, auth.Resource{}); err != nil {
		return nil, err
	}
	scopes := make([]string, 0, len(r.Body.Scopes))
	for _, scope := range r.Body.Scopes {
		scopes = append(scopes, string(scope))
	}
	days := r.Body.ExpiresInDays
	if days == 0 {
		days = defaultTokenDays
	}
	info, token, err := h.tokens.CreateToken(ctx, actorOf(ctx), auth.NewToken{
		By: p, Name: r.Body.Name, Scopes: scopes, Role: auth.Role(r.Body.Role), Expiry: time.Duration(days) * 24 * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	shown := tokenJSON(info)
	return openapi.CreateToken201JSONResponse{
		Body: openapi.TokenCreated{
			ID: shown.ID, Name: shown.Name, Role: shown.Role, Scopes: shown.Scopes, User: shown.User, CreatedAt: shown.CreatedAt,
			ExpiresAt: shown.ExpiresAt, LastUsedAt: shown.LastUsedAt, Token: token.Reveal(),
		},
		Headers: openapi.CreateToken201ResponseHeaders{Location: apiPrefix + "/tokens/" + info.ID.String()},
	}, nil
}

func (h *handlers) DeleteToken(ctx context.Context, r openapi.DeleteTokenRequestObject) (openapi.DeleteTokenResponseObject, error) {
	of, err := overseen(principal(ctx))
	if err != nil {
		return nil, err
	}
	if err := h.tokens.DeleteToken(ctx, actorOf(ctx), r.Token, of); err != nil {
		return nil, err
	}
	return openapi.DeleteToken204Response{}, nil
}

func tokenJSON(t auth.TokenInfo) openapi.Token {
	shown := openapi.Token{
		ID: t.ID, Name: t.Name, Role: openapi.Role(t.Role), Scopes: t.Scopes, CreatedAt: t.CreatedAt.UTC(),
		ExpiresAt: inUTC(t.ExpiresAt), LastUsedAt: inUTC(t.LastUsedAt),
	}
	if t.User != nil {
		shown.User = new(userJSON(*t.User))
	}
	return shown
}
