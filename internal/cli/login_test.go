package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// accountServer answers like a Foundry that knows one token.
func accountServer(t *testing.T, token string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(pattern string, status int, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+token {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(http.StatusUnauthorized)
				io.WriteString(w, `{"status":401,"code":"unauthorized","detail":"The API token is unknown or has expired."}`) //nolint:errcheck // the client has gone
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			io.WriteString(w, body) //nolint:errcheck // the client has gone
		})
	}
	const one = `{"id":"019aa000-0000-7000-8000-000000000001","name":"ci","role":"editor","scopes":["executions:write"],"user":null,` +
		`"created_at":"2026-11-21T00:00:00Z","expires_at":"2027-02-19T00:00:00Z","last_used_at":null`
	answer("GET /api/v1/me", http.StatusOK, `{"kind":"token","name":"laptop","role":"admin","scopes":["*"],"organization":{"id":"019aa000-0000-7000-8000-000000000000","slug":"acme","name":"Acme"}}`)
	answer("POST /api/v1/tokens", http.StatusCreated, one+`,"token":"fdy_made"}`)
	answer("GET /api/v1/tokens", http.StatusOK, `{"data":[`+one+`}],"next_cursor":null}`)
	answer("DELETE /api/v1/tokens/{id}", http.StatusNoContent, "")
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// Not parallel: it has a home of its own, which is a matter of the environment.
func TestLoginIsRemembered(t *testing.T) {
	home := t.TempDir()
	for name, value := range map[string]string{"HOME": home, "XDG_CONFIG_HOME": filepath.Join(home, "config"), "FOUNDRY_URL": "", "FOUNDRY_TOKEN": ""} {
		t.Setenv(name, value)
	}
	t.Chdir(t.TempDir()) // where no `foundry dev` runs
	server := accountServer(t, "fdy_right")
	run := func(in string, args ...string) (code int, out, problem string) {
		var stdout, stderr bytes.Buffer
		code = Run(t.Context(), args, IO{In: strings.NewReader(in), Out: &stdout, Err: &stderr})
		return code, stdout.String(), stderr.String()
	}
	file, err := loginPath()
	if err != nil {
		t.Fatal(err)
	}

	if code, _, problem := run("", "tokens", "list"); code != exitUsage || !strings.Contains(problem, "foundry login") {
		t.Errorf("without any server: %d %q", code, problem)
	}
	if code, _, problem := run("\n", "login", server.URL); code != exitUsage || !strings.Contains(problem, "Nothing was given") {
		t.Errorf("without a token: %d %q", code, problem)
	}
	if code, _, problem := run("fdy_wrong\n", "login", server.URL); code != exitCredentials || strings.Contains(problem, "fdy_wrong") {
		t.Errorf("with a wrong token: %d %q", code, problem)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a wrong token was kept (%v)", err)
	}
	code, out, problem := run("fdy_right\n", "login", server.URL+"/")
	if want := "Commands now reach " + server.URL + " as laptop, admin of acme.\n"; code != exitOK || out != want {
		t.Fatalf("login: %d %q %q, want %q", code, out, problem, want)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v (%v), want 0600", info, err)
	}

	if code, out, _ := run("", "tokens", "create", "ci", "--scope", "executions:write"); code != exitOK || out != "fdy_made\n" {
		t.Errorf("tokens create: %d %q", code, out)
	}
	code, out, _ = run("", "tokens", "list")
	if fields := strings.Fields(strings.Split(out, "\n")[1]); code != exitOK || strings.Join(fields[1:], " ") != "ci editor executions:write - 2027-02-19 -" {
		t.Errorf("tokens list: %d %q", code, out)
	}
	code, out, _ = run("", "tokens", "list", "--json")
	var page struct{ Data []struct{ Name string } }
	if err := json.Unmarshal([]byte(out), &page); err != nil || code != exitOK || len(page.Data) != 1 || page.Data[0].Name != "ci" {
		t.Errorf("tokens list --json: %d %q", code, out)
	}
	if code, out, _ := run("", "tokens", "rm", "019aa000-0000-7000-8000-000000000001"); code != exitOK || !strings.Contains(out, "is revoked") {
		t.Errorf("tokens rm: %d %q", code, out)
	}
	t.Setenv("FOUNDRY_TOKEN", "fdy_wrong")
	if code, _, _ := run("", "tokens", "list"); code != exitCredentials {
		t.Errorf("FOUNDRY_TOKEN does not win: %d", code)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, problem := run("", "tokens", "list"); code != exitFailed || !strings.Contains(problem, "`foundry login` writes it anew") {
		t.Errorf("a damaged file: %d %q", code, problem)
	}
}
