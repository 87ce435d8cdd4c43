package httpapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/auth"
	"foundry/internal/httpapi/openapi"
)

const goodPassword = "correct horse battery"

// visitor is a person with a session.
type visitor struct {
	auth.Session
	cookie string
}

// person makes a member of acme and signs in by a link.
func (b *testBundle) person(t *testing.T, email string, role auth.Role) visitor {
	t.Helper()
	return b.personOf(t, b.orgID, email, role)
}

func (b *testBundle) personOf(t *testing.T, organizationID uuid.UUID, email string, role auth.Role) visitor {
	t.Helper()
	link, err := b.server.tokens.EnsureUser(t.Context(), auth.EnsureUser{OrganizationID: organizationID, Email: email, Role: role, Name: strings.ToUpper(email[:1]) + email[1:]})
	if err != nil {
		t.Fatal(err)
	}
	session, err := b.server.tokens.UseLink(t.Context(), link.Reveal(), auth.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	return visitor{session, sessionCookie + "=" + session.Token.Reveal()}
}

// as calls with a session instead of the token; an empty cookie is nobody.
func (b *testBundle) as(t *testing.T, cookie, method, path string, body any, headers ...string) answer {
	t.Helper()
	return b.call(t, method, path, body, append([]string{"Authorization", "", "Cookie", cookie}, headers...)...)
}

// setPassword gives the visitor goodPassword, as the first one.
func (b *testBundle) setPassword(t *testing.T, v visitor) {
	t.Helper()
	if a := b.as(t, v.cookie, http.MethodPut, apiPrefix+"/me/password", map[string]string{"password": goodPassword}); a.status != http.StatusNoContent {
		t.Fatalf("setting a password: %d %s", a.status, a.body)
	}
}

func (b *testBundle) login(t *testing.T, email, password string, headers ...string) answer {
	t.Helper()
	return b.as(t, "", http.MethodPost, apiPrefix+"/auth/login", map[string]string{"email": email, "password": password}, headers...)
}

// sessionOf returns the session's cookie that an answer sets; nil for none.
func sessionOf(a answer) *http.Cookie {
	for _, line := range a.header.Values("Set-Cookie") {
		if cookie, err := http.ParseSetCookie(line); err == nil && cookie.Name == sessionCookie {
			return cookie
		}
	}
	return nil
}

func (b *testBundle) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	if err := b.pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (b *testBundle) audited(t *testing.T, action, target string) int {
	t.Helper()
	return b.count(t, "SELECT count(*) FROM audit_log WHERE organization_id = $1 AND action = $2 AND target = $3", b.orgID, action, target)
}

func TestPasswordSignIn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.person(t, "ada@example.com", auth.Editor)
	b.setPassword(t, ada)

	a := b.login(t, " ADA@example.com", goodPassword)
	wantPointers(t, wantProblem(t, a, http.StatusUnprocessableEntity, "validation"), "/email")
	a = b.login(t, "ADA@example.com", goodPassword, "User-Agent", "netscape")
	in := decode[openapi.SignedIn](t, a, http.StatusOK)
	if in.User.Email != "ada@example.com" || in.Role != openapi.Role(auth.Editor) || in.Organization.Slug != "acme" || in.SessionID == uuid.Nil {
		t.Errorf("signed in as %+v", in)
	}
	cookie := sessionOf(a)
	if cookie == nil || !cookie.HttpOnly || cookie.Secure || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.MaxAge != 30*24*3600 || cookie.Domain != "" {
		t.Fatalf("the cookie is %+v", cookie)
	}
	me := decode[openapi.Me](t, b.as(t, sessionCookie+"="+cookie.Value, http.MethodGet, apiPrefix+"/me", nil), http.StatusOK)
	if me.Kind != "user" || me.User == nil || me.User.ID != in.User.ID || me.Token != nil || me.Role != in.Role || me.Environment != "production" || me.Version != "1.2.3" {
		t.Errorf("me is %+v", me)
	}
	if n := b.count(t, "SELECT count(*) FROM sessions WHERE id = $1 AND user_agent = 'netscape' AND address <> ''", in.SessionID); n != 1 {
		t.Error("the session does not say where it comes from")
	}
	var rows string
	if err := b.pool.QueryRow(t.Context(), "SELECT string_agg(s::text, ' ') || (SELECT string_agg(u::text, ' ') FROM users u) FROM sessions s").Scan(&rows); err != nil || strings.Contains(rows, cookie.Value[4:30]) || strings.Contains(rows, goodPassword) {
		t.Errorf("the database holds what lets one in (%v)", err)
	}
	if b.audited(t, "session.create", "ada@example.com") != 2 { // the link, and now
		t.Error("the sign-in is not in the audit record")
	}

	a = b.as(t, sessionCookie+"="+cookie.Value, http.MethodPost, apiPrefix+"/auth/logout", nil)
	if gone := sessionOf(a); a.status != http.StatusNoContent || gone == nil || gone.MaxAge >= 0 || gone.Value != "" {
		t.Errorf("signing out: %d, cookie %+v", a.status, gone)
	}
	p := wantProblem(t, b.as(t, sessionCookie+"="+cookie.Value, http.MethodGet, apiPrefix+"/me", nil), http.StatusUnauthorized, "unauthorized")
	if p.Detail != "The session has ended. Sign in again." {
		t.Errorf("after signing out: %q", p.Detail)
	}
	if b.audited(t, "session.delete", "ada@example.com") != 1 {
		t.Error("the sign-out is not in the audit record")
	}
}

