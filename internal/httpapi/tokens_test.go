package httpapi

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/auth"
	"foundry/internal/httpapi/openapi"
)

// makeToken makes a token by a session and returns it with its secret.
func (b *testBundle) makeToken(t *testing.T, v visitor, body map[string]any) openapi.TokenCreated {
	t.Helper()
	return decode[openapi.TokenCreated](t, b.as(t, v.cookie, http.MethodPost, apiPrefix+"/tokens", body), http.StatusCreated)
}

// with calls with another API token.
func (b *testBundle) with(t *testing.T, token, method, path string, body any) answer {
	t.Helper()
	return b.call(t, method, path, body, "Authorization", "Bearer "+token)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.person(t, "ada@example.com", auth.Editor)
	a := b.as(t, ada.cookie, http.MethodPost, apiPrefix+"/tokens", map[string]any{"name": "ci", "scopes": []string{"executions:write", "workflows:read"}})
	made := decode[openapi.TokenCreated](t, a, http.StatusCreated)
	if made.Role != "editor" || !slices.Equal(made.Scopes, []string{"executions:write", "workflows:read"}) || made.User == nil || made.User.Email != "ada@example.com" || made.LastUsedAt != nil {
		t.Errorf("made %+v", made)
	}
	if got := a.header.Get("Location"); got != apiPrefix+"/tokens/"+made.ID.String() {
		t.Errorf("Location is %q", got)
	}
	if made.ExpiresAt == nil || made.ExpiresAt.Sub(made.CreatedAt) != 90*24*time.Hour {
		t.Errorf("it expires at %v", made.ExpiresAt)
	}
	me := decode[openapi.Me](t, b.with(t, made.Token, http.MethodGet, apiPrefix+"/me", nil), http.StatusOK)
	if me.Kind != "token" || me.Token == nil || me.Token.ID != made.ID || me.User != nil || me.Role != "editor" || !slices.Equal(me.Scopes, made.Scopes) {
		t.Errorf("me is %+v", me)
	}
	listed := decode[openapi.TokenPage](t, b.as(t, ada.cookie, http.MethodGet, apiPrefix+"/tokens", nil), http.StatusOK)
	if len(listed.Data) != 1 || listed.Data[0].ID != made.ID || listed.Data[0].LastUsedAt == nil || listed.NextCursor != nil {
		t.Errorf("the list is %+v", listed)
	}
	if again := b.as(t, ada.cookie, http.MethodGet, apiPrefix+"/tokens", nil); strings.Contains(string(again.body), made.Token[4:20]) {
		t.Error("the list shows the secret")
	}
	if a := b.as(t, ada.cookie, http.MethodDelete, apiPrefix+"/tokens/"+made.ID.String(), nil); a.status != http.StatusNoContent {
		t.Errorf("revoking: %d", a.status)
	}
	p := wantProblem(t, b.with(t, made.Token, http.MethodGet, apiPrefix+"/me", nil), http.StatusUnauthorized, "unauthorized")
	if p.Detail != "The API token is unknown or has expired." {
		t.Errorf("revoked: %q", p.Detail)
	}
	if b.audited(t, "token.create", "ci") != 1 || b.audited(t, "token.delete", "ci") != 1 {
		t.Error("the audit record lacks the token")
	}
}

func TestTokenScopesHold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	ada := b.person(t, "ada@example.com", auth.Owner)
	for scope, allowed := range map[string]string{
		"workflows:read":   "workflows",
		"workflows:write":  "workflows push",
		"executions:read":  "executions",
		"executions:write": "executions run",
		"members:read":     "members",
		"members:write":    "members invite",
		"audit:read":       "audit",
		"tokens:write":     "tokens",
		"machines:read":    "workers sandboxes",
		"machines:write":   "workers sandboxes",
		"*":                "workflows push executions run members invite audit tokens workers sandboxes",
	} {
		token := b.makeToken(t, ada, map[string]any{"name": scope, "scopes": []string{scope}}).Token
		for name, call := range map[string]struct {
			method, path string
			body         any
		}{
			"workflows":  {http.MethodGet, "/workflows", nil},
			"push":       {http.MethodPost, "/workflows/hello/versions", map[string]any{"source": helloText}},
			"executions": {http.MethodGet, "/executions", nil},
			"run":        {http.MethodPost, "/workflows/hello/executions", nil},
			"members":    {http.MethodGet, "/members", nil},
			"invite":     {http.MethodPost, "/invitations", map[string]any{"email": "eve@example.com", "role": "viewer"}},
			"audit":      {http.MethodGet, "/audit", nil},
			"tokens":     {http.MethodGet, "/tokens", nil},
			"workers":    {http.MethodGet, "/workers", nil},
			"sandboxes":  {http.MethodGet, "/sandboxes", nil},
		} {
			a := b.with(t, token, call.method, apiPrefix+call.path, call.body)
			if want := slices.Contains(strings.Fields(allowed), name); want != (a.status < 300) {
				t.Errorf("scope %s, %s: %d %s", scope, name, a.status, a.body)
			} else if !want {
				wantProblem(t, a, http.StatusForbidden, "forbidden")
			}
		}
	}
}

