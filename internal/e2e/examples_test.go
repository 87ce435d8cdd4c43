package e2e

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/api/client"
	"foundry/examples"
	"foundry/internal/workflow"
)

// example is a workflow of the examples folder and what comes out of it.
type example struct {
	file    string
	inputs  []string // NAME=VALUE
	outputs map[string]string
	lines   []string // among the output
	calls   string   // the file of a workflow that it runs, and that has to be there first; empty: none
	asks    string   // the node that waits for somebody to approve it, who says "Looks good"; empty: none
}

func allExamples() []example {
	return []example{
		{
			file: "hello.yaml", inputs: []string{"who=you"},
			outputs: map[string]string{"message": "Hello, you! I have counted to 3."},
			lines:   []string{"greet | Hello, you!", "count | counting: 1", "tell | Hello, you! I have counted to 3."},
		},
		{
			file:    "retry.yaml",
			outputs: map[string]string{"tries": "3"},
			lines: []string{
				"flaky | attempt 1: tried 1 times so far", "flaky | the service does not answer",
				"flaky: started, attempt 3", "flaky | attempt 3: tried 3 times so far", "after | it took 3 attempts",
			},
		},
		{
			file: "approval.yaml", inputs: []string{"version=2.1"}, asks: "sign-off",
			outputs: map[string]string{"size": "12", "comment": "Looks good"},
			lines:   []string{"build | built release.txt of 12 bytes", "publish | release 2.1"},
		},
		{
			file: "fan-out.yaml", outputs: map[string]string{"total": "35"},
			lines: []string{"measure[1] | quick has 5 letters", "measure[8] | dog has 3 letters", "join | 3 5 5 3 5 4 3 4 3: 35 letters"},
		},
		{
			file: "explore.yaml", outputs: map[string]string{"people": "5", "known": "ada bob cid dan eve"},
			lines: []string{"explore[0] | round 0: ada bob cid", "explore[3] | round 3: ada bob cid dan eve"},
		},
		{
			file: "parent.yaml", calls: "child.yaml", outputs: map[string]string{"invoices": "invoice-acme, invoice-umbrella"},
			lines: []string{"report | sent invoice-acme, invoice-umbrella", "bill[1] (customer: umbrella): started"},
		},
		{
			file:    "grow.yaml",
			outputs: map[string]string{"edges": "63"},
			lines: []string{
				"grow | beginning after generation 0", "grow: checkpoint gen-0003 (51 bytes)", "grow | beginning after generation 3",
				"grow: left graph.txt (539 bytes)", "6 generations, **63** edges.",
			},
		},
		{
			file: "report/report.yaml",
			// Counted by hand, so to say: by another program in another language.
			outputs: map[string]string{
				"orders": "4000", "revenue": "813837.15", "best_month": "2025-12", "best_region": "north",
			},
			lines: []string{
				"check | orders.csv: 4000 orders, all well-formed", "months | 2025-12,530,10304035",
				"publish | | north | 1635 | 334151.50 |",
			},
		},
	}
}

func TestExamplesByCommandLine(t *testing.T) {
	t.Parallel()
	i := start(t)
	dir := copyExamples(t)
	for _, ex := range allExamples() {
		t.Run(ex.file, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			for _, file := range []string{ex.calls, ex.file} {
				if file != "" {
					i.must("workflow", "push", filepath.Join(dir, file))
				}
			}
			args := []string{"run", slugOf(t, ex.file), "--follow"}
			for _, in := range ex.inputs {
				args = append(args, "-i", in)
			}
			p := spawn(i.t, i.dir, i.client(), nil, args...)
			if ex.asks != "" {
				i.asks(slugOf(t, ex.file), ex.asks)
				i.must("approve", slugOf(t, ex.file)+"#1", "--comment", "Looks good")
			}
			if code := p.wait(); code != 0 {
				t.Fatalf("exit code %d\n%s%s", code, tail(p.out.String()), p.err.String())
			}
			out := p.out.String()
			for _, part := range []string{ex.asks + ": waits for a decision", "(foundry approve ", "parked, without a worker: " + ex.asks + " (approval)"} {
				if strings.Contains(out, part) != (ex.asks != "") {
					t.Errorf("whether the output has %q is wrong:\n%s", part, out)
				}
			}
			for _, line := range ex.lines {
				if !strings.Contains(out, line+"\n") {
					t.Errorf("the output lacks the line %q:\n%s", line, out)
				}
			}
			for name, value := range ex.outputs {
				if !strings.Contains(out, "  "+name+": "+value+"\n") {
					t.Errorf("the output lacks %s: %s:\n%s", name, value, out)
				}
			}
		})
	}
}

func TestExamplesByHTTP(t *testing.T) {
	t.Parallel()
	i := start(t)
	for _, ex := range allExamples() {
		t.Run(ex.file, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			if ex.calls != "" {
				i.postExample(ex.calls)
			}
			i.postExample(ex.file)
			inputs := map[string]any{}
			for _, in := range ex.inputs {
				name, value, _ := strings.Cut(in, "=")
				inputs[name] = value
			}
			id := i.queue(slugOf(t, ex.file), inputs)
			if ex.asks != "" {
				i.asks(slugOf(t, ex.file), ex.asks)
				path := "/executions/" + id + "/nodes/" + ex.asks + "/approve"
				if status := i.call(http.MethodPost, path, client.Decide{Comment: "Looks good"}, nil); status != http.StatusOK {
					t.Fatalf("approving: %d", status)
				}
			}
			e := i.ended(id)
			if e.Status != client.ExecutionStatusCompleted {
				t.Fatalf("the execution is %s: %+v", e.Status, e.Error)
			}
			var outputs map[string]string
			if err := json.Unmarshal(e.Outputs, &outputs); err != nil {
				t.Fatal(err)
			}
			delete(outputs, "chart_bytes") // TestReportDrawsAChart looks at it
			if diff := cmp.Diff(ex.outputs, outputs); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
			for _, n := range i.nodes(id) {
				if n.FinishedAt == nil {
					t.Errorf("node %s is %s after the end", n.Key, n.Status)
				}
			}
		})
	}
}