func TestCookiesAreSecureOverHTTPS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.setPassword(t, b.person(t, "ada@example.com", auth.Editor))
	if cookie := sessionOf(b.login(t, "ada@example.com", goodPassword, "X-Forwarded-Proto", "https")); cookie == nil || !cookie.Secure {
		t.Errorf("behind a proxy that speaks https: %+v", cookie)
	}
	public := setup(t, func(c *Config) { c.PublicURL = "https://foundry.example" })
	public.setPassword(t, public.person(t, "ada@example.com", auth.Editor))
	if cookie := sessionOf(public.login(t, "ada@example.com", goodPassword)); cookie == nil || !cookie.Secure {
		t.Errorf("with a public URL of https: %+v", cookie)
	}
}

func TestRefusedSignInsSayTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.setPassword(t, b.person(t, "ada@example.com", auth.Editor))
	b.person(t, "bare@example.com", auth.Editor) // without a password
	b.setPassword(t, b.person(t, "gone@example.com", auth.Editor))
	b.exec(t, "UPDATE users SET disabled_at = now() WHERE email = 'gone@example.com'")
	for _, email := range []string{"ada@example.com", "nobody@example.com", "bare@example.com", "gone@example.com"} {
		password := "wrong"
		if email == "gone@example.com" {
			password = goodPassword
		}
		a := b.login(t, email, password)
		p := wantProblem(t, a, http.StatusUnauthorized, "unauthorized")
		if p.Detail != "The address or the password is wrong." || sessionOf(a) != nil {
			t.Errorf("%s: %q", email, p.Detail)
		}
		if b.audited(t, "session.refused", email) != 1 {
			t.Errorf("%s: the refusal is not in the audit record", email)
		}
	}
	b.setPassword(t, b.person(t, "lone@example.com", auth.Editor))
	b.exec(t, "DELETE FROM members USING users WHERE id = user_id AND email = 'lone@example.com'")
	p := wantProblem(t, b.login(t, "lone@example.com", goodPassword), http.StatusForbidden, "forbidden")
	if p.Detail != "You are a member of no organization. Ask somebody for an invitation." {
		t.Errorf("without any organization: %q", p.Detail)
	}
	a := b.as(t, "", http.MethodPost, apiPrefix+"/auth/login", map[string]string{"email": "ada@example.com", "password": goodPassword, "organization": "umbrella"})
	p = wantProblem(t, a, http.StatusForbidden, "forbidden")
	if p.Detail != `You are no member of an organization "umbrella".` {
		t.Errorf("another organization: %q", p.Detail)
	}
	a = b.as(t, "", http.MethodPost, apiPrefix+"/auth/login", map[string]string{"email": "ada", "passwort": "x"})
	wantPointers(t, wantProblem(t, a, http.StatusUnprocessableEntity, "validation"), "/email", "/password", "/passwort")
}

