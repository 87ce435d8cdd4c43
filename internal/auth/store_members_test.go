package auth_test

import (
	"testing"

	"foundry/internal/audit"
	"foundry/internal/auth"
	"foundry/internal/errs"
)

func TestEnsureUser(t *testing.T) {
	t.Parallel()
	pool, store, org := setup(t)
	ensure := func(user auth.EnsureUser) (auth.Session, error) {
		user.OrganizationID = org
		link, err := store.EnsureUser(t.Context(), user)
		if err != nil {
			return auth.Session{}, err
		}
		return store.UseLink(t.Context(), link.Reveal(), auth.Origin{})
	}
	first, err := ensure(auth.EnsureUser{Email: " Ada@Example.com "})
	if err != nil || first.Person.Email != "ada@example.com" || first.Person.Name != "ada@example.com" || first.Role != auth.Owner {
		t.Fatalf("the first person is %+v, %s (%v)", first.Person, first.Role, err)
	}
	if _, err := ensure(auth.EnsureUser{Email: "ada@example.com", Role: auth.Viewer}); !errs.Is(err, errs.Conflict) {
		t.Errorf("the last owner became a viewer: %v", err)
	}
	bob, err := ensure(auth.EnsureUser{Email: "bob@example.com", Name: "Bob", Role: auth.Editor})
	if err != nil || bob.Role != auth.Editor || bob.Person.Name != "Bob" {
		t.Errorf("the second person is %+v, %s (%v)", bob.Person, bob.Role, err)
	}
	again, err := ensure(auth.EnsureUser{Email: "bob@example.com", Name: "Robert"})
	if err != nil || again.Role != auth.Editor || again.Person != bob.Person {
		t.Errorf("without a role the person became %+v, %s (%v)", again.Person, again.Role, err)
	}
	if raised, err := ensure(auth.EnsureUser{Email: "bob@example.com", Role: auth.Owner}); err != nil || raised.Role != auth.Owner {
		t.Errorf("with a role the person became %s (%v)", raised.Role, err)
	}
	for name, user := range map[string]auth.EnsureUser{
		"no address": {Email: "ada"}, "two": {Email: "a@b c@d"}, "no name": {Email: "@example.com"}, "another role": {Email: "a@b.c", Role: "king"},
	} {
		if _, err := ensure(user); !errs.Is(err, errs.Validation) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var rows int
	err = pool.QueryRow(t.Context(), "SELECT count(*) FROM audit_log WHERE actor_kind = 'system' AND target = 'bob@example.com'").Scan(&rows)
	if err != nil || rows != 6 { // the user, the membership, the new role, three links
		t.Errorf("%d rows in the audit record, want 6 (%v)", rows, err)
	}
}

func TestAForgottenPasswordCanBeSetAnew(t *testing.T) {
	t.Parallel()
	_, store, org := setup(t)
	signedIn := func(forget bool) (auth.Session, auth.Principal) {
		link, err := store.EnsureUser(t.Context(), auth.EnsureUser{OrganizationID: org, Email: "ada@example.com", ForgetPassword: forget})
		if err != nil {
			t.Fatal(err)
		}
		session, err := store.UseLink(t.Context(), link.Reveal(), auth.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := store.AuthenticateSession(t.Context(), session.Token.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		return session, p
	}
	change := func(forget bool, password string) error {
		_, p := signedIn(forget)
		return store.ChangePassword(t.Context(), onBehalf(p), auth.ChangePassword{By: p, New: password})
	}
	if err := change(false, "the first password"); err != nil {
		t.Fatal(err)
	}
	if err := change(false, "the second password"); !errs.Is(err, errs.Validation) {
		t.Errorf("a link alone changed the password: %v", err)
	}
	if err := change(true, "the second password"); err != nil {
		t.Errorf("after forgetting: %v", err)
	}
	for password, ok := range map[string]bool{"the first password": false, "the second password": true} {
		_, err := store.SignIn(t.Context(), auth.SignIn{Email: "ada@example.com", Password: password})
		if ok != (err == nil) {
			t.Errorf("%q: %v", password, err)
		}
	}
}

// onBehalf is the actor of a principal.
func onBehalf(p auth.Principal) audit.Actor {
	return audit.Actor{OrganizationID: p.OrganizationID, Kind: audit.User, ID: p.UserID, Name: p.Email}
}
