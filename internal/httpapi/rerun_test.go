package httpapi

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/pgtest"
)

// failed makes an execution of helloText that has failed, after its first node, and kept a sandbox.
func (b *testBundle) failed(t *testing.T, slug string) (id, greet, sandbox uuid.UUID) {
	t.Helper()
	id = b.queued(t, slug)
	for key, status := range map[string]execution.NodeStatus{"greet": execution.NodeCompleted, "after": execution.NodeFailed} {
		run := b.nodeRun(t, id, key, 0, 1)
		b.exec(t, "UPDATE node_runs SET status = $2, finished_at = now() WHERE id = $1", run.id, string(status))
		if key == "greet" {
			greet = run.id
		}
	}
	b.finish(t, id, execution.Failed)
	sandbox = execution.NewID()
	b.exec(t, "INSERT INTO sandboxes (id, execution_id, provider, provider_id, host, state, claim) VALUES ($1, $2, 'local', 'x', 'h', 'kept', 1)", sandbox, id)
	return id, greet, sandbox
}

func rerunPath(id uuid.UUID) string { return apiPrefix + "/executions/" + id.String() + "/rerun" }

func TestRerun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	id, greet, sandbox := b.failed(t, "one")
	before := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions")
	for name, body := range map[string]any{"without a body": nil, "with an empty one": map[string]any{}, "with the defaults": map[string]any{"from": "failed", "version": "same"}} {
		p := post[openapi.RerunPreview](t, b, rerunPath(id)+"/preview", body, http.StatusOK)
		if p.RerunOf != id || p.Workflow != "one" || p.Version != 1 || p.From != "failed" || p.Sandbox.Use != openapi.SandboxPlanUseReuse ||
			p.Sandbox.ID == nil || *p.Sandbox.ID != sandbox || p.Sandbox.Reason != "" ||
			len(p.Nodes) != 2 || p.Nodes[0] != (openapi.NodePlan{Key: "greet", Plan: openapi.Reused}) || p.Nodes[1] != (openapi.NodePlan{Key: "after", Plan: openapi.Run}) {
			t.Errorf("the preview %s is %+v", name, p)
		}
	}
	fresh := post[openapi.RerunPreview](t, b, rerunPath(id)+"/preview", map[string]any{"sandbox": "fresh", "from": "greet"}, http.StatusOK)
	if fresh.Sandbox.Use != openapi.SandboxPlanUseFresh || fresh.Sandbox.ID != nil || fresh.Sandbox.Reason == "" || fresh.Nodes[0].Plan != openapi.Run {
		t.Errorf("the preview is %+v", fresh)
	}
	if now := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); now != before {
		t.Errorf("a preview has queued %d executions", now-before)
	}

	a := b.call(t, http.MethodPost, rerunPath(id), nil)
	q := decode[openapi.RerunQueued](t, a, http.StatusAccepted)
	if q.Number != 2 || q.Status != "queued" || q.Source != "api" || q.Workflow != "one" || q.Version != 1 || q.RerunOf != id || q.Sandbox.ID == nil || *q.Sandbox.ID != sandbox {
		t.Errorf("the answer is %+v", q)
	}
	if want := apiPrefix + "/executions/" + q.ID.String(); a.header.Get("Location") != want {
		t.Errorf("Location %q, want %q", a.header.Get("Location"), want)
	}
	x := decode[openapi.Execution](t, b.call(t, http.MethodGet, a.header.Get("Location"), nil), http.StatusOK)
	if x.RerunOf == nil || *x.RerunOf != id || x.Actor != "test" {
		t.Errorf("a rerun of %v by %q", x.RerunOf, x.Actor)
	}
	nodes := decode[openapi.NodeRuns](t, b.call(t, http.MethodGet, a.header.Get("Location")+"/nodes", nil), http.StatusOK)
	if len(nodes.Data) != 1 || nodes.Data[0].Key != "greet" || nodes.Data[0].ReusedFrom == nil || *nodes.Data[0].ReusedFrom != greet {
		t.Errorf("nodes %+v", nodes.Data)
	}
	old := decode[openapi.Execution](t, b.call(t, http.MethodGet, apiPrefix+"/executions/"+id.String(), nil), http.StatusOK)
	if old.RerunOf != nil || old.Status != "failed" {
		t.Errorf("the earlier execution is %s, a rerun of %v", old.Status, old.RerunOf)
	}
}