func TestTokensNeverHaveMoreRightsThanTheirMaker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.person(t, "ada@example.com", auth.Editor)
	for name, c := range map[string]struct {
		body   map[string]any
		detail string
	}{
		"a higher role": {map[string]any{"name": "n", "scopes": []string{"*"}, "role": "admin"}, "This needs the right to act as admin, which a token of yours cannot have."},
	} {
		p := wantProblem(t, b.as(t, ada.cookie, http.MethodPost, apiPrefix+"/tokens", c.body), http.StatusForbidden, "forbidden")
		if p.Detail != c.detail {
			t.Errorf("%s: %q", name, p.Detail)
		}
	}
	narrow := b.makeToken(t, ada, map[string]any{"name": "narrow", "scopes": []string{"tokens:write", "workflows:write"}, "role": "viewer"})
	for _, scope := range []string{"*", "executions:read"} {
		a := b.with(t, narrow.Token, http.MethodPost, apiPrefix+"/tokens", map[string]any{"name": "n", "scopes": []string{scope}})
		p := wantProblem(t, a, http.StatusForbidden, "forbidden")
		if p.Detail != "This needs the right to "+scope+", which this token lacks and so cannot pass on." {
			t.Errorf("%s: %q", scope, p.Detail)
		}
	}
	a := b.with(t, narrow.Token, http.MethodPost, apiPrefix+"/tokens", map[string]any{"name": "child", "scopes": []string{"workflows:read"}})
	if child := decode[openapi.TokenCreated](t, a, http.StatusCreated); child.Role != "viewer" || child.User == nil || child.User.ID != ada.Person.ID {
		t.Errorf("the child is %+v", child)
	}

	wide := b.makeToken(t, ada, map[string]any{"name": "wide", "scopes": []string{"*"}})
	push := func() int {
		return b.with(t, wide.Token, http.MethodPost, apiPrefix+"/workflows", map[string]any{"source": helloText, "slug": "s-" + uuid.NewString()[:8]}).status
	}
	if status := push(); status != http.StatusCreated {
		t.Fatalf("as an editor: %d", status)
	}
	if a := b.call(t, http.MethodPatch, apiPrefix+"/members/"+ada.Person.ID.String(), map[string]string{"role": "viewer"}); a.status != http.StatusOK {
		t.Fatal(string(a.body))
	}
	if status := push(); status != http.StatusForbidden {
		t.Errorf("with its user made a viewer: %d", status)
	}
	if a := b.call(t, http.MethodDelete, apiPrefix+"/members/"+ada.Person.ID.String(), nil); a.status != http.StatusNoContent {
		t.Fatal(string(a.body))
	}
	if status := push(); status != http.StatusUnauthorized {
		t.Errorf("with its user removed: %d", status)
	}
}

func TestTokensAreOnesOwnUnlessOneOversees(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, bob := b.person(t, "ada@example.com", auth.Admin), b.person(t, "bob@example.com", auth.Editor)
	body := map[string]any{"name": "n", "scopes": []string{"*"}}
	hers, his := b.makeToken(t, ada, body), b.makeToken(t, bob, body)
	names := func(cookie string) (ids []uuid.UUID) {
		path := apiPrefix + "/tokens?limit=1"
		for {
			list := decode[openapi.TokenPage](t, b.as(t, cookie, http.MethodGet, path, nil), http.StatusOK)
			for _, token := range list.Data {
				ids = append(ids, token.ID)
			}
			if list.NextCursor == nil {
				return ids
			}
			path = apiPrefix + "/tokens?limit=1&cursor=" + *list.NextCursor
		}
	}
	if got := names(bob.cookie); !slices.Equal(got, []uuid.UUID{his.ID}) {
		t.Errorf("an editor sees %v", got)
	}
	if got := names(ada.cookie); len(got) != 3 || got[0] != his.ID || got[1] != hers.ID {
		t.Errorf("an admin sees %v", got)
	}
	wantProblem(t, b.as(t, bob.cookie, http.MethodDelete, apiPrefix+"/tokens/"+hers.ID.String(), nil), http.StatusNotFound, "not_found")
	if a := b.as(t, ada.cookie, http.MethodDelete, apiPrefix+"/tokens/"+his.ID.String(), nil); a.status != http.StatusNoContent {
		t.Errorf("an admin revokes: %d", a.status)
	}
	// A token that nobody stands behind has none of its own.
	b.exec(t, "UPDATE tokens SET role = 'editor' WHERE name = 'test'")
	p := wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/tokens", nil), http.StatusForbidden, "forbidden")
	if p.Detail != "This needs the right to manage the API tokens of others." {
		t.Errorf("a machine's token: %q", p.Detail)
	}
}

func TestRefusedTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct {
		body     any
		pointers []string
	}{
		"nothing":        {map[string]any{}, []string{"/name", "/scopes"}},
		"no scopes":      {map[string]any{"name": "n", "scopes": []string{}}, []string{"/scopes"}},
		"another scope":  {map[string]any{"name": "n", "scopes": []string{"*", "world:rule"}}, []string{"/scopes/1"}},
		"another role":   {map[string]any{"name": "n", "scopes": []string{"*"}, "role": "king"}, []string{"/role"}},
		"ten years more": {map[string]any{"name": "n", "scopes": []string{"*"}, "expires_in_days": 3651}, []string{"/expires_in_days"}},
		"no days":        {map[string]any{"name": "n", "scopes": []string{"*"}, "expires_in_days": 0}, []string{"/expires_in_days"}},
		"unknown":        {map[string]any{"name": "n", "scopes": []string{"*"}, "secret": "s"}, []string{"/secret"}},
	} {
		t.Run(name, func(t *testing.T) {
			wantPointers(t, wantProblem(t, b.call(t, http.MethodPost, apiPrefix+"/tokens", c.body), http.StatusUnprocessableEntity, "validation"), c.pointers...)
		})
	}
}
