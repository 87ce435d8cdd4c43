package httpapi

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/auth"
	"foundry/internal/httpapi/openapi"
)

func memberPath(v visitor) string { return apiPrefix + "/members/" + v.Person.ID.String() }

func TestMembers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	owner, admin := b.person(t, "owner@example.com", auth.Owner), b.person(t, "admin@example.com", auth.Admin)
	editor := b.person(t, "editor@example.com", auth.Editor)
	first := decode[openapi.MemberPage](t, b.as(t, editor.cookie, http.MethodGet, apiPrefix+"/members?limit=2", nil), http.StatusOK)
	if len(first.Data) != 2 || first.Data[0].User.Email != "owner@example.com" || first.Data[0].Role != "owner" || first.NextCursor == nil {
		t.Fatalf("the first page is %+v", first)
	}
	rest := decode[openapi.MemberPage](t, b.as(t, editor.cookie, http.MethodGet, apiPrefix+"/members?limit=2&cursor="+*first.NextCursor, nil), http.StatusOK)
	if len(rest.Data) != 1 || rest.Data[0].User.Email != "editor@example.com" || rest.NextCursor != nil {
		t.Errorf("the second page is %+v", rest)
	}

	changed := decode[openapi.Member](t, b.as(t, admin.cookie, http.MethodPatch, memberPath(editor), map[string]string{"role": "admin"}), http.StatusOK)
	if changed.Role != "admin" || changed.User.ID != editor.Person.ID {
		t.Errorf("changed to %+v", changed)
	}
	if me := decode[openapi.Me](t, b.as(t, editor.cookie, http.MethodGet, apiPrefix+"/me", nil), http.StatusOK); me.Role != "admin" {
		t.Errorf("the new role is not there at once: %s", me.Role)
	}
	for name, c := range map[string]struct {
		method, path, role string
	}{
		"to grant what one lacks": {http.MethodPatch, memberPath(editor), "owner"},
		"to lower who is above":   {http.MethodPatch, memberPath(owner), "viewer"},
		"to remove who is above":  {http.MethodDelete, memberPath(owner), ""},
		"to raise oneself":        {http.MethodPatch, memberPath(admin), "owner"},
	} {
		var body any
		if c.role != "" {
			body = map[string]string{"role": c.role}
		}
		p := wantProblem(t, b.as(t, admin.cookie, c.method, c.path, body), http.StatusForbidden, "forbidden")
		if p.Detail != "This needs the right to manage roles above your own, which is admin." {
			t.Errorf("%s: %q", name, p.Detail)
		}
	}
	if a := b.as(t, admin.cookie, http.MethodDelete, memberPath(editor), nil); a.status != http.StatusNoContent {
		t.Fatalf("removing: %d %s", a.status, a.body)
	}
	if a := b.as(t, editor.cookie, http.MethodGet, apiPrefix+"/me", nil); a.status != http.StatusUnauthorized {
		t.Errorf("who was removed is answered %d", a.status)
	}
	wantProblem(t, b.as(t, admin.cookie, http.MethodDelete, memberPath(editor), nil), http.StatusNotFound, "not_found")
	if b.audited(t, "member.set", "editor@example.com") != 2 || b.audited(t, "member.remove", "editor@example.com") != 1 {
		t.Error("the audit record lacks what happened to a member")
	}
}

func TestTheLastOwnerStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, bob := b.person(t, "ada@example.com", auth.Owner), b.person(t, "bob@example.com", auth.Owner)
	// Each lets go of the other at the same moment.
	statuses := make([]int, 2)
	var both sync.WaitGroup
	both.Go(func() { statuses[0] = b.as(t, ada.cookie, http.MethodDelete, memberPath(bob), nil).status })
	both.Go(func() {
		statuses[1] = b.as(t, bob.cookie, http.MethodPatch, memberPath(ada), map[string]string{"role": "viewer"}).status
	})
	both.Wait()
	if n := b.count(t, "SELECT count(*) FROM members WHERE organization_id = $1 AND role = 'owner'", b.orgID); n != 1 {
		t.Fatalf("%d owners are left (%v)", n, statuses)
	}
	last := apiPrefix + "/members/"
	var id uuid.UUID
	if err := b.pool.QueryRow(t.Context(), "SELECT user_id FROM members WHERE role = 'owner'").Scan(&id); err != nil {
		t.Fatal(err)
	}
	last += id.String()
	for _, a := range []answer{
		b.call(t, http.MethodDelete, last, nil), b.call(t, http.MethodPatch, last, map[string]string{"role": "admin"}),
	} {
		p := wantProblem(t, a, http.StatusConflict, "conflict")
		if p.Detail != "This is the last owner of the organization. Make somebody else owner first." {
			t.Errorf("the last owner: %q", p.Detail)
		}
	}
	if a := b.call(t, http.MethodPatch, last, map[string]string{"role": "owner"}); a.status != http.StatusOK {
		t.Errorf("leaving the last owner as it is: %d", a.status)
	}
}