func TestSignInsAreLimitedPerPerson(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.setPassword(t, b.person(t, "ada@example.com", auth.Editor))
	b.setPassword(t, b.person(t, "bob@example.com", auth.Editor))
	// In parallel, as somebody would who hopes that the count lags behind.
	var guesses sync.WaitGroup
	statuses := make([]int, 14)
	for i := range statuses {
		guesses.Go(func() { statuses[i] = b.login(t, "ada@example.com", "guess").status })
	}
	guesses.Wait()
	looked := 0
	for _, status := range statuses {
		switch status {
		case http.StatusUnauthorized:
			looked++
		case http.StatusTooManyRequests:
		default:
			t.Errorf("a guess was answered %d", status)
		}
	}
	if looked != 10 {
		t.Errorf("%d guesses were looked at, want 10", looked)
	}
	a := b.login(t, "ada@example.com", goodPassword)
	p := wantProblem(t, a, http.StatusTooManyRequests, "too_many")
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || seconds < 600 || seconds > 900 || p.Detail != "There were too many failed sign-ins. Try again in "+strconv.Itoa(seconds)+" seconds." {
		t.Errorf("Retry-After %q with %q", a.header.Get("Retry-After"), p.Detail)
	}
	if a := b.login(t, "bob@example.com", goodPassword); a.status != http.StatusOK {
		t.Errorf("another person is answered %d", a.status)
	}
	// What fails only counts for a quarter of an hour; and success forgets it.
	b.exec(t, "UPDATE sign_in_failures SET at = clock_timestamp() - interval '14 minutes' WHERE subject LIKE 'person:%'")
	a = b.login(t, "ada@example.com", goodPassword)
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds > 60 || a.status != http.StatusTooManyRequests {
		t.Errorf("in the last minute: %d, Retry-After %s", a.status, a.header.Get("Retry-After"))
	}
	b.exec(t, "UPDATE sign_in_failures SET at = at - interval '1 minute' WHERE subject LIKE 'person:%'")
	if a := b.login(t, "ada@example.com", goodPassword); a.status != http.StatusOK {
		t.Errorf("after a quarter of an hour: %d", a.status)
	}
	if n := b.count(t, "SELECT count(*) FROM sign_in_failures WHERE subject = 'person:ada@example.com'"); n != 0 {
		t.Errorf("%d failures are kept after success", n)
	}
}

