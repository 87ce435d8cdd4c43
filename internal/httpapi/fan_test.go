package httpapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
)

// TestMatrix reads an execution with a matrix in every way there is: each answer tells the instances apart.
func TestMatrix(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "wide")
	id := b.started(t, "wide")
	for index, part := range []string{"a", "b"} {
		r := b.nodeRun(t, id, "crunch", index, 1)
		b.exec(t, "UPDATE node_runs SET matrix = jsonb_build_object('part', $2::text) WHERE id = $1", r.id, part)
		b.event(t, id, r, event.NodeStarted, map[string]any{"matrix": map[string]any{"part": part}})
		r.log(t, event.Stdout, "of "+part+"\n")
		if index == 1 {
			b.exec(t, "UPDATE node_runs SET status = 'failed', finished_at = now() WHERE id = $1", r.id)
			b.event(t, id, r, event.NodeFailed, map[string]any{})
			again := b.nodeRun(t, id, "crunch", index, 2)
			b.exec(t, `UPDATE node_runs SET matrix = '{"part": "b"}' WHERE id = $1`, again.id)
			again.log(t, event.Stdout, "again of b\n")
		}
	}
	b.nodeRun(t, id, "plain", 0, 1)
	b.exec(t, `UPDATE execution_data SET error = '{"code": "exit_code", "message": "It failed.", "node": "crunch", "index": 0}' WHERE execution_id = $1`, id)

	t.Run("node runs", func(t *testing.T) {
		t.Parallel()
		var got []string
		for _, n := range get[openapi.NodeRuns](t, b, executionPath(id, "/nodes")).Data {
			var m map[string]string
			if n.Matrix != nil {
				if err := json.Unmarshal(n.Matrix, &m); err != nil {
					t.Fatal(err)
				}
			}
			got = append(got, n.Key+" "+m["part"])
		}
		if diff := cmp.Diff([]string{"crunch a", "crunch b", "crunch b", "plain "}, got); diff != "" {
			t.Error(diff)
		}
		if body := string(b.call(t, http.MethodGet, executionPath(id, "/nodes"), nil).body); strings.Count(body, `"matrix"`) != 3 || strings.Count(body, `"child_execution_id":null`) != 4 {
			t.Errorf("the answer is %s", body)
		}
	})
	t.Run("the failure", func(t *testing.T) {
		t.Parallel()
		if f := get[openapi.Execution](t, b, executionPath(id, "")).Error; f == nil || f.Node != "crunch" || f.Index == nil || *f.Index != 0 {
			t.Errorf("it failed with %+v", f)
		}
	})
	t.Run("events", func(t *testing.T) {
		t.Parallel()
		for choice, want := range map[string]string{
			"all": "of a\nof b\nagain of b\n", "none": "", "crunch": "of a\nof b\nagain of b\n", "crunch:0": "of a\n",
			"crunch:1": "of b\nagain of b\n", "crunch:1:1": "of b\n", "crunch:1:2": "again of b\n", "crunch:0:2": "", "crunch:7": "",
		} {
			var text strings.Builder
			var ends []int
			for _, e := range get[openapi.EventPage](t, b, executionPath(id, "/events?logs="+choice)).Data {
				switch e.Type {
				case "log":
					var c struct{ Text string }
					if err := json.Unmarshal(e.Data, &c); err != nil {
						t.Fatal(err)
					}
					text.WriteString(c.Text)
				case "node.started", "node.failed":
					ends = append(ends, *e.Index)
				}
			}
			if text.String() != want || !slices.Equal(ends, []int{0, 1, 1}) {
				t.Errorf("logs=%s gave %q, and events of %v", choice, text.String(), ends)
			}
		}
	})
	t.Run("text", func(t *testing.T) {
		t.Parallel()
		for query, want := range map[string]string{
			"?node=crunch": "of a\n", "?node=crunch&index=0": "of a\n", "?node=crunch&index=1": "again of b\n", "?node=crunch&index=1&attempt=1": "of b\n",
			"": "==> crunch[0] <==\nof a\n\n==> crunch[1] <==\nof b\n\n==> crunch[1] (attempt 2) <==\nagain of b\n\n==> plain <==\n",
		} {
			if a := b.call(t, http.MethodGet, executionPath(id, "/logs"+query), nil); a.status != http.StatusOK || string(a.body) != want {
				t.Errorf("%s gave %d, %q", query, a.status, a.body)
			}
		}
		wantProblem(t, b.call(t, http.MethodGet, executionPath(id, "/logs?node=crunch&index=2"), nil), http.StatusNotFound, "not_found")
	})
}