// TestRerunAndPreviewRefuseAlike holds that the preview answers the problem that the rerun would.
func TestRerunAndPreviewRefuseAlike(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	failed, _, _ := b.failed(t, "one")
	gone, _, sandbox := b.failed(t, "one")
	b.exec(t, "UPDATE sandboxes SET state = 'destroyed', ended_at = now() WHERE id = $1", sandbox)
	b.workflow(t, "two")
	deleted, _, _ := b.failed(t, "two")
	b.call(t, http.MethodDelete, apiPrefix+"/workflows/two", nil, "If-Match", "*")
	b.workflow(t, "three")
	changed, _, _ := b.failed(t, "three")
	post[openapi.Version](t, b, apiPrefix+"/workflows/three/versions", map[string]any{"source": "name: t\nnodes:\n  after: { run: \"true\" }\n"}, http.StatusCreated)
	running := b.started(t, "one")
	for name, c := range map[string]struct {
		id       uuid.UUID
		body     map[string]any
		status   int
		code     string
		pointers []string
	}{
		"no such execution":      {uuid.New(), nil, http.StatusNotFound, "not_found", nil},
		"a deleted workflow":     {deleted, nil, http.StatusNotFound, "not_found", nil},
		"one that runs":          {running, nil, http.StatusConflict, "execution_not_finished", nil},
		"a node that is not":     {failed, map[string]any{"from": "nope"}, http.StatusUnprocessableEntity, "validation", []string{"/from"}},
		"what is no key":         {failed, map[string]any{"from": "a b"}, http.StatusUnprocessableEntity, "validation", []string{"/from"}},
		"an unknown version":     {failed, map[string]any{"version": "next"}, http.StatusUnprocessableEntity, "validation", []string{"/version"}},
		"an unknown sandbox":     {failed, map[string]any{"sandbox": "other"}, http.StatusUnprocessableEntity, "validation", []string{"/sandbox"}},
		"inputs":                 {failed, map[string]any{"inputs": map[string]any{}}, http.StatusUnprocessableEntity, "validation", []string{"/inputs"}},
		"a sandbox that is gone": {gone, map[string]any{"sandbox": "reuse"}, http.StatusConflict, "sandbox_not_available", nil},
		"a version without it":   {changed, map[string]any{"version": "latest"}, http.StatusUnprocessableEntity, "validation", []string{"/version"}},
	} {
		body := any(c.body)
		if c.body == nil {
			body = nil
		}
		var details []string
		for _, path := range []string{rerunPath(c.id), rerunPath(c.id) + "/preview"} {
			p := wantProblem(t, b.call(t, http.MethodPost, path, body), c.status, c.code)
			if c.pointers != nil {
				wantPointers(t, p, c.pointers...)
			}
			details = append(details, p.Detail)
		}
		if details[0] != details[1] {
			t.Errorf("%s: %q, and as a preview %q", name, details[0], details[1])
		}
	}
}

func TestRerunIsIdempotent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	id, _, _ := b.failed(t, "one")
	ask := func(body any) answer {
		return b.call(t, http.MethodPost, rerunPath(id), body, "Idempotency-Key", "k-1")
	}
	reuse := map[string]any{"sandbox": "reuse"}
	first := ask(reuse)
	decode[openapi.RerunQueued](t, first, http.StatusAccepted)
	again := ask(reuse) // though the sandbox cannot be had any more
	if again.status != http.StatusAccepted || !bytes.Equal(first.body, again.body) || again.header.Get("Idempotency-Replayed") != "true" ||
		again.header.Get("Location") != first.header.Get("Location") {
		t.Errorf("the second answer is %d %v %s", again.status, again.header, again.body)
	}
	wantProblem(t, ask(map[string]any{}), http.StatusUnprocessableEntity, "idempotency_key_reused")
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE rerun_of = $1", id); n != 1 {
		t.Errorf("%d reruns", n)
	}
}
