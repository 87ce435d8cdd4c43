package httpapi

import (
	"context"
	"net/http"
	"time"

	"foundry/internal/auth"
	"foundry/internal/errs"
	"foundry/internal/httpapi/openapi"
)

const sessionCookie = "foundry_session"

// cookieOf carries a session. Lax keeps it out of what other pages post, and lets links to us work.
func cookieOf(session auth.Session, from origin) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure follows how people reach us: foundry dev speaks http
		Name: sessionCookie, Value: session.Token.Reveal(), Path: "/", MaxAge: int(auth.SessionLife / time.Second),
		HttpOnly: true, Secure: from.secure(), SameSite: http.SameSiteLaxMode,
	}
}

// noCookie takes the session's cookie away.
func noCookie(from origin) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // as the cookie that it takes away
		Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, Secure: from.secure(), SameSite: http.SameSiteLaxMode,
	}
}

func (h *handlers) Login(ctx context.Context, r openapi.LoginRequestObject) (openapi.LoginResponseObject, error) {
	from := originOf(ctx)
	session, err := h.tokens.SignIn(ctx, auth.SignIn{
		Email: r.Body.Email, Password: r.Body.Password, Organization: r.Body.Organization, From: from.Origin,
	})
	if err != nil {
		return nil, err
	}
	return openapi.Login200JSONResponse{
		Body: signedInJSON(session), Headers: openapi.Login200ResponseHeaders{SetCookie: cookieOf(session, from).String()},
	}, nil
}

func (h *handlers) Logout(ctx context.Context, _ openapi.LogoutRequestObject) (openapi.LogoutResponseObject, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	// Another request may have ended it a moment ago; it has ended.
	if err := h.tokens.EndSession(ctx, actorOf(ctx), *p.UserID, *p.SessionID); err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	return openapi.Logout204Response{Headers: openapi.Logout204ResponseHeaders{SetCookie: noCookie(originOf(ctx)).String()}}, nil
}

func (h *handlers) ChangePassword(ctx context.Context, r openapi.ChangePasswordRequestObject) (openapi.ChangePasswordResponseObject, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	err = h.tokens.ChangePassword(ctx, actorOf(ctx), auth.ChangePassword{
		By: p, Current: r.Body.CurrentPassword, New: r.Body.Password, From: originOf(ctx).Origin,
	})
	if err != nil {
		return nil, err
	}
	return openapi.ChangePassword204Response{}, nil
}

func (h *handlers) ListSessions(ctx context.Context, _ openapi.ListSessionsRequestObject) (openapi.ListSessionsResponseObject, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	sessions, err := h.tokens.Sessions(ctx, *p.UserID)
	if err != nil {
		return nil, err
	}
	answer := openapi.ListSessions200JSONResponse{Data: make([]openapi.Session, 0, len(sessions))}
	for _, one := range sessions {
		answer.Data = append(answer.Data, openapi.Session{
			ID: one.ID, Current: one.ID == *p.SessionID, Organization: one.OrganizationSlug, Address: one.Address, UserAgent: one.UserAgent,
			CreatedAt: one.CreatedAt.UTC(), LastSeenAt: one.LastSeenAt.UTC(), ExpiresAt: one.ExpiresAt.UTC(),
		})
	}
	return answer, nil
}

func (h *handlers) DeleteSession(ctx context.Context, r openapi.DeleteSessionRequestObject) (openapi.DeleteSessionResponseObject, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.tokens.EndSession(ctx, actorOf(ctx), *p.UserID, r.Session); err != nil {
		return nil, err
	}
	return openapi.DeleteSession204Response{}, nil
}

func signedInJSON(s auth.Session) openapi.SignedIn {
	return openapi.SignedIn{
		SessionID: s.ID, User: userJSON(s.Person), Role: openapi.Role(s.Role), ExpiresAt: s.ExpiresAt.UTC(),
		Organization: openapi.Organization{ID: s.Organization.ID, Slug: s.Organization.Slug, Name: s.Organization.Name},
	}
}

func userJSON(p auth.Person) openapi.User {
	return openapi.User{ID: p.ID, Email: p.Email, Name: p.Name}
}
