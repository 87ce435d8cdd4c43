package httpapi

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/auth"
	"foundry/internal/secret"
)

// operation is a row of the table that every operation of the contract must have.
type operationRow struct {
	path    string    // below /api/v1, of things of the organization acme
	body    any       // that would be accepted
	refused auth.Role // the strongest role that may not; "": all may
	others  int       // what the owner of another organization is answered; default 404
	public  bool      // needs no credentials
	person  bool      // is for sessions only: tokens are refused
	anybody bool      // needs no right
	stream  bool      // does not end
}

// tenant is an organization with one of everything.
type tenant struct {
	workflow, execution, token, user, session, invitation, sandbox, artifact string
}

func (b *testBundle) tenant(t *testing.T) tenant {
	t.Helper()
	b.workflow(t, "one")
	all := tenant{workflow: "one", execution: b.queued(t, "one").String(), user: uuid.NewString(), session: uuid.NewString(), invitation: uuid.NewString()}
	all.sandbox = uuid.NewString()
	b.exec(t, `INSERT INTO sandboxes (id, execution_id, provider, host, provider_id, state, claim) VALUES ($1, $2, 'local', 'h', 'p', 'ready', 1)`, all.sandbox, all.execution)
	all.artifact = b.artifact(t, b.nodeRun(t, uuid.MustParse(all.execution), "left", 0, 1), 0, "canary.txt", "canary").String()
	b.call(t, http.MethodPut, apiPrefix+"/workflows/one/secrets/KEY", map[string]any{"value": "canary-value"})
	b.exec(t, "INSERT INTO users (id, email, name) VALUES ($1, 'ann@example.com', 'Ann')", all.user)
	b.exec(t, "INSERT INTO members (organization_id, user_id, role) VALUES ($1, $2, 'editor')", b.orgID, all.user)
	b.exec(t, `INSERT INTO sessions (id, user_id, organization_id, token_hash, expires_at)
		VALUES ($1, $2, $3, sha256('session'), now() + interval '1 day')`, all.session, all.user, b.orgID)
	b.exec(t, `INSERT INTO invitations (id, organization_id, email, role, token_hash, expires_at)
		VALUES ($1, $2, 'bob@example.com', 'viewer', sha256('invitation'), now() + interval '1 day')`, all.invitation, b.orgID)
	if err := b.pool.QueryRow(t.Context(), "SELECT id::text FROM tokens WHERE organization_id = $1", b.orgID).Scan(&all.token); err != nil {
		t.Fatal(err)
	}
	return all
}

