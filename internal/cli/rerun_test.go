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

func TestRerun(t *testing.T) {
	const id, sandbox = "019aa000-0000-7000-8000-000000000007", "019aa000-0000-7000-8000-00000000000a"
	var received string
	mux := http.NewServeMux()
	keep := func(r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		received = strings.TrimPrefix(r.URL.Path, "/api/v1/executions/"+id) + " " + string(body)
	}
	mux.HandleFunc("POST /api/v1/executions/"+id+"/rerun", func(w http.ResponseWriter, r *http.Request) {
		keep(r)
		fmt.Fprintf(w, `{"id":%q,"number":8,"workflow":"report","sandbox":{"use":"reuse","id":%q,"reason":""}}`, id, sandbox)
	})
	mux.HandleFunc("POST /api/v1/executions/"+id+"/rerun/preview", func(w http.ResponseWriter, r *http.Request) {
		keep(r)
		io.WriteString(w, `{"version":3,"nodes":[{"key":"a","plan":"reused"},{"key":"long","plan":"run"}],"sandbox":{"use":"fresh","id":null,"reason":"It is gone."}}`) //nolint:errcheck // the client has gone
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Setenv("FOUNDRY_URL", server.URL)
	t.Setenv("FOUNDRY_TOKEN", "fdy_test")
	queued := "report#8 is queued: " + id + "\nIt goes on in the sandbox " + sandbox + ", with its files.\n"
	for name, c := range map[string]struct {
		args          []string
		code          int
		out, problem  string
		wantsReceived string
	}{
		"what failed": {nil, exitOK, queued, "", `/rerun {"version":"same"}`},
		"all there is": {
			[]string{"--from", "a", "--version", "latest", "--reuse"}, exitOK, queued, "", `/rerun {"from":"a","sandbox":"reuse","version":"latest"}`,
		},
		"a preview": {
			[]string{"--preview", "--fresh"},
			exitOK, "NODE  PLAN\na     reused\nlong  run\nVersion 3. It is gone. A fresh one has none of the files that were left there.\n", "",
			`/rerun/preview {"sandbox":"fresh","version":"same"}`,
		},
		"both sandboxes":       {[]string{"--fresh", "--reuse"}, exitUsage, "", "--fresh and --reuse exclude each other.", ""},
		"a preview to follow":  {[]string{"--preview", "-f"}, exitUsage, "", "--preview starts nothing that --follow could show.", ""},
		"a version's number":   {[]string{"--version", "3"}, exitUsage, "", `--version is same or latest, not "3".`, ""},
		"what is no execution": {[]string{"more"}, exitUsage, "", "Usage: foundry rerun ID", ""},
	} {
		t.Run(name, func(t *testing.T) {
			received = ""
			var stdout, stderr bytes.Buffer
			code := Run(t.Context(), append([]string{"rerun", id}, c.args...), IO{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
			if code != c.code || stdout.String() != c.out || !strings.Contains(stderr.String(), c.problem) {
				t.Errorf("exit code %d\n%s%s", code, stdout.String(), stderr.String())
			}
			if received != c.wantsReceived {
				t.Errorf("the server was sent %q, want %q", received, c.wantsReceived)
			}
		})
	}
}
