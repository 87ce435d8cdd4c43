package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What is not said on the command line is left to the workflow.
func TestRunAsksForWhatIsGiven(t *testing.T) {
	var received string
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/workflows/report/executions", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		received = string(body)
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"id":"019aa000-0000-7000-8000-000000000007","number":8,"workflow":"report"}`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Setenv("FOUNDRY_URL", server.URL)
	t.Setenv("FOUNDRY_TOKEN", "fdy_test")
	for args, want := range map[string]string{
		"":                          `{}`,
		"--priority 0":              `{"priority":0}`,
		"--priority -3 --version 2": `{"priority":-3,"version":2}`,
	} {
		var stdout, stderr bytes.Buffer
		code := Run(t.Context(), append([]string{"run", "report"}, strings.Fields(args)...), IO{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
		if code != exitOK || received != want {
			t.Errorf("run %s: exit code %d, the server was sent %s, want %s\n%s", args, code, received, want, stderr.String())
		}
	}
}
