package httpapi

import (
	"context"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"foundry/internal/audit"
	"foundry/internal/auth"
	"foundry/internal/errs"
)

type principalKey struct{}

// principal returns who the request acts for. Only handlers under /api/v1 ask, and they run behind authenticate.
func principal(ctx context.Context) auth.Principal {
	p, _ := ctx.Value(principalKey{}).(auth.Principal)
	return p
}

// actorOf returns who the request acts for, as the audit record names them.
func actorOf(ctx context.Context) audit.Actor {
	p := principal(ctx)
	kind, id := audit.User, p.UserID
	if p.Kind == auth.KindToken {
		kind, id = audit.Token, p.TokenID
	}
	name := p.Name
	if p.Email != "" {
		name = p.Email
	}
	return audit.Actor{
		OrganizationID: p.OrganizationID, Kind: kind, ID: id, Name: name, Address: remoteAddress(ctx), RequestID: requestID(ctx),
	}
}

type remoteAddressKey struct{}

// remoteAddress returns the network address that the request came from, or "".
func remoteAddress(ctx context.Context) string {
	address, _ := ctx.Value(remoteAddressKey{}).(string)
	return address
}

// authenticate demands a bearer token.
func (s *Server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		scheme, token, _ := strings.Cut(c.Request().Header.Get(echo.HeaderAuthorization), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return errs.E(errs.Unauthorized, "Send an API token as Authorization: Bearer fdy_….")
		}
		ctx := context.WithValue(c.Request().Context(), remoteAddressKey{}, c.RealIP())
		p, err := s.tokens.Authenticate(ctx, strings.TrimSpace(token))
		if err != nil {
			return err
		}
		log := zerolog.Ctx(ctx).With().Stringer("organization_id", p.OrganizationID).Stringer("principal_id", p.ID()).Logger()
		ctx = log.WithContext(context.WithValue(ctx, principalKey{}, p))
		c.SetRequest(c.Request().WithContext(ctx))
		return next(c)
	}
}
