package httpapi

import (
	"context"
	"net"
	"net/http"
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
	from := originOf(ctx)
	return actor(principal(ctx), from.Origin)
}

func actor(p auth.Principal, from auth.Origin) audit.Actor {
	kind, id, name := audit.User, p.UserID, p.Email
	if p.Kind == auth.KindToken {
		kind, id, name = audit.Token, p.TokenID, p.Name
	}
	return audit.Actor{
		OrganizationID: p.OrganizationID, Kind: kind, ID: id, Name: name, Address: from.Address, RequestID: from.RequestID,
	}
}

// origin is where a request came from and how it reached us.
type origin struct {
	auth.Origin
	base string // URL that people reach this server at, without a slash at the end
}

// secure reports whether people reach us by https, so that cookies must not travel otherwise.
func (o origin) secure() bool { return strings.HasPrefix(o.base, "https://") }

type originKey struct{}

// originOf returns where the request came from. Only handlers under /api/v1 ask.
func originOf(ctx context.Context) origin {
	from, _ := ctx.Value(originKey{}).(origin)
	return from
}

func (s *Server) origin(c echo.Context) origin {
	request := c.Request()
	from := origin{
		Origin: auth.Origin{Address: c.RealIP(), UserAgent: request.UserAgent(), RequestID: requestID(request.Context())},
		base:   s.config.PublicURL,
	}
	if from.base == "" {
		from.base = "http://" + request.Host
		if request.TLS != nil || strings.EqualFold(request.Header.Get(echo.HeaderXForwardedProto), "https") {
			from.base = "https://" + request.Host
		}
	}
	return from
}

// authenticate demands a bearer token or a session's cookie, except where the contract asks for nothing. A token wins: who sends
// one means it.
func (s *Server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		ctx := context.WithValue(c.Request().Context(), originKey{}, s.origin(c))
		if op := s.contract.operation(c.Request().Method, c.Path()); op == nil || !op.public {
			p, err := s.presented(c.Request())
			if err != nil {
				return err
			}
			log := zerolog.Ctx(ctx).With().Stringer("organization_id", p.OrganizationID).Stringer("principal_id", p.ID()).Logger()
			ctx = log.WithContext(context.WithValue(ctx, principalKey{}, p))
		}
		c.SetRequest(c.Request().WithContext(ctx))
		return next(c)
	}
}

// presented returns who the request's credentials belong to.
func (s *Server) presented(r *http.Request) (auth.Principal, error) {
	if header := r.Header.Get(echo.HeaderAuthorization); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return auth.Principal{}, errs.E(errs.Unauthorized, "Send an API token as Authorization: Bearer fdy_….")
		}
		return s.tokens.Authenticate(r.Context(), strings.TrimSpace(token))
	}
	cookie, err := r.Cookie(sessionCookie)
	if err != nil || cookie.Value == "" {
		return auth.Principal{}, errs.E(errs.Unauthorized, "Sign in, or send an API token as Authorization: Bearer fdy_….")
	}
	return s.tokens.AuthenticateSession(r.Context(), cookie.Value)
}

// person returns the principal of a request that only a person with a session may make.
func person(ctx context.Context) (auth.Principal, error) {
	p := principal(ctx)
	return p, auth.Require(p, auth.AccountManage, auth.Resource{})
}

// sharedAddresses is 100.64.0.0/10 (RFC 6598), where platforms put their proxies; loopback and private networks are trusted to say
// where a request came from anyway.
func sharedAddresses() *net.IPNet {
	return &net.IPNet{IP: net.IPv4(100, 64, 0, 0).To4(), Mask: net.CIDRMask(10, 32)}
}
