package cli

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"foundry/api/client"
	"foundry/internal/errs"
)

// loginDays is how long a token lasts that a password was given for.
const loginDays = 90

// account is who logs in with a password; the zero value has a token.
type account struct{ email, organization string }

// tokenFor returns the token that commands are to use: the one that is typed, or a new one of the account.
func (a *app) tokenFor(ctx context.Context, s *server, as account) (string, error) {
	if as.email == "" {
		if as.organization != "" {
			return "", usage("--organization goes with --email: a token has its organization.")
		}
		token, err := a.readSecret("API token: ")
		return strings.TrimSpace(token), err
	}
	password, err := a.readSecret("Password of " + as.email + ": ")
	if err != nil {
		return "", err
	}
	session, err := s.signIn(ctx, as, password)
	if err != nil {
		return "", err
	}
	// The session was for the token only, and ends whatever becomes of it.
	defer a.signOut(context.WithoutCancel(ctx), s, session)
	var made client.TokenCreated
	_, err = s.call(ctx, request{method: http.MethodPost, path: []string{"tokens"}, header: session, body: client.NewToken{
		Name: loginTokenName(), Scopes: []client.Scope{"*"}, ExpiresInDays: loginDays,
	}}, &made)
	return made.Token, err
}

// signIn begins a session and returns the header that carries it.
func (s *server) signIn(ctx context.Context, as account, password string) (http.Header, error) {
	resp, err := s.send(ctx, request{method: http.MethodPost, path: []string{"auth", "login"}, body: client.Login{
		Email: as.email, Password: password, Organization: as.organization,
	}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	for _, cookie := range resp.Cookies() {
		if cookie.Value != "" {
			return http.Header{"Cookie": {cookie.Name + "=" + cookie.Value}}, nil
		}
	}
	return nil, errs.E(errs.Unavailable, "%s did not answer as a Foundry server does.", s.base)
}

func (a *app) signOut(ctx context.Context, s *server, session http.Header) {
	if _, err := s.call(ctx, request{method: http.MethodPost, path: []string{"auth", "logout"}, header: session}, nil); err != nil {
		fmt.Fprintf(a.Err, "foundry: the session that made the token goes on until it is idle for 7 days: %s\n", err)
	}
}

// loginTokenName tells the tokens of a person's machines apart.
func loginTokenName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "an unnamed machine"
	}
	name := []rune(strings.ToValidUTF8("foundry login on "+host, "?"))
	return string(name[:min(len(name), 200)])
}
