package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/api/client"
)

// approvalServer answers like a Foundry with one execution whose node runs and events are given, and keeps what was decided.
type approvalServer struct {
	*httptest.Server
	id     uuid.UUID
	nodes  string // of the API: the list's entries
	stream string // of server-sent events

	mu       sync.Mutex
	received []string
}

func newApprovalServer(t *testing.T, nodes, stream string) *approvalServer {
	t.Helper()
	s := &approvalServer{id: uuid.MustParse("019aa000-0000-7000-8000-000000000007"), nodes: nodes, stream: stream}
	mux := http.NewServeMux()
	at := "/api/v1/executions/" + s.id.String()
	mux.HandleFunc("GET "+at+"/nodes", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"data":[%s]}`, s.nodes)
	})
	mux.HandleFunc("GET "+at+"/events", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%sevent: end\ndata: {}\n\n", s.stream)
	})
	mux.HandleFunc("POST "+at+"/nodes/{node}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.received = append(s.received, r.PathValue("node")+" "+r.PathValue("verb")+"?"+r.URL.RawQuery+" "+string(body))
		if len(s.received) > 1 {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"status":409,"code":"already_decided","detail":"The node \"ask\" has been decided already."}`) //nolint:errcheck // the client has gone
			return
		}
		index := "0"
		if v := r.URL.Query().Get("index"); v != "" {
			index = v
		}
		fmt.Fprintf(w, `{"key":%q,"index":%s,"status":"completed"}`, r.PathValue("node"), index)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// foundry carries out a command against the server.
