package httpapi

import (
	"context"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"foundry/internal/auth"
	"foundry/internal/errs"
)

type principalKey struct{}

// principal returns who the request acts for. Only handlers under /api/v1 ask, and they run behind authenticate.
func principal(ctx context.Context) auth.Principal {
	p, _ := ctx.Value(principalKey{}).(auth.Principal)
	return p
}

// authenticate demands a bearer token.
func (s *Server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		scheme, token, _ := strings.Cut(c.Request().Header.Get(echo.HeaderAuthorization), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return errs.E(errs.Unauthorized, "Send an API token as Authorization: Bearer fdy_….")
		}
		ctx := c.Request().Context()
		p, err := s.tokens.Authenticate(ctx, strings.TrimSpace(token))
		if err != nil {
			return err
		}
		log := zerolog.Ctx(ctx).With().Stringer("organization_id", p.OrganizationID).Stringer("token_id", p.TokenID).Logger()
		ctx = log.WithContext(context.WithValue(ctx, principalKey{}, p))
		c.SetRequest(c.Request().WithContext(ctx))
		return next(c)
	}
}