// TestLeaving holds that everybody may take themselves out, with what lets them in, and nobody above them along.
func TestLeaving(t *testing.T) {
	t.Parallel()
	b := setup(t)
	owner := b.person(t, "owner@example.com", auth.Owner)
	p := wantProblem(t, b.as(t, owner.cookie, http.MethodDelete, memberPath(owner), nil), http.StatusConflict, "conflict")
	if p.Detail != "This is the last owner of the organization. Make somebody else owner first." {
		t.Errorf("the last owner leaves: %q", p.Detail)
	}
	viewer, editor := b.person(t, "viewer@example.com", auth.Viewer), b.person(t, "editor@example.com", auth.Editor)
	p = wantProblem(t, b.as(t, viewer.cookie, http.MethodDelete, memberPath(editor), nil), http.StatusForbidden, "forbidden")
	if p.Detail != "This needs the right to manage members." {
		t.Errorf("a viewer removes another: %q", p.Detail)
	}
	if a := b.as(t, viewer.cookie, http.MethodDelete, memberPath(viewer), nil); a.status != http.StatusNoContent {
		t.Fatalf("a viewer leaves: %d %s", a.status, a.body)
	}
	if a := b.as(t, viewer.cookie, http.MethodGet, apiPrefix+"/me", nil); a.status != http.StatusUnauthorized {
		t.Errorf("who has left is answered %d", a.status)
	}
	// By a token it needs the scope, and no more rights than the token has.
	narrow := b.makeToken(t, editor, map[string]any{"name": "narrow", "scopes": []string{"members:read"}})
	p = wantProblem(t, b.with(t, narrow.Token, http.MethodDelete, memberPath(editor), nil), http.StatusForbidden, "forbidden")
	if p.Detail != "This needs the right to leave the organization." {
		t.Errorf("without the scope: %q", p.Detail)
	}
	weak := b.makeToken(t, editor, map[string]any{"name": "weak", "scopes": []string{"*"}, "role": "viewer"})
	wantProblem(t, b.with(t, weak.Token, http.MethodDelete, memberPath(editor), nil), http.StatusForbidden, "forbidden")
	whole := b.makeToken(t, editor, map[string]any{"name": "whole", "scopes": []string{"members:write"}})
	me := decode[openapi.Me](t, b.with(t, whole.Token, http.MethodGet, apiPrefix+"/me", nil), http.StatusOK)
	if me.Token == nil || me.Token.UserID == nil || *me.Token.UserID != editor.Person.ID {
		t.Errorf("the token does not say whose it is: %+v", me.Token)
	}
	if a := b.with(t, whole.Token, http.MethodDelete, memberPath(editor), nil); a.status != http.StatusNoContent {
		t.Fatalf("leaving by a token: %d %s", a.status, a.body)
	}
	for _, token := range []string{narrow.Token, weak.Token, whole.Token} {
		if a := b.with(t, token, http.MethodGet, apiPrefix+"/me", nil); a.status != http.StatusUnauthorized {
			t.Errorf("a token of who has left is answered %d", a.status)
		}
	}
	if b.audited(t, "member.remove", "editor@example.com") != 1 {
		t.Error("the audit record lacks who left")
	}
}

func (b *testBundle) accept(t *testing.T, link, name, password string) answer {
	t.Helper()
	body := map[string]string{"token": link[strings.Index(link, "=")+1:], "password": password}
	if name != "" {
		body["name"] = name
	}
	return b.as(t, "", http.MethodPost, apiPrefix+"/invitations/accept", body)
}