func (s *approvalServer) foundry(t *testing.T, args ...string) (code int, out, problem string) {
	t.Helper()
	t.Setenv("FOUNDRY_URL", s.URL)
	t.Setenv("FOUNDRY_TOKEN", "fdy_test")
	var stdout, stderr bytes.Buffer
	code = Run(t.Context(), args, IO{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	return code, stdout.String(), stderr.String()
}

func asks(node string, index int) string {
	return fmt.Sprintf(`{"key":%q,"index":%d,"attempt":1,"status":"waiting","prompt":{"message":"Sure?","roles":[]}}`, node, index)
}

const (
	waits   = `{"key":"pause","index":0,"attempt":1,"status":"waiting","prompt":null}`
	decided = `{"key":"before","index":0,"attempt":1,"status":"completed","prompt":{"message":"Sure?","roles":[]}}`
)

//nolint:paralleltest // the server is named by the environment
func TestDecide(t *testing.T) {
	all := strings.Join([]string{decided, asks("ask", 0), waits}, ",")
	for name, c := range map[string]struct {
		nodes    string
		args     []string
		code     int
		out      string
		problem  string
		received []string
	}{
		"the only one":  {all, []string{"approve", "ID"}, exitOK, "ask is approved.\n", "", []string{`ask approve? {}`}},
		"with words":    {all, []string{"reject", "ID", "--comment", "not \"yet\""}, exitOK, "ask is rejected.\n", "", []string{`ask reject? {"comment":"not \"yet\""}`}},
		"by name":       {"", []string{"approve", "ID", "--node", "other", "--index", "2"}, exitOK, "other[2] is approved.\n", "", []string{`other approve?index=2 {}`}},
		"one of many":   {asks("part", 3), []string{"approve", "ID"}, exitOK, "part[3] is approved.\n", "", []string{`part approve?index=3 {}`}},
		"as JSON":       {all, []string{"approve", "ID", "--json"}, exitOK, `{"key":"ask","index":0,"status":"completed"}` + "\n", "", []string{`ask approve? {}`}},
		"none":          {waits, []string{"approve", "ID"}, exitFailed, "", "No node of 019aa000-0000-7000-8000-000000000007 asks for a decision.", nil},
		"several":       {asks("ask", 0) + "," + asks("part", 3), []string{"approve", "ID"}, exitUsage, "", "2 nodes ask for a decision; say which: --node ask, --node part --index 3.", nil},
		"index alone":   {all, []string{"approve", "ID", "--index", "1"}, exitUsage, "", "--index needs --node.", nil},
		"no execution":  {all, []string{"approve"}, exitUsage, "", "Usage: foundry approve ID", nil},
		"a strange one": {all, []string{"approve", "what"}, exitUsage, "", "is neither the id of an execution", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newApprovalServer(t, c.nodes, "")
			for i, arg := range c.args {
				if arg == "ID" {
					c.args[i] = s.id.String()
				}
			}
			code, out, problem := s.foundry(t, c.args...)
			if code != c.code || out != c.out || !strings.Contains(problem, c.problem) || c.problem == "" && problem != "" {
				t.Errorf("exit %d, %q, %q", code, out, problem)
			}
			if diff := cmp.Diff(c.received, s.received); diff != "" {
				t.Errorf("the server was asked (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("twice", func(t *testing.T) {
		s := newApprovalServer(t, all, "")
		s.foundry(t, "approve", s.id.String())
		code, out, problem := s.foundry(t, "reject", s.id.String())
		if code != exitFailed || out != "" || !strings.Contains(problem, `The node "ask" has been decided already.`) {
			t.Errorf("exit %d, %q, %q", code, out, problem)
		}
	})
}

const waitingStream = "id: 1\nevent: node.waiting\ndata: {\"seq\":1,\"type\":\"node.waiting\",\"node\":\"before\",\"index\":0,\"attempt\":1,\"data\":{\"kind\":\"approval\",\"prompt\":{\"message\":\"Old?\",\"roles\":[]}}}\n\n" +
	"id: 2\nevent: log\ndata: {\"seq\":2,\"type\":\"log\",\"node\":\"build\",\"index\":0,\"attempt\":1,\"data\":{\"stream\":\"stdout\",\"offset\":0,\"text\":\"built\\n\"}}\n\n" +
	"id: 3\nevent: node.waiting\ndata: {\"seq\":3,\"type\":\"node.waiting\",\"node\":\"ask\",\"index\":0,\"attempt\":1,\"data\":{\"kind\":\"approval\",\"prompt\":{\"message\":\"Publish?\",\"roles\":[\"admin\"]}}}\n\n"

// TestLogsSayWhatIsWaitedFor holds that only what still waits is told, beside the output.
//
//nolint:paralleltest // the server is named by the environment
func TestLogsSayWhatIsWaitedFor(t *testing.T) {
	s := newApprovalServer(t, decided+","+asks("ask", 0), waitingStream)
	code, out, problem := s.foundry(t, "logs", s.id.String(), "-f")
	if want := "==> build <==\nbuilt\n"; code != exitOK || out != want {
		t.Errorf("exit %d, output %q, want %q", code, out, want)
	}
	want := "ask waits for a decision by admin: Publish? (foundry approve 019aa000-0000-7000-8000-000000000007 --node ask, or foundry reject).\n"
	if problem != want {
		t.Errorf("beside it %q, want %q", problem, want)
	}
	if _, out, problem := s.foundry(t, "logs", s.id.String(), "-f", "--json"); problem != "" || strings.Count(out, "\n") != 1 {
		t.Errorf("as JSON: %q, beside it %q", out, problem)
	}
}

func TestViewOfWaiting(t *testing.T) {
	t.Parallel()
	due := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	prompt := func(message string, roles ...string) map[string]any {
		return map[string]any{"kind": "approval", "prompt": client.Prompt{Message: message, Roles: roles}}
	}
	said := func(approved bool, comment string) map[string]any {
		return map[string]any{
			"decision": client.Decision{Approved: approved, By: "ann", Comment: comment},
			"error":    client.Failure{Code: "rejected", Message: "ann has rejected it."},
		}
	}
	id := uuid.MustParse("019aa000-0000-7000-8000-000000000007")
	last := prompt("", "admin", "editor")
	last["due_at"] = due
	h := new(history).
		add("node.started", "ask", 1, none{}).
		add("node.waiting", "ask", 1, prompt("Publish\n\tall\x1b[2J of it?")).
		add("execution.waiting", "", 0, map[string]any{"reasons": []map[string]any{{"node": "ask", "kind": "approval"}, {"node": "flaky", "kind": "retry", "due_at": due}}}).
		add("node.completed", "ask", 1, said(true, "fine\nby me")).
		add("node.started", "pause", 1, none{}).
		add("node.waiting", "pause", 1, map[string]any{"kind": "wait", "due_at": due}).
		add("node.completed", "pause", 1, none{}).
		add("node.started", "last", 1, none{}).
		add("node.waiting", "last", 1, last).
		add("node.failed", "last", 1, said(false, ""))
	at := due.Local().Format(time.DateTime)
	want := []string{
		"ask: started",
		"ask: waits for a decision: Publish all[2J of it? (foundry approve " + id.String() + " --node ask, or foundry reject)",
		"execution: parked, without a worker: ask (approval), flaky (retry)",
		"ask: completed in 1.5 s: approved by ann: fine by me",
		"pause: started",
		"pause: waits until " + at,
		"pause: completed in 1.0 s",
		"last: started",
		"last: waits for a decision by admin or editor until " + at + " (foundry approve " + id.String() + " --node last, or foundry reject)",
		"last: failed in 1.0 s: rejected by ann",
	}
	var out bytes.Buffer
	v := newView(newTerminal(&out, false), id)
	for _, event := range h.events {
		if err := v.add(event); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	term := &terminal{out: &out, size: func() (int, int) { return 40, 10 }}
	v = newView(term, id)
	for _, event := range h.events[:2] {
		if err := v.add(event); err != nil {
			t.Fatal(err)
		}
	}
	if got := v.progress(time.Now()); len(got) != 1 || !strings.HasPrefix(got[0], "  ask  waiting  ") {
		t.Errorf("in progress: %q", got)
	}
}

//nolint:paralleltest // the server is named by the environment
func TestExecutionsShowWhatWaits(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/executions", func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query()["status"]; len(got) != 1 || got[0] != "waiting" {
			t.Errorf("asked for %q", got)
		}
		fmt.Fprint(w, `{"data":[{"id":"019aa000-0000-7000-8000-000000000007","workflow":"release","number":7,"status":"waiting","queued_at":"2026-11-21T00:00:00Z"}],"next_cursor":null}`)
	})
	s := &approvalServer{Server: httptest.NewServer(mux)}
	defer s.Close()
	if code, out, problem := s.foundry(t, "executions", "--status", "waiting"); code != exitOK || !strings.Contains(out, "release#7") || !strings.Contains(out, "waiting") {
		t.Errorf("exit %d, %q, %q", code, out, problem)
	}
}
