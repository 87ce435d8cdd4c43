package cli

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPauseAndResume(t *testing.T) {
	var received string
	answers := map[string]string{
		`{"paused":true}`:  `{"slug":"report","paused_at":"2026-11-21T06:00:00Z","paused_by":"ann"}`,
		`{"paused":false}`: `{"slug":"report","paused_at":null,"paused_by":null}`,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PATCH /api/v1/workflows/report", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("If-Match") != "*" {
			t.Errorf("If-Match %q, %v", r.Header.Get("If-Match"), err)
		}
		received = strings.TrimSpace(string(body))
		io.WriteString(w, answers[received]) //nolint:errcheck // the client has gone
	})
	mux.HandleFunc("PATCH /api/v1/workflows/none", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"code":"not_found","status":404,"detail":"There is no workflow with this id or slug."}`) //nolint:errcheck // the client has gone
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Setenv("FOUNDRY_URL", server.URL)
	t.Setenv("FOUNDRY_TOKEN", "fdy_test")
	for name, c := range map[string]struct {
		args                    []string
		code                    int
		out, problem, wantsSent string
	}{
		"pause":       {[]string{"pause", "report"}, exitOK, "report is paused since ", "", `{"paused":true}`},
		"resume":      {[]string{"resume", "report"}, exitOK, "report is not paused.\n", "", `{"paused":false}`},
		"as JSON":     {[]string{"resume", "report", "--json"}, exitOK, `{"slug":"report"`, "", `{"paused":false}`},
		"none":        {[]string{"pause", "none"}, exitFailed, "", `There is no workflow "none" here.`, ""},
		"no argument": {[]string{"pause"}, exitUsage, "", "Usage: foundry workflow pause WORKFLOW", ""},
	} {
		t.Run(name, func(t *testing.T) {
			received = ""
			var stdout, stderr bytes.Buffer
			code := Run(t.Context(), append([]string{"workflow"}, c.args...), IO{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
			if code != c.code || !strings.HasPrefix(stdout.String(), c.out) || !strings.Contains(stderr.String(), c.problem) || received != c.wantsSent {
				t.Errorf("exit code %d, sent %q\n%s%s", code, received, stdout.String(), stderr.String())
			}
		})
	}
}
