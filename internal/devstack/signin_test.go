package devstack

import (
	"strings"
	"testing"

	"foundry/internal/auth"
	"foundry/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestSignInLinkLetsInOnce(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	link, err := NewSignInLink(t.Context(), pool.Config().ConnString(), "http://127.0.0.1:8080", auth.EnsureUser{Email: "Ada@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	token, ok := strings.CutPrefix(link, "http://127.0.0.1:8080/sign-in?token=")
	if !ok {
		t.Fatalf("the link is %q", link)
	}
	session, err := auth.NewStore(pool).UseLink(t.Context(), token, auth.Origin{})
	if err != nil || session.Person.Email != "ada@example.com" || session.Role != auth.Owner || session.Organization.Slug != Organization {
		t.Errorf("the link lets in %+v (%v)", session.Person, err)
	}
	if _, err := auth.NewStore(pool).UseLink(t.Context(), token, auth.Origin{}); err == nil {
		t.Error("the link lets in twice")
	}
}