func TestSignInsAreLimitedPerAddress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.setPassword(t, b.person(t, "ada@example.com", auth.Editor))
	b.exec(t, "INSERT INTO sign_in_failures (subject) SELECT 'address:203.0.113.7' FROM generate_series(1, 49)")
	if a := b.login(t, "ada@example.com", goodPassword, "X-Forwarded-For", "203.0.113.7"); a.status != http.StatusOK {
		t.Fatalf("at the limit: %d", a.status)
	}
	if n := b.count(t, "SELECT count(*) FROM sign_in_failures WHERE subject = 'address:203.0.113.7'"); n != 49 {
		t.Errorf("success left %d failures of the address, want the 49 of others", n)
	}
	b.login(t, "x@example.com", "guess", "X-Forwarded-For", "203.0.113.7")
	// The leftmost is what the client says of itself.
	a := b.login(t, "ada@example.com", goodPassword, "X-Forwarded-For", "198.51.100.1, 203.0.113.7")
	wantProblem(t, a, http.StatusTooManyRequests, "too_many")
	if a := b.login(t, "ada@example.com", goodPassword, "X-Forwarded-For", "203.0.113.8"); a.status != http.StatusOK {
		t.Errorf("another address is answered %d", a.status)
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, sql := range map[string]string{
		"after 7 idle days":  "UPDATE sessions SET last_seen_at = now() - interval '7 days' WHERE id = $1",
		"after 30 days":      "UPDATE sessions SET expires_at = now() WHERE id = $1",
		"when it is deleted": "DELETE FROM sessions WHERE id = $1",
		"with its user":      "UPDATE users SET disabled_at = now() WHERE id = (SELECT user_id FROM sessions WHERE id = $1)",
		"with membership":    "DELETE FROM members WHERE user_id = (SELECT user_id FROM sessions WHERE id = $1)",
	} {
		v := b.person(t, strings.ReplaceAll(name, " ", "-")+"@example.com", auth.Owner)
		if a := b.as(t, v.cookie, http.MethodGet, apiPrefix+"/me", nil); a.status != http.StatusOK {
			t.Fatalf("%s: at first %d", name, a.status)
		}
		b.exec(t, sql, v.ID)
		p := wantProblem(t, b.as(t, v.cookie, http.MethodGet, apiPrefix+"/me", nil), http.StatusUnauthorized, "unauthorized")
		if p.Detail != "The session has ended. Sign in again." {
			t.Errorf("%s: %q", name, p.Detail)
		}
	}
	v := b.person(t, "lasting@example.com", auth.Viewer)
	b.exec(t, "UPDATE sessions SET last_seen_at = now() - interval '6 days' WHERE id = $1", v.ID)
	b.as(t, v.cookie, http.MethodGet, apiPrefix+"/me", nil)
	if n := b.count(t, "SELECT count(*) FROM sessions WHERE id = $1 AND last_seen_at > now() - interval '1 minute'", v.ID); n != 1 {
		t.Error("a request does not keep the session")
	}
	for name, cookie := range map[string]string{"nonsense": "foundry_session=nonsense", "empty": "foundry_session=", "an API token": "foundry_session=" + b.token} {
		if a := b.as(t, cookie, http.MethodGet, apiPrefix+"/me", nil); a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	if a := b.call(t, http.MethodGet, apiPrefix+"/me", nil, "Authorization", "Bearer "+v.Token.Reveal()); a.status != http.StatusUnauthorized {
		t.Errorf("a session as a token: %d", a.status)
	}
}

func TestSessionsAreOnesOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, again, bob := b.person(t, "ada@example.com", auth.Owner), b.person(t, "ada@example.com", ""), b.person(t, "bob@example.com", auth.Owner)
	list := decode[openapi.Sessions](t, b.as(t, ada.cookie, http.MethodGet, apiPrefix+"/sessions", nil), http.StatusOK).Data
	if len(list) != 2 || list[0].ID != again.ID || list[0].Current || list[1].ID != ada.ID || !list[1].Current || list[1].Organization != "acme" {
		t.Errorf("the sessions are %+v", list)
	}
	path := func(id uuid.UUID) string { return apiPrefix + "/sessions/" + id.String() }
	p := wantProblem(t, b.as(t, ada.cookie, http.MethodDelete, path(bob.ID), nil), http.StatusNotFound, "not_found")
	if p.Detail != `There is no session "`+bob.ID.String()+`".` {
		t.Errorf("another's session: %q", p.Detail)
	}
	if a := b.as(t, ada.cookie, http.MethodDelete, path(again.ID), nil); a.status != http.StatusNoContent {
		t.Errorf("ending one's own: %d", a.status)
	}
	for cookie, want := range map[string]int{ada.cookie: http.StatusOK, again.cookie: http.StatusUnauthorized, bob.cookie: http.StatusOK} {
		if a := b.as(t, cookie, http.MethodGet, apiPrefix+"/me", nil); a.status != want {
			t.Errorf("afterwards: %d, want %d", a.status, want)
		}
	}
	for _, call := range [][2]string{{http.MethodGet, "/sessions"}, {http.MethodDelete, "/sessions/" + ada.ID.String()}, {http.MethodPost, "/auth/logout"}} {
		p := wantProblem(t, b.call(t, call[0], apiPrefix+call[1], nil), http.StatusForbidden, "forbidden")
		if p.Detail != "This needs the right to manage the account of a person; sign in instead of using an API token." {
			t.Errorf("%v with a token: %q", call, p.Detail)
		}
	}
}

func TestPasswordChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.person(t, "ada@example.com", auth.Viewer)
	other := b.person(t, "ada@example.com", "")
	change := func(body map[string]string) answer {
		return b.as(t, ada.cookie, http.MethodPut, apiPrefix+"/me/password", body)
	}
	wantPointers(t, wantProblem(t, change(map[string]string{"password": "short"}), http.StatusUnprocessableEntity, "validation"), "/password")
	b.setPassword(t, ada)
	if a := b.as(t, other.cookie, http.MethodGet, apiPrefix+"/me", nil); a.status != http.StatusUnauthorized {
		t.Errorf("another session lives on: %d", a.status)
	}
	for _, current := range []string{"", "wrong password"} {
		body := map[string]string{"password": "another password"}
		if current != "" {
			body["current_password"] = current
		}
		wantPointers(t, wantProblem(t, change(body), http.StatusUnprocessableEntity, "validation"), "/current_password")
	}
	if a := change(map[string]string{"password": "another password", "current_password": goodPassword}); a.status != http.StatusNoContent {
		t.Fatalf("with the present one: %d %s", a.status, a.body)
	}
	if a := b.login(t, "ada@example.com", goodPassword); a.status != http.StatusUnauthorized {
		t.Errorf("the old password: %d", a.status)
	}
	if a := b.login(t, "ada@example.com", "another password"); a.status != http.StatusOK {
		t.Errorf("the new password: %d", a.status)
	}
	if n := b.audited(t, "user.password", "ada@example.com"); n != 2 {
		t.Errorf("%d changes are in the audit record, want 2", n)
	}
	wantProblem(t, b.call(t, http.MethodPut, apiPrefix+"/me/password", map[string]string{"password": goodPassword}), http.StatusForbidden, "forbidden")
}

func TestPagesOfOtherOriginsAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.PublicURL = "https://foundry.example/base" })
	ada := b.person(t, "ada@example.com", auth.Owner)
	for name, c := range map[string]struct {
		headers []string
		want    int
	}{
		"another site":       {[]string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		"a sibling":          {[]string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
		"an older browser":   {[]string{"Origin", "https://evil.example"}, http.StatusForbidden},
		"our own page":       {[]string{"Sec-Fetch-Site", "same-origin"}, http.StatusCreated},
		"the public URL":     {[]string{"Sec-Fetch-Site", "same-site", "Origin", "https://foundry.example"}, http.StatusCreated},
		"what is no browser": {nil, http.StatusCreated},
	} {
		body := map[string]any{"name": name, "scopes": []string{"*"}}
		a := b.as(t, ada.cookie, http.MethodPost, apiPrefix+"/tokens", body, c.headers...)
		if a.status != c.want {
			t.Errorf("%s: %d, want %d", name, a.status, c.want)
		}
		if c.want == http.StatusForbidden {
			wantProblem(t, a, c.want, "forbidden")
		}
	}
	if n := b.count(t, "SELECT count(*) FROM tokens WHERE user_id IS NOT NULL"); n != 3 {
		t.Errorf("%d tokens were made, want 3", n)
	}
	if a := b.as(t, ada.cookie, http.MethodGet, apiPrefix+"/me", nil, "Sec-Fetch-Site", "cross-site"); a.status != http.StatusOK {
		t.Errorf("reading for another page: %d", a.status) // which the browser does not show it
	}
}

func TestSignInLink(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	link := func(email string) string {
		token, err := b.server.tokens.EnsureUser(t.Context(), auth.EnsureUser{OrganizationID: b.orgID, Email: email, Role: auth.Admin, Name: "Ada <b>"})
		if err != nil {
			t.Fatal(err)
		}
		return "/sign-in?token=" + token.Reveal()
	}
	address := link("ada@example.com")
	a := b.call(t, http.MethodGet, address, nil)
	cookie := sessionOf(a)
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/" || cookie == nil || !cookie.HttpOnly {
		t.Fatalf("the link: %d to %q with %+v", a.status, a.header.Get("Location"), cookie)
	}
	start := string(b.call(t, http.MethodGet, "/", nil, "Cookie", sessionCookie+"="+cookie.Value).body)
	if !strings.Contains(start, "Signed in as <strong>Ada &lt;b&gt;</strong>, admin of acme.") {
		t.Errorf("the page does not say who is there:\n%s", start)
	}
	late, disabled := link("late@example.com"), link("disabled@example.com")
	b.exec(t, "UPDATE sign_in_links SET expires_at = now() FROM users WHERE id = user_id AND email = 'late@example.com'")
	b.exec(t, "UPDATE users SET disabled_at = now() WHERE email = 'disabled@example.com'")
	for name, address := range map[string]string{
		"used": address, "late": late, "disabled": disabled, "nonsense": "/sign-in?token=nonsense", "another kind": "/sign-in?token=" + b.token,
	} {
		a := b.call(t, http.MethodGet, address, nil)
		if a.status != http.StatusUnauthorized || sessionOf(a) != nil || !strings.Contains(string(a.body), "This link has been used or has run out.") {
			t.Errorf("%s: %d, %s", name, a.status, a.body)
		}
	}
	if strings.Contains(b.log.String(), address[len("/sign-in?token="):]) {
		t.Error("the log holds the link")
	}

	a = b.call(t, http.MethodPost, "/sign-out", nil, "Cookie", sessionCookie+"="+cookie.Value)
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/sign-in" || sessionOf(a).MaxAge >= 0 {
		t.Errorf("signing out: %d %+v", a.status, sessionOf(a))
	}
	if start := string(b.call(t, http.MethodGet, "/", nil, "Cookie", sessionCookie+"="+cookie.Value).body); !strings.Contains(start, `<a href="/sign-in">Sign in</a>`) {
		t.Error("the page still knows who has left")
	}
}