// tokenOf makes a token of acme with a role and scopes.
func (b *testBundle) tokenOf(t *testing.T, role auth.Role, scopes ...string) string {
	t.Helper()
	name := uuid.NewString()
	token, err := auth.NewStore(b.pool).Create(t.Context(), b.orgID, name, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.exec(t, "UPDATE tokens SET role = $1, scopes = $2 WHERE name = $3", string(role), scopes, name)
	return token.Reveal()
}

func rows(one tenant) map[string]operationRow {
	workflow, versions, secrets := "/workflows/one", "/workflows/one/versions", "/workflows/one/secrets"
	run := "/executions/" + one.execution
	text := map[string]any{"source": helloText}
	return map[string]operationRow{
		"getMe":            {path: "/me", anybody: true, others: http.StatusOK},
		"changePassword":   {path: "/me/password", person: true, body: map[string]any{"password": "something long", "current_password": "x"}},
		"login":            {path: "/auth/login", public: true, body: map[string]any{"email": "a@example.com", "password": "x"}},
		"logout":           {path: "/auth/logout", person: true},
		"listSessions":     {path: "/sessions", person: true},
		"deleteSession":    {path: "/sessions/" + one.session, person: true},
		"listTokens":       {path: "/tokens", others: http.StatusOK},
		"createToken":      {path: "/tokens", others: http.StatusCreated, body: map[string]any{"name": "new", "scopes": []string{"*"}}},
		"deleteToken":      {path: "/tokens/" + one.token},
		"listMembers":      {path: "/members", others: http.StatusOK},
		"updateMember":     {path: "/members/" + one.user, refused: auth.Editor, body: map[string]any{"role": "viewer"}},
		"removeMember":     {path: "/members/" + one.user, refused: auth.Editor},
		"listInvitations":  {path: "/invitations", refused: auth.Editor, others: http.StatusOK},
		"createInvitation": {path: "/invitations", refused: auth.Editor, others: http.StatusCreated, body: map[string]any{"email": "c@example.com", "role": "viewer"}},
		"acceptInvitation": {path: "/invitations/accept", public: true, body: map[string]any{"token": "x", "name": "X", "password": "something long"}},
		"deleteInvitation": {path: "/invitations/" + one.invitation, refused: auth.Editor},

		"listWorkflows":    {path: "/workflows", others: http.StatusOK},
		"createWorkflow":   {path: "/workflows", refused: auth.Viewer, others: http.StatusCreated, body: map[string]any{"source": helloText, "slug": "theirs"}},
		"validateWorkflow": {path: "/workflows/validate", others: http.StatusOK, body: text},
		"getWorkflow":      {path: workflow},
		"updateWorkflow":   {path: workflow, refused: auth.Viewer, body: map[string]any{"slug": "two"}},
		"deleteWorkflow":   {path: workflow, refused: auth.Viewer},
		"listVersions":     {path: versions},
		"createVersion":    {path: versions, refused: auth.Admin, body: text}, // it has secrets
		"getVersion":       {path: versions + "/1"},
		"createExecution":  {path: workflow + "/executions", refused: auth.Viewer, body: map[string]any{}},

		"listSecrets":   {path: secrets, refused: auth.Admin},
		"importSecrets": {path: secrets + "/import", refused: auth.Admin, body: map[string]any{"text": "A=abcdefgh"}},
		"getSecret":     {path: secrets + "/KEY", refused: auth.Admin},
		"setSecret":     {path: secrets + "/KEY", refused: auth.Admin, body: map[string]any{"value": "another-value"}},
		"deleteSecret":  {path: secrets + "/KEY", refused: auth.Admin},
		"revealSecret":  {path: secrets + "/KEY/reveal", refused: auth.Admin},

		"listExecutions":      {path: "/executions", others: http.StatusOK},
		"getExecution":        {path: run},
		"cancelExecution":     {path: run + "/cancel", refused: auth.Viewer},
		"rerunExecution":      {path: run + "/rerun", refused: auth.Viewer, body: map[string]any{"from": "failed"}},
		"previewRerun":        {path: run + "/rerun/preview", refused: auth.Viewer, body: map[string]any{"sandbox": "fresh"}},
		"listArtifacts":       {path: run + "/artifacts"},
		"getArtifact":         {path: run + "/artifacts/" + one.artifact},
		"getArtifactContent":  {path: run + "/artifacts/" + one.artifact + "/content"},
		"getExecutionSummary": {path: run + "/summary"},
		"listNodes":           {path: run + "/nodes"},
		"approveNode":         {path: run + "/nodes/greet/approve", refused: auth.Viewer, body: map[string]any{"comment": "yes"}},
		"rejectNode":          {path: run + "/nodes/greet/reject", refused: auth.Viewer, body: map[string]any{"comment": "no"}},
		"listExecutionEvents": {path: run + "/events"},
		"getExecutionLogs":    {path: run + "/logs"},
		"streamEvents":        {path: "/events", stream: true},
		"listWorkers":         {path: "/workers", others: http.StatusOK},
		"listSandboxes":       {path: "/sandboxes", others: http.StatusOK},
		"stopSandbox":         {path: "/sandboxes/" + one.sandbox + "/stop", refused: auth.Viewer},
		"destroySandbox":      {path: "/sandboxes/" + one.sandbox + "/destroy", refused: auth.Viewer},
		"listAudit":           {path: "/audit", refused: auth.Editor, others: http.StatusOK},
	}
}

// TestEveryOperationIsGuarded calls every operation of the contract: without credentials, as another organization, without the right,
// and with what the contract does not know. An operation without a row fails.
func TestEveryOperationIsGuarded(t *testing.T) {
	t.Parallel()
	b := setup(t, withKeys(t))
	one := b.tenant(t)
	_, others := b.organization(t, "umbrella")
	refused := map[auth.Role]string{
		auth.Admin: b.tokenOf(t, auth.Admin, "*"), auth.Editor: b.tokenOf(t, auth.Editor, "*"), auth.Viewer: b.tokenOf(t, auth.Viewer, "*"),
	}
	narrow := b.tokenOf(t, auth.Viewer, "audit:read") // which a viewer may not use

	table := rows(one)
	for pattern, item := range b.spec.Paths.Map() {
		if len(item.Servers) > 0 {
			continue // outside the API
		}
		for method, op := range item.Operations() {
			row, ok := table[op.OperationID]
			delete(table, op.OperationID)
			if !ok {
				t.Errorf("%s %s (%s) has no row here", method, pattern, op.OperationID)
				continue
			}
			t.Run(op.OperationID, func(t *testing.T) {
				t.Parallel()
				c := operationCase{b: b, row: row, method: method, one: one}
				if !row.public {
					c.wantRefused(t, "", http.StatusUnauthorized, "unauthorized")
					c.wantRefused(t, "Bearer fdy_unknown", http.StatusUnauthorized, "unauthorized")
				}
				if !row.public && !row.anybody {
					c.wantRefused(t, "Bearer "+narrow, http.StatusForbidden, "forbidden")
				}
				if row.refused != "" {
					c.wantRefused(t, "Bearer "+refused[row.refused], http.StatusForbidden, "forbidden")
				}
				c.wantNothingUnknown(t, op.RequestBody != nil)
				if !row.public && !row.stream {
					c.wantNothingFor(t, others)
				}
			})
		}
	}
	for operation := range table {
		t.Errorf("the contract has no operation %s", operation)
	}
}

type operationCase struct {
	b      *testBundle
	row    operationRow
	method string
	one    tenant
}

func (c *operationCase) wantRefused(t *testing.T, authorization string, status int, code string) {
	t.Helper()
	p := wantProblem(t, c.b.call(t, c.method, apiPrefix+c.row.path, c.row.body, "Authorization", authorization), status, code)
	if status == http.StatusForbidden && !strings.HasPrefix(p.Detail, "This needs the right to ") {
		t.Errorf("the sentence does not name the right: %q", p.Detail)
	}
}

func (c *operationCase) wantNothingUnknown(t *testing.T, withBody bool) {
	t.Helper()
	p := wantProblem(t, c.b.call(t, c.method, apiPrefix+c.row.path+"?nonsense=1", c.row.body), http.StatusBadRequest, "invalid")
	wantPointers(t, p, "?nonsense")
	if !withBody {
		return
	}
	body, ok := c.row.body.(map[string]any)
	if !ok {
		t.Fatal("the row has no body")
	}
	body = maps.Clone(body)
	body["nonsense"] = 1
	p = wantProblem(t, c.b.call(t, c.method, apiPrefix+c.row.path, body), http.StatusUnprocessableEntity, "validation")
	wantPointers(t, p, "/nonsense")
}

// wantNothingFor fails if the owner of another organization learns of, or changes, anything of acme.
func (c *operationCase) wantNothingFor(t *testing.T, token string) {
	t.Helper()
	if c.row.person {
		c.wantRefused(t, "Bearer "+token, http.StatusForbidden, "forbidden")
		return
	}
	a := c.b.call(t, c.method, apiPrefix+c.row.path, c.row.body, "Authorization", "Bearer "+token)
	if c.row.others == 0 {
		wantProblem(t, a, http.StatusNotFound, "not_found")
		return
	}
	if a.status != c.row.others {
		t.Errorf("another organization gets %d, want %d: %s", a.status, c.row.others, a.body)
	}
	for _, ours := range []string{c.one.execution, c.one.token, c.one.user, c.one.session, c.one.invitation, c.one.sandbox, c.b.orgID.String(), "canary"} {
		if bytes.Contains(a.body, []byte(ours)) {
			t.Errorf("another organization sees %q: %s", ours, a.body)
		}
	}
}

// TestNothingWasChangedByTheRefused holds that a refusal has no effect.
func TestNothingWasChangedByTheRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, withKeys(t))
	one := b.tenant(t)
	viewer := b.tokenOf(t, auth.Viewer, "*")
	before := b.counts(t)
	for operation, row := range rows(one) {
		if row.refused == "" {
			continue
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			a := b.call(t, method, apiPrefix+row.path, row.body, "Authorization", "Bearer "+viewer, "If-Match", "*")
			if a.status < 400 {
				t.Errorf("%s %s (%s) as a viewer: %d", method, row.path, operation, a.status)
			}
		}
	}
	if after := b.counts(t); !slices.Equal(before, after) {
		t.Errorf("rows before %v, after %v", before, after)
	}
}