func TestReportDrawsAChart(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.postExample("report/report.yaml")
	id := i.queue("report", map[string]any{"title": "Orders & <more>"})
	if e := i.ended(id); e.Status != client.ExecutionStatusCompleted {
		t.Fatalf("the execution is %s: %+v", e.Status, e.Error)
	}
	var bars, titles int
	for decoder := xml.NewDecoder(strings.NewReader(string(i.logs(id, "chart")))); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the chart is no XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "rect" {
				bars++
			}
		case xml.CharData:
			if string(token) == "Orders & <more>" {
				titles++
			}
		}
	}
	if bars != 12 || titles != 2 {
		t.Errorf("the chart has %d bars and %d titles, want 12 and 2", bars, titles)
	}
	for _, n := range i.nodes(id) {
		if n.Key == "publish" && !strings.Contains(n.Summary, "Best month 2025-12, best region north.") {
			t.Errorf("the summary is %q", n.Summary)
		}
	}
}

func TestRejectedExample(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.postExample("approval.yaml")
	id := i.queue("approval", nil)
	i.asks("approval", "sign-off")
	if out := i.must("reject", id, "--comment", "Not today"); out != "sign-off is rejected.\n" {
		t.Errorf("rejecting says %q", out)
	}
	e := i.ended(id)
	if e.Status != client.ExecutionStatusFailed || e.Error == nil || e.Error.Code != "rejected" || e.Error.Node != "sign-off" {
		t.Errorf("the execution is %s: %+v", e.Status, e.Error)
	}
	states := map[string]client.NodeStatus{}
	for _, n := range i.nodes(id) {
		states[n.Key] = n.Status
		if n.Key == "sign-off" && (n.Decision == nil || n.Decision.Approved || n.Decision.Comment != "Not today") {
			t.Errorf("the decision is %+v", n.Decision)
		}
	}
	want := map[string]client.NodeStatus{
		"build": client.NodeStatusCompleted, "sign-off": client.NodeStatusFailed, "withdraw": client.NodeStatusCompleted,
		"settle": client.NodeStatusSkipped, "publish": client.NodeStatusSkipped,
	}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if got := string(i.logs(id, "withdraw")); got != "withdrawn\n" {
		t.Errorf("withdraw says %q", got)
	}
	if again := i.cli("approve", id); again.code() != 1 || !strings.Contains(again.err.String(), "asks for a decision") {
		t.Errorf("approving what has ended: exit code %d, %s", again.code(), again.err.String())
	}
	if again := i.cli("approve", id, "--node", "sign-off"); again.code() != 1 || !strings.Contains(again.err.String(), "decided already") {
		t.Errorf("approving what is rejected: exit code %d, %s", again.code(), again.err.String())
	}
}

// asks waits until the workflow's only execution is parked for a decision on the node.
func (i *installation) asks(slug, node string) {
	i.t.Helper()
	eventually(i.t, func() error {
		var page client.ExecutionPage
		if status := i.call(http.MethodGet, "/executions?status=waiting&workflow="+slug, nil, &page); status != http.StatusOK || len(page.Data) != 1 {
			return fmt.Errorf("%d: %d executions wait", status, len(page.Data))
		}
		w := i.execution(page.Data[0].ID.String()).WaitingFor
		if w == nil || len(w.Nodes) != 1 || w.Nodes[0].Kind != client.WaitingNodeKindApproval || w.Nodes[0].Node != node {
			return fmt.Errorf("it waits for %+v", w)
		}
		return nil
	})
}

// postExample stores an example by HTTP, with its files as JSON.
func (i *installation) postExample(name string) {
	i.t.Helper()
	source, err := fs.ReadFile(examples.Files, name)
	if err != nil {
		i.t.Fatal(err)
	}
	definition, diagnostics := workflow.Compile(source)
	if definition == nil {
		i.t.Fatal(diagnostics)
	}
	var files []client.File
	for _, f := range definition.Files {
		text, err := fs.ReadFile(examples.Files, filepath.ToSlash(filepath.Join(filepath.Dir(name), f.Source)))
		if err != nil {
			i.t.Fatal(err)
		}
		files = append(files, client.File{Path: f.Path, Text: string(text)})
	}
	body := client.NewWorkflow{Source: string(source), Files: files}
	if status := i.call(http.MethodPost, "/workflows", body, nil); status != http.StatusCreated {
		i.t.Fatalf("storing %s: %d", name, status)
	}
}

func slugOf(t testing.TB, name string) string {
	t.Helper()
	return strings.TrimSuffix(filepath.Base(name), ".yaml")
}

// copyExamples puts the embedded examples into a folder.
func copyExamples(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, examples.Files); err != nil {
		t.Fatal(err)
	}
	return dir
}