func TestSignInForm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	b.setPassword(t, b.person(t, "ada@example.com", auth.Editor))
	form := func(path string, values url.Values, headers ...string) answer {
		return b.call(t, http.MethodPost, path, values.Encode(), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
	}
	a := b.call(t, http.MethodGet, "/sign-in", nil)
	if a.status != http.StatusOK || !strings.Contains(a.header.Get("Content-Security-Policy"), "form-action 'self'") || !strings.Contains(string(a.body), `action="/sign-in"`) || strings.Contains(string(a.body), "<script") {
		t.Errorf("the form: %d %s", a.status, a.body)
	}
	a = form("/sign-in", url.Values{"email": {`ada@example.com"><b>`}, "password": {"wrong password"}})
	if a.status != http.StatusUnauthorized || sessionOf(a) != nil || !strings.Contains(string(a.body), "The address or the password is wrong.") || strings.Contains(string(a.body), "<b>") || strings.Contains(string(a.body), "wrong password") {
		t.Errorf("a wrong password: %d %s", a.status, a.body)
	}
	a = form("/sign-in", url.Values{"email": {"ada@example.com"}, "password": {goodPassword}})
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/" || sessionOf(a) == nil {
		t.Errorf("the right one: %d", a.status)
	}
	wantProblem(t, form("/sign-in", url.Values{"email": {"ada@example.com"}, "password": {goodPassword}}, "Sec-Fetch-Site", "cross-site"), http.StatusForbidden, "forbidden")
	wantProblem(t, form("/sign-in", url.Values{"email": {strings.Repeat("x", maxPageForm)}}), http.StatusBadRequest, "invalid")
	b.exec(t, "INSERT INTO sign_in_failures (subject) SELECT 'person:ada@example.com' FROM generate_series(1, 10)")
	if a = form("/sign-in", url.Values{"email": {"ada@example.com"}, "password": {goodPassword}}); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("too many: %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
	}

	invitation := post[openapi.InvitationCreated](t, b, apiPrefix+"/invitations", map[string]string{"email": "bob@example.com", "role": "viewer"}, http.StatusCreated)
	path, ok := strings.CutPrefix(invitation.Link, b.url)
	if !ok {
		t.Fatalf("the link is %q", invitation.Link)
	}
	token := path[strings.Index(path, "=")+1:]
	if page := string(b.call(t, http.MethodGet, path, nil).body); !strings.Contains(page, `value="`+token+`"`) {
		t.Errorf("the form to join lacks the token:\n%s", page)
	}
	if a = form("/join", url.Values{"token": {token}, "name": {"Bob"}, "password": {"short"}}); a.status != http.StatusUnprocessableEntity || !strings.Contains(string(a.body), "A password has 10 to 200 characters.") {
		t.Errorf("a short password: %d", a.status)
	}
	if a = form("/join", url.Values{"token": {token}, "name": {"Bob"}, "password": {goodPassword}}); a.status != http.StatusSeeOther || sessionOf(a) == nil {
		t.Errorf("joining: %d %s", a.status, a.body)
	}
}