func (b *testBundle) counts(t *testing.T) (counts []int) {
	t.Helper()
	for _, query := range []string{
		"workflows WHERE deleted_at IS NULL AND slug = 'one'", "workflow_versions", "executions WHERE status = 'queued'",
		"secrets WHERE deleted_at IS NULL", "secret_versions", "tokens", "members WHERE role = 'editor'", "invitations",
	} {
		var n int
		if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		counts = append(counts, n)
	}
	return counts
}

// withKeys gives the server a keyring of its own.
func withKeys(t *testing.T) func(*Config) {
	t.Helper()
	keys, err := secret.ParseKeyring(secret.NewKey("first"))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.Keys = keys }
}

// TestPushesOfWorkflowsWithSecretsNeedTheOwner holds that a version, which decides where secrets go, comes from who may see them.
func TestPushesOfWorkflowsWithSecretsNeedTheOwner(t *testing.T) {
	t.Parallel()
	b := setup(t, withKeys(t))
	b.workflow(t, "one")
	editor := b.tokenOf(t, auth.Editor, "*")
	push := func() answer {
		return b.call(t, http.MethodPost, apiPrefix+"/workflows/one/versions", map[string]any{"source": helloText}, "Authorization", "Bearer "+editor)
	}
	if a := push(); a.status != http.StatusCreated {
		t.Fatalf("without secrets: %d %s", a.status, a.body)
	}
	b.call(t, http.MethodPut, apiPrefix+"/workflows/one/secrets/KEY", map[string]any{"value": "some-value"})
	p := wantProblem(t, push(), http.StatusForbidden, "forbidden")
	if p.Detail != "This needs the right to push versions of this workflow." {
		t.Errorf("the sentence is %q", p.Detail)
	}
	if a := b.call(t, http.MethodPost, apiPrefix+"/workflows/one/versions", map[string]any{"source": helloText}); a.status != http.StatusCreated {
		t.Errorf("an owner of the organization is refused: %d %s", a.status, a.body)
	}
	if a := b.call(t, http.MethodDelete, apiPrefix+"/workflows/one/secrets/KEY", nil); a.status != http.StatusNoContent {
		t.Fatalf("deleting: %d %s", a.status, a.body)
	}
	if a := push(); a.status != http.StatusCreated {
		t.Errorf("after the last secret is gone: %d %s", a.status, a.body)
	}
}
