package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"foundry/api/client"
)

// gate is a workflow whose one node counts lines until a file named go is in its workspace.
const gate = `name: gate
nodes:
  wait:
    run: |
      n=0
      until [ -e go ]; do
        n=$((n + 1))
        echo "line $n"
        sleep 0.05
      done
      echo "last $n"
`

// open lets the node of a gate go on.
func (i *installation) open(id string) {
	i.t.Helper()
	openGate(i.t, filepath.Join(i.dir, "state"), i.sandbox(id))
}

func openGate(t testing.TB, state, sandbox string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(state, "sandboxes", sandbox, "workspace", "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sandbox is the id of the sandbox in which an execution's nodes run.
func (i *installation) sandbox(id string) string {
	i.t.Helper()
	for _, n := range i.nodes(id) {
		if n.SandboxID != nil {
			return n.SandboxID.String()
		}
	}
	i.t.Fatalf("execution %s has no sandbox", id)
	return ""
}

func TestFollowSurvivesARestartOfTheServer(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push(gate, nil)
	follow := spawn(t, i.dir, i.client(), nil, "run", "gate", "--follow")
	follow.waitFor("wait | line 3\n")
	id := queuedID(t, follow.out.String())
	logs := spawn(t, i.dir, i.client(), nil, "logs", id, "-f", "--node", "wait")
	logs.waitFor("line 3\n")

	i.serve.stop(syscall.SIGTERM)
	if code := i.serve.code(); code != 0 {
		t.Errorf("serve ends with %d on SIGTERM, want 0", code)
	}
	i.startServe()
	i.says(id, "wait", "line ")
	reached := strings.Count(string(i.logs(id, "wait")), "\n")
	follow.waitFor(fmt.Sprintf("wait | line %d\n", reached+3))
	i.open(id)

	if code := follow.wait(); code != 0 {
		t.Errorf("run --follow ends with %d, want 0", code)
	}
	if code := logs.wait(); code != 0 {
		t.Errorf("logs -f ends with %d, want 0", code)
	}
	want := string(i.logs(id, "wait"))
	if got := logs.out.String(); got != want {
		t.Errorf("logs -f wrote %d bytes, %d were recorded:\n%s", len(got), len(want), tail(got))
	}
	var shown strings.Builder
	for line := range strings.Lines(follow.out.String()) {
		if text, ok := strings.CutPrefix(line, "wait | "); ok {
			shown.WriteString(text)
		}
	}
	if shown.String() != want {
		t.Errorf("run --follow lost or doubled lines; it showed\n%s", tail(shown.String()))
	}
}

// queuedID reads the id in the first line of run.
func queuedID(t testing.TB, out string) string {
	t.Helper()
	first, _, _ := strings.Cut(out, "\n")
	_, id, _ := strings.Cut(first, " is queued: ")
	if _, err := uuid.Parse(id); err != nil {
		t.Fatalf("the first line has no id: %q", first)
	}
	return id
}

func TestInterruptDetaches(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push(gate, nil)
	follow := spawn(t, i.dir, i.client(), nil, "run", "gate", "--follow")
	follow.waitFor("wait | line 1\n")
	id := queuedID(t, follow.out.String())
	follow.stop(syscall.SIGINT)
	if code := follow.code(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	for _, want := range []string{"foundry logs " + id + " -f", "foundry cancel " + id} {
		if !strings.Contains(follow.err.String(), want) {
			t.Errorf("stderr lacks %q: %q", want, follow.err.String())
		}
	}
	if e := i.execution(id); e.Status != client.ExecutionStatusRunning || e.CancelRequestedAt != nil {
		t.Errorf("after detaching the execution is %s, cancel requested at %v", e.Status, e.CancelRequestedAt)
	}
	i.open(id)
	if e := i.ended(id); e.Status != client.ExecutionStatusCompleted {
		t.Errorf("the execution is %s: %+v", e.Status, e.Error)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push("name: good\nnodes:\n  a: { run: 'true' }\n", nil)
	i.push("name: bad\nnodes:\n  a: { run: exit 3 }\n", nil)
	i.push("name: typed\ninputs:\n  n: { type: integer, maximum: 5 }\n  o: { type: object, default: {} }\nnodes:\n"+
		"  a: { set: { n: '${{ inputs.n }}', k: '${{ inputs.o.k }}' } }\noutputs: { n: '${{ nodes.a.outputs.n }}', k: '${{ nodes.a.outputs.k }}' }\n", nil)
	faulty := filepath.Join(t.TempDir(), "faulty.yaml")
	if err := os.WriteFile(faulty, []byte("name: x\nnodes:\n  a: { rnu: x }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := environ("FOUNDRY_URL="+i.url, "FOUNDRY_TOKEN=fdy_wrong")
	nowhere := environ("FOUNDRY_URL=http://127.0.0.1:1", "FOUNDRY_TOKEN="+i.token)
	i.must("run", "good", "--follow")
	i.cli("run", "bad", "--follow")
	tests := []struct {
		name   string
		env    []string // default: the installation's
		args   []string
		code   int
		stdout string // part of it
		stderr string
	}{
		{"completed", nil, []string{"run", "good", "--follow"}, 0, " completed in ", ""},
		{"failed", nil, []string{"run", "bad", "--follow"}, 1, "a: failed", ""},
		{"failed, as JSON", nil, []string{"run", "bad", "--follow", "--json"}, 1, `"type":"execution.failed"`, ""},
		{"queued only", nil, []string{"run", "bad"}, 0, " is queued: ", ""},
		{"typed inputs", nil, []string{"run", "typed", "-f", "-i", "n=4", "-i", `o={"k": "v"}`}, 0, "k: v\n  n: 4\n", ""},
		{"mistyped input", nil, []string{"run", "typed", "-i", "n=four"}, 2, "", `The input "n" is a whole number; "four" is not.`},
		{"refused input", nil, []string{"run", "typed", "-i", "n=6"}, 1, "", `foundry: The input "n" must be at most 5, not 6.`},
		{"unknown workflow", nil, []string{"run", "none"}, 1, "", "foundry workflow push FILE"},
		{"unknown command", nil, []string{"rum"}, 2, "", `Did you mean "run"?`},
		{"unknown flag", nil, []string{"run", "--fast", "good"}, 2, "", "--help"},
		{"missing argument", nil, []string{"cancel"}, 2, "", "Usage: foundry cancel ID"},
		{"not an id", nil, []string{"cancel", "good"}, 2, "", "WORKFLOW#NUMBER"},
		{"unknown number", nil, []string{"logs", "good#99"}, 1, "", "There is no execution good#99."},
		{"cancel of what has ended", nil, []string{"cancel", "good#1"}, 1, "", "foundry: "},
		{"by number", nil, []string{"logs", "bad#1", "--node", "a"}, 0, "", ""},
		{"wrong token", nobody, []string{"executions"}, 4, "", "foundry admin token"},
		{"no server", nowhere, []string{"executions"}, 1, "", "foundry dev"},
		{"no server known", environ(), []string{"executions"}, 2, "", "FOUNDRY_URL"},
		{"valid text", environ(), []string{"validate", "-"}, 2, "", "cannot be read"},
		{"faulty text", environ(), []string{"validate", faulty}, 1, "faulty.yaml:3:8: ", ""},
		{"faulty text, as JSON", environ(), []string{"validate", "--json", faulty}, 1, `{"valid":false,`, ""},
		{"faulty text pushed", nil, []string{"workflow", "push", faulty}, 1, "", "faulty.yaml:3:8: "},
		{"list", nil, []string{"executions", "-w", "good"}, 0, "good#1", ""},
		{"version", environ(), []string{"version"}, 0, "foundry ", ""},
		{"worker without a database", environ(), []string{"worker"}, 1, "", "DATABASE_URL is not set."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := tt.env
			if env == nil {
				env = i.client()
			}
			p := spawn(t, t.TempDir(), env, nil, tt.args...)
			if code := p.wait(); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.Contains(p.out.String(), tt.stdout) {
				t.Errorf("stdout lacks %q:\n%s", tt.stdout, p.out.String())
			}
			if !strings.Contains(p.err.String(), tt.stderr) || (tt.stderr == "" && p.err.String() != "") {
				t.Errorf("stderr is %q, want it with %q", p.err.String(), tt.stderr)
			}
		})
	}
}

func TestJSONIsWhatTheAPISays(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push("name: good\nnodes:\n  a: { run: echo hello }\n", nil)
	out := i.must("run", "good", "--follow", "--json")
	decoder := json.NewDecoder(strings.NewReader(out))
	var queued client.ExecutionQueued
	if err := decoder.Decode(&queued); err != nil || queued.Number != 1 {
		t.Fatalf("the first line is no queued execution: %v in %s", err, out)
	}
	for seq := int64(1); decoder.More(); seq++ {
		var event client.Event
		if err := decoder.Decode(&event); err != nil {
			t.Fatalf("line %d: %v", seq+1, err)
		}
		if event.Seq != seq {
			t.Errorf("line %d has sequence %d, want %d", seq+1, event.Seq, seq)
		}
	}
	var listed client.ExecutionPage
	if err := json.Unmarshal([]byte(i.must("executions", "--json")), &listed); err != nil || len(listed.Data) != 1 {
		t.Errorf("executions --json has %d entries (%v), want 1", len(listed.Data), err)
	}
	for _, follow := range []string{"--follow=false", "--follow=true"} {
		var event client.Event
		if err := json.Unmarshal([]byte(i.must("logs", queued.ID.String(), "--json", follow)), &event); err != nil || event.Type != "log" {
			t.Errorf("logs --json %s is no log event: %v", follow, err)
		}
	}
	var page client.EventPage
	if status := i.call(http.MethodGet, "/executions/"+queued.ID.String()+"/events", nil, &page); status != http.StatusOK {
		t.Fatalf("reading events: %d", status)
	}
	if got := strings.Count(out, "\n"); got != len(page.Data)+1 {
		t.Errorf("run --json wrote %d lines, want one and %d events", got, len(page.Data))
	}
}