func TestInvitations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.person(t, "admin@example.com", auth.Admin)
	invite := func(email, role string) openapi.InvitationCreated {
		return decode[openapi.InvitationCreated](t, b.as(t, admin.cookie, http.MethodPost, apiPrefix+"/invitations", map[string]string{"email": email, "role": role}), http.StatusCreated)
	}
	first, again := invite("Bob@example.com", "viewer"), invite("bob@example.com", "editor")
	if again.Email != "bob@example.com" || again.InvitedBy == nil || *again.InvitedBy != "admin@example.com" || !strings.HasPrefix(again.Link, b.url+"/join?token=fdi_") {
		t.Errorf("the invitation is %+v", again)
	}
	carl := invite("carl@example.com", "viewer")
	list := decode[openapi.InvitationPage](t, b.as(t, admin.cookie, http.MethodGet, apiPrefix+"/invitations?limit=1", nil), http.StatusOK)
	if len(list.Data) != 1 || list.Data[0].ID != carl.ID || list.NextCursor == nil {
		t.Fatalf("the first page is %+v", list)
	}
	rest := b.as(t, admin.cookie, http.MethodGet, apiPrefix+"/invitations?cursor="+*list.NextCursor, nil)
	if list := decode[openapi.InvitationPage](t, rest, http.StatusOK); len(list.Data) != 1 || list.Data[0].ID != again.ID || strings.Contains(string(rest.body), "fdi_") {
		t.Errorf("the second page is %s", rest.body)
	}

	if a := b.as(t, admin.cookie, http.MethodDelete, apiPrefix+"/invitations/"+carl.ID.String(), nil); a.status != http.StatusNoContent {
		t.Errorf("withdrawing: %d", a.status)
	}
	wantProblem(t, b.as(t, admin.cookie, http.MethodDelete, apiPrefix+"/invitations/"+carl.ID.String(), nil), http.StatusNotFound, "not_found")
	late := invite("late@example.com", "viewer")
	b.exec(t, "UPDATE invitations SET expires_at = now() WHERE id = $1", late.ID)
	for name, link := range map[string]string{"replaced": first.Link, "withdrawn": carl.Link, "run out": late.Link, "nonsense": "=nonsense"} {
		p := wantProblem(t, b.accept(t, link, "Bob", goodPassword), http.StatusNotFound, "not_found")
		if p.Detail != "This invitation has been used, withdrawn or has run out. Ask for a new one." {
			t.Errorf("%s: %q", name, p.Detail)
		}
	}
	wantPointers(t, wantProblem(t, b.accept(t, again.Link, "Bob", "short"), http.StatusUnprocessableEntity, "validation"), "/password")
	wantPointers(t, wantProblem(t, b.accept(t, again.Link, "", goodPassword), http.StatusUnprocessableEntity, "validation"), "/name")
	a := b.accept(t, again.Link, "Bob", goodPassword)
	in := decode[openapi.SignedIn](t, a, http.StatusOK)
	if in.User.Email != "bob@example.com" || in.User.Name != "Bob" || in.Role != "editor" || sessionOf(a) == nil {
		t.Errorf("joined as %+v", in)
	}
	wantProblem(t, b.accept(t, again.Link, "Bob", goodPassword), http.StatusNotFound, "not_found")
	if a := b.login(t, "bob@example.com", goodPassword); a.status != http.StatusOK {
		t.Errorf("the new person signs in: %d", a.status)
	}
	p := wantProblem(t, b.as(t, admin.cookie, http.MethodPost, apiPrefix+"/invitations", map[string]string{"email": "bob@example.com", "role": "viewer"}), http.StatusConflict, "conflict")
	if p.Detail != "bob@example.com is already a member of the organization." {
		t.Errorf("a member is invited: %q", p.Detail)
	}
	for action, want := range map[string]int{"invitation.create": 2, "user.create": 1, "invitation.accept": 1, "session.create": 2} {
		if n := b.audited(t, action, "bob@example.com"); n != want {
			t.Errorf("%d of %s are in the audit record, want %d", n, action, want)
		}
	}
}

func TestInvitedPeopleProveTheirAccount(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other, _ := b.organization(t, "umbrella")
	ada := b.personOf(t, other, "ada@example.com", auth.Owner)
	b.setPassword(t, ada)
	b.personOf(t, other, "bare@example.com", auth.Owner) // without a password
	for _, email := range []string{"ada@example.com", "bare@example.com"} {
		link := post[openapi.InvitationCreated](t, b, apiPrefix+"/invitations", map[string]string{"email": email, "role": "viewer"}, http.StatusCreated).Link
		p := wantProblem(t, b.accept(t, link, "Mallory", "mallory's own"), http.StatusUnauthorized, "unauthorized")
		if p.Detail != "This address has an account with another password. Give that one." {
			t.Errorf("%s: %q", email, p.Detail)
		}
	}
	if n := b.count(t, "SELECT count(*) FROM members WHERE organization_id = $1", b.orgID); n != 0 {
		t.Fatalf("%d joined", n)
	}
	link := post[openapi.InvitationCreated](t, b, apiPrefix+"/invitations", map[string]string{"email": "ada@example.com", "role": "viewer"}, http.StatusCreated).Link
	in := decode[openapi.SignedIn](t, b.accept(t, link, "Mallory", goodPassword), http.StatusOK)
	if in.User.ID != ada.Person.ID || in.User.Name == "Mallory" || in.Organization.Slug != "acme" || in.Role != "viewer" {
		t.Errorf("joined as %+v", in)
	}
	// A session acts in its own organization, and a person in those joined.
	if me := decode[openapi.Me](t, b.as(t, ada.cookie, http.MethodGet, apiPrefix+"/me", nil), http.StatusOK); me.Organization.Slug != "umbrella" || me.Role != "owner" {
		t.Errorf("the old session is in %+v", me.Organization)
	}
	a := b.as(t, "", http.MethodPost, apiPrefix+"/auth/login", map[string]string{"email": "ada@example.com", "password": goodPassword, "organization": "acme"})
	if in := decode[openapi.SignedIn](t, a, http.StatusOK); in.Organization.Slug != "acme" {
		t.Errorf("signed in to %+v", in.Organization)
	}
}

func TestRefusedInvitations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct {
		body    any
		pointer string
	}{
		"an owner":   {map[string]string{"email": "a@example.com", "role": "owner"}, "/role"},
		"no address": {map[string]string{"email": "nobody", "role": "viewer"}, "/email"},
		"unknown":    {map[string]string{"email": "a@example.com", "role": "viewer", "name": "x"}, "/name"},
	} {
		t.Run(name, func(t *testing.T) {
			wantPointers(t, wantProblem(t, b.call(t, http.MethodPost, apiPrefix+"/invitations", c.body), http.StatusUnprocessableEntity, "validation"), c.pointer)
		})
	}
}
