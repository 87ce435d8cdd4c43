package httpapi

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"foundry/internal/auth"
	"foundry/internal/errs"
)

//go:embed signin.html
var signInText string

// maxPageForm bounds what the forms of the plain pages send, in bytes.
const maxPageForm = 16 << 10

// signInPage is what signin.html shows: a form to sign in, or to join when there is a token.
type signInPage struct {
	Join    bool
	Token   string // of the invitation
	Email   string
	Name    string
	Problem string // a sentence; empty at first
}

// authPages serves what a person needs to get in without any script.
func (s *Server) authPages(e *echo.Echo) {
	e.GET("/sign-in", s.signInForm)
	e.POST("/sign-in", s.signIn)
	e.POST("/sign-out", s.signOut)
	e.GET("/join", s.joinForm)
	e.POST("/join", s.join)
}

// signInForm shows the form, or uses up the one-time link that the address is.
func (s *Server) signInForm(c echo.Context) error {
	token := c.QueryParam("token")
	if token == "" {
		return showSignIn(c, http.StatusOK, signInPage{})
	}
	session, err := s.tokens.UseLink(c.Request().Context(), token, s.origin(c).Origin)
	return s.enter(c, session, err, signInPage{})
}

func (s *Server) signIn(c echo.Context) error {
	if err := parsePageForm(c); err != nil {
		return err
	}
	in := auth.SignIn{Email: c.FormValue("email"), Password: c.FormValue("password"), From: s.origin(c).Origin}
	session, err := s.tokens.SignIn(c.Request().Context(), in)
	return s.enter(c, session, err, signInPage{Email: in.Email})
}

func (s *Server) joinForm(c echo.Context) error {
	return showSignIn(c, http.StatusOK, signInPage{Join: true, Token: c.QueryParam("token")})
}

func (s *Server) join(c echo.Context) error {
	if err := parsePageForm(c); err != nil {
		return err
	}
	a := auth.Acceptance{
		Token: c.FormValue("token"), Name: c.FormValue("name"), Password: c.FormValue("password"), From: s.origin(c).Origin,
	}
	session, err := s.tokens.Accept(c.Request().Context(), a)
	return s.enter(c, session, err, signInPage{Join: true, Token: a.Token, Name: a.Name})
}

// enter sets the cookie and leads to the start, or shows the form again with what went wrong.
func (s *Server) enter(c echo.Context, session auth.Session, err error, page signInPage) error {
	if err == nil {
		c.SetCookie(cookieOf(session, s.origin(c)))
		c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
		return c.Redirect(http.StatusSeeOther, "/")
	}
	known, ok := errors.AsType[*errs.Error](err)
	if !ok || known.Code == errs.Internal {
		return err
	}
	zerolog.Ctx(c.Request().Context()).Info().Str("code", string(known.Code)).Msg("a person was not let in")
	if wait, ok := errors.AsType[*auth.WaitError](err); ok {
		c.Response().Header().Set(echo.HeaderRetryAfter, strconv.Itoa(int(wait.Wait.Seconds())))
	}
	page.Problem = known.Message
	return showSignIn(c, statusOf(known.Code), page)
}

// signOut ends the session of the cookie, if there is one.
func (s *Server) signOut(c echo.Context) error {
	ctx := c.Request().Context()
	from := s.origin(c)
	if p, ok := s.signedIn(c); ok {
		err := s.tokens.EndSession(ctx, actor(p, from.Origin), *p.UserID, *p.SessionID)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	c.SetCookie(noCookie(from))
	return c.Redirect(http.StatusSeeOther, "/sign-in")
}

// signedIn returns the person whose session the cookie is; ok is false when there is none, or nobody can tell now.
func (s *Server) signedIn(c echo.Context) (p auth.Principal, ok bool) {
	cookie, err := c.Cookie(sessionCookie)
	if err != nil {
		return auth.Principal{}, false
	}
	p, err = s.tokens.AuthenticateSession(c.Request().Context(), cookie.Value)
	if err != nil && !errs.Is(err, errs.Unauthorized) {
		zerolog.Ctx(c.Request().Context()).Error().Err(err).Msg("a session could not be looked up")
	}
	return p, err == nil
}

func parsePageForm(c echo.Context) error {
	c.Request().Body = http.MaxBytesReader(c.Response(), c.Request().Body, maxPageForm)
	if err := c.Request().ParseForm(); err != nil {
		return errs.E(errs.Invalid, "The form cannot be read.").Because(err)
	}
	return nil
}

func showSignIn(c echo.Context, status int, page signInPage) error {
	shown, err := template.New("signin").Parse(signInText)
	if err != nil {
		return fmt.Errorf("parsing the page to sign in: %w", err)
	}
	pageHeaders(c)
	c.Response().WriteHeader(status)
	return shown.Execute(c.Response(), page)
}

// pageHeaders is for pages without scripts that post to us. The policy about referrers lets browsers name the origin of a post.
func pageHeaders(c echo.Context) {
	header := c.Response().Header()
	header.Set(echo.HeaderContentType, echo.MIMETextHTMLCharsetUTF8)
	header.Set(echo.HeaderCacheControl, "no-store")
	header.Set(echo.HeaderReferrerPolicy, "same-origin")
	header.Set(echo.HeaderContentSecurityPolicy, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
}