// child makes an execution that a node run of another runs.
func (b *testBundle) child(t *testing.T, slug string, parent *run) uuid.UUID {
	t.Helper()
	id := b.queued(t, slug)
	b.exec(t, "UPDATE executions SET source = 'execution', depth = 1, parent_execution_id = $2, parent_node_run_id = $3 WHERE id = $1", id, parent.executionID, parent.id)
	return id
}

func TestChildren(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "outer")
	b.workflow(t, "inner")
	b.workflow(t, "other")
	parent := b.started(t, "outer")
	var ids []uuid.UUID
	for index := range 3 {
		r := b.nodeRun(t, parent, "call", index, 1)
		b.exec(t, "UPDATE node_runs SET status = 'waiting' WHERE id = $1", r.id)
		ids = append(ids, b.child(t, []string{"inner", "inner", "other"}[index], r))
	}
	b.finish(t, ids[1], execution.Completed)
	b.event(t, parent, nil, event.ExecutionWaiting, map[string]any{})
	b.exec(t, "UPDATE executions SET status = 'waiting', parked_at = now(), worker_id = NULL, claim = claim + 1 WHERE id = $1", parent)

	t.Run("what runs it", func(t *testing.T) {
		t.Parallel()
		want := &openapi.ExecutionParent{ExecutionID: parent, Workflow: "outer", Number: 1, Node: "call", Index: 2}
		if diff := cmp.Diff(want, get[openapi.Execution](t, b, executionPath(ids[2], "")).Parent); diff != "" {
			t.Error(diff)
		}
		if p := get[openapi.Execution](t, b, executionPath(parent, "")).Parent; p != nil {
			t.Errorf("the outermost has a parent: %+v", p)
		}
	})
	t.Run("what it runs", func(t *testing.T) {
		t.Parallel()
		var got []uuid.UUID
		for _, n := range get[openapi.NodeRuns](t, b, executionPath(parent, "/nodes")).Data {
			got = append(got, *n.ChildExecutionID)
		}
		if diff := cmp.Diff(ids, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("waits for", func(t *testing.T) {
		t.Parallel()
		w := get[openapi.Execution](t, b, executionPath(parent, "")).WaitingFor
		if w == nil || w.Reason != openapi.WaitingForReasonWorkflow || !slices.Equal(w.Reasons, []string{"workflow"}) || len(w.Nodes) != 3 ||
			w.Message != `The node "call" waits for the end of inner #1. And for 2 more.` {
			t.Fatalf("it waits for %+v", w)
		}
		if n := w.Nodes[2]; n.Kind != openapi.WaitingNodeKindWorkflow || n.Index != 2 || n.ExecutionID == nil || *n.ExecutionID != ids[2] {
			t.Errorf("the last node is %+v", n)
		}
	})
	t.Run("a list of them", func(t *testing.T) {
		t.Parallel()
		_, foreign := b.organization(t, "rival")
		for query, want := range map[string][]uuid.UUID{
			"": {ids[2], ids[1], ids[0]}, "&status=queued": {ids[2], ids[0]}, "&workflow=inner": {ids[1], ids[0]}, "&source=api": nil,
			"&source=execution&status=completed": {ids[1]}, "&actor=nobody": nil, "&limit=2": {ids[2], ids[1]},
		} {
			page := get[openapi.ExecutionPage](t, b, apiPrefix+"/executions?parent="+parent.String()+query)
			var got []uuid.UUID
			for _, e := range page.Data {
				got = append(got, e.ID)
			}
			if !slices.Equal(got, want) || (page.NextCursor != nil) != (query == "&limit=2") {
				t.Errorf("%q gave %v, want %v (next %v)", query, got, want, page.NextCursor)
			}
		}
		for name, page := range map[string]answer{
			"of a child":   b.call(t, http.MethodGet, apiPrefix+"/executions?parent="+ids[0].String(), nil),
			"of a rival's": b.call(t, http.MethodGet, apiPrefix+"/executions?parent="+parent.String(), nil, "Authorization", "Bearer "+foreign),
		} {
			if n := len(decode[openapi.ExecutionPage](t, page, http.StatusOK).Data); n != 0 {
				t.Errorf("%s: %d executions", name, n)
			}
		}
		wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/executions?parent=wide", nil), http.StatusBadRequest, "invalid")
	})
	t.Run("an approval counts more", func(t *testing.T) {
		t.Parallel()
		w := parkedJSON([]execution.WaitingNode{{Key: "pause", Kind: execution.WaitTime}, {Key: "call", Index: 3, Kind: execution.WaitChild, Child: "inner #7"}, {Key: "ask", Index: 2, Kind: execution.WaitApproval}}, capacity{})
		if w.Message != `Somebody has to decide on the node "ask[2]". And for 2 more.` || !slices.Equal(w.Reasons, []string{"approval", "wait", "workflow"}) {
			t.Errorf("it waits for %+v", w)
		}
	})
}
