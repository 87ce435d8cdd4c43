package cli

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/api/client"
)

// at gives the newest event an index.
func (h *history) at(index int) *history {
	h.events[len(h.events)-1].Index = &index
	return h
}

// begin adds the start of an instance of a matrix.
func (h *history) begin(node string, index, of int, matrix map[string]any) *history {
	return h.add("node.started", node, 1, map[string]any{"of": of, "matrix": matrix}).at(index)
}

// shown is what a view writes of events, as it stands below one another.
func (h *history) shown(t *testing.T, v *view, out *bytes.Buffer) []string {
	t.Helper()
	for _, event := range h.events {
		if err := v.add(event); err != nil {
			t.Fatal(err)
		}
	}
	v.close()
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

func TestViewOfFans(t *testing.T) {
	t.Parallel()
	child := "019aa000-0000-7000-8000-00000000000c"
	reasons := func(n int) map[string]any {
		var list []map[string]any
		for range n {
			list = append(list, map[string]any{"node": "call", "kind": "workflow"})
		}
		return map[string]any{"reasons": list}
	}
	h := new(history).
		begin("crunch", 0, 2, map[string]any{"part": "a", "n": 1}).
		begin("crunch", 1, 2, map[string]any{"part": strings.Repeat("long\n\x1b[2J", 20), "n": map[string]any{"x": 1}}).
		add("log", "crunch", 1, client.LogChunk{Stream: "stdout", Text: "hello\n"}).
		add("node.completed", "crunch", 1, none{}).
		add("node.failed", "crunch", 1, failure("It exited with code 1.")).at(1).
		add("node.started", "grow", 1, map[string]any{"of": 3}).
		add("node.completed", "grow", 1, none{}).
		begin("call", 0, 1, map[string]any{"part": "x"}).
		add("node.waiting", "call", 1, map[string]any{"kind": "workflow", "workflow": "publish-part", "execution_id": child}).
		add("execution.waiting", "", 0, reasons(20)).
		add("execution.waiting", "", 0, reasons(3)).
		add("node.skipped", "late", 1, map[string]any{"reason": "fail_fast"}).at(4)
	long := "n: {\"x\":1}, part: " + strings.Repeat("long [2J", 20)
	want := []string{
		"crunch[0] (n: 1, part: a): started",
		"crunch[1] (" + long[:longestCombination-1] + "…): started",
		"crunch[0] | hello",
		"crunch[0] (n: 1, part: a): completed in 1.5 s",
		"crunch[1] (" + long[:longestCombination-1] + "…): failed in 1.5 s: It exited with code 1.",
		"grow[0]: started",
		"grow[0]: completed in 0.5 s",
		"call[0] (part: x): started",
		"call[0] (part: x): runs publish-part " + child,
		"execution: parked, without a worker: call (workflow)",
		"late[4]: skipped: fail_fast",
	}
	var out bytes.Buffer
	if diff := cmp.Diff(want, h.shown(t, newView(newTerminal(&out, false), uuid.Nil), &out)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// TestViewCounts holds that on a terminal a wide matrix is one line that changes, and what went wrong.
func TestViewCounts(t *testing.T) {
	t.Parallel()
	const of = 1000
	var out bytes.Buffer
	v := newView(&terminal{out: &out, size: func() (int, int) { return 60, 10 }}, uuid.Nil)
	h := new(history)
	for i := range of {
		h.begin("crunch", i, of, map[string]any{"part": i})
		if i == 0 {
			h.add("log", "crunch", 1, client.LogChunk{Stream: "stdout", Text: "rest"})
		}
		switch {
		case i%50 == 7:
			h.add("node.failed", "crunch", 1, failure("It exited with code 1.")).at(i)
		case i < 990:
			h.add("node.completed", "crunch", 1, none{}).at(i)
		}
	}
	for _, event := range h.events {
		if err := v.add(event); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"  crunch: 970 of 1000 done, 10 running, 20 failed"}, v.progress(time.Now())); diff != "" {
		t.Error(diff)
	}
	h = new(history).
		add("node.retrying", "crunch", 1, none{}).at(7).
		add("node.completed", "crunch", 2, none{}).at(7)
	for i := 990; i < of; i++ {
		h.add("node.completed", "crunch", 1, none{}).at(i)
	}
	h.add("execution.failed", "", 0, none{})
	h.shown(t, v, &out)
	var lines []string
	for _, line := range strings.Split(out.String(), "\n") {
		_, line, _ = strings.Cut("\x1b[J"+line, "\x1b[J")
		if line = strings.TrimPrefix(line, "\x1b[1A\x1b[J"); line != "" && !strings.HasPrefix(line, "  ") {
			lines = append(lines, line)
		}
	}
	want := []string{"crunch[0] | rest"}
	for i := range failuresEach {
		want = append(want, fmt.Sprintf("crunch[%d] (part: %d): failed: It exited with code 1.", i*50+7, i*50+7))
	}
	want = append(want, "crunch: 981 of 1000 done, 19 failed, in 5.5 s")
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// TestViewCountsIterations holds that a repeat is shown until it turns out to be long.
func TestViewCountsIterations(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	v := newView(&terminal{out: &out, size: func() (int, int) { return 60, 10 }}, uuid.Nil)
	h := new(history)
	for i := range 25 {
		h.add("node.started", "grow", 1, map[string]any{"of": 1000}).at(i)
		h.add("node.completed", "grow", 1, none{}).at(i)
	}
	h.shown(t, v, &out)
	if !strings.Contains(out.String(), "grow[19]: completed in 0.5 s\n") || strings.Contains(out.String(), "grow[20]") ||
		!strings.Contains(out.String(), "grow: 25 done, at most 1000, in ") {
		t.Errorf("screen:\n%s", out.String())
	}
}

//nolint:paralleltest // the server is named by the environment
func TestLogsNameInstances(t *testing.T) {
	frames := ""
	for seq, event := range []string{
		`"type":"node.started","node":"crunch","index":0,"attempt":1,"data":{"of":2}`,
		`"type":"log","node":"crunch","index":0,"attempt":1,"data":{"stream":"stdout","offset":0,"text":"zero\n"}`,
		`"type":"log","node":"crunch","index":1,"attempt":1,"data":{"stream":"stdout","offset":0,"text":"one\n"}`,
		`"type":"log","node":"plain","index":0,"attempt":1,"data":{"stream":"stdout","offset":0,"text":"plain\n"}`,
	} {
		frames += fmt.Sprintf("id: %d\ndata: {\"seq\":%d,%s}\n\n", seq+1, seq+1, event)
	}
	s := newApprovalServer(t, "", frames)
	if code, out, _ := s.foundry(t, "logs", s.id.String(), "-f"); code != exitOK || out != "==> crunch[0] <==\nzero\n\n==> crunch[1] <==\none\n\n==> plain <==\nplain\n" {
		t.Errorf("exit %d, %q", code, out)
	}
	if code, out, _ := s.foundry(t, "logs", s.id.String(), "-f", "--node", "crunch", "--index", "1"); code != exitOK || out != "one\n" {
		t.Errorf("exit %d, %q", code, out)
	}
}

//nolint:paralleltest // the server is named by the environment
func TestExecutionsOfAParent(t *testing.T) {
	const parent = "019aa000-0000-7000-8000-000000000007"
	asked := ""
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/executions", func(w http.ResponseWriter, r *http.Request) {
		asked += r.URL.RawQuery + "\n"
		fmt.Fprintf(w, `{"data":[{"id":%q,"workflow":"part","number":7,"status":"completed","queued_at":"2026-11-21T00:00:00Z"}],"next_cursor":null}`, parent)
	})
	s := &approvalServer{Server: httptest.NewServer(mux)}
	defer s.Close()
	if code, out, problem := s.foundry(t, "executions", "--parent", "part#7"); code != exitOK || !strings.Contains(out, "part#7") {
		t.Errorf("exit %d, %q, %q", code, out, problem)
	}
	if want := "limit=200&workflow=part\nlimit=20&parent=" + parent + "\n"; asked != want {
		t.Errorf("the server was asked %q, want %q", asked, want)
	}
}
