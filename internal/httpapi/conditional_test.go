package httpapi

import (
	"net/http"
	"testing"

	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/pgtest"
)

func TestReadsAreConditional(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	id := b.started(t, "one")
	for _, path := range []string{"/workflows/one", "/workflows/one/versions/1", "/executions/" + id.String()} {
		get := func(headers ...string) answer { return b.call(t, http.MethodGet, apiPrefix+path, nil, headers...) }
		tag := get().header.Get("ETag")
		if tag == "" {
			t.Errorf("%s has no ETag", path)
			continue
		}
		for _, sent := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			if a := get("If-None-Match", sent); a.status != http.StatusNotModified || a.header.Get("ETag") != tag || len(a.body) > 0 {
				t.Errorf("%s with %s: %d, ETag %s", path, sent, a.status, a.header.Get("ETag"))
			}
		}
		if a := get("If-None-Match", `"x"`); a.status != http.StatusOK {
			t.Errorf("%s with another tag: %d", path, a.status)
		}
	}
	before := b.call(t, http.MethodGet, executionPath(id, ""), nil).header.Get("ETag")
	b.finish(t, id, execution.Completed)
	if a := b.call(t, http.MethodGet, executionPath(id, ""), nil, "If-None-Match", before); a.status != http.StatusOK {
		t.Errorf("after its end the execution answers %d to its former ETag", a.status)
	}
}

func TestUpdateWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	b.workflow(t, "taken")
	patch := func(path string, body any, headers ...string) answer {
		return b.call(t, http.MethodPatch, apiPrefix+"/workflows/"+path, body, headers...)
	}
	tag := b.call(t, http.MethodGet, apiPrefix+"/workflows/one", nil).header.Get("ETag")
	p := wantProblem(t, patch("one", map[string]any{"slug": "two"}), http.StatusPreconditionRequired, "precondition_required")
	if p.Detail != "Send the ETag of what you have read as If-Match, or * for any." {
		t.Errorf("the sentence is %q", p.Detail)
	}
	wantProblem(t, patch("one", map[string]any{"slug": "two"}, "If-Match", `"7"`), http.StatusPreconditionFailed, "precondition_failed")
	p = wantProblem(t, patch("one", map[string]any{"slug": "taken"}, "If-Match", tag), http.StatusConflict, "conflict")
	if p.Detail != `There is already a workflow with the slug "taken".` {
		t.Errorf("the sentence is %q", p.Detail)
	}
	p = wantProblem(t, patch("one", map[string]any{"slug": "-"}, "If-Match", tag), http.StatusUnprocessableEntity, "validation")
	wantPointers(t, p, "/slug")

	renamed := patch("one", map[string]any{"slug": "two"}, "If-Match", tag)
	if w := decode[openapi.Workflow](t, renamed, http.StatusOK); w.Slug != "two" || renamed.header.Get("ETag") == tag {
		t.Errorf("renamed to %+v, ETag %s", w, renamed.header.Get("ETag"))
	}
	wantProblem(t, patch("two", map[string]any{"slug": "three"}, "If-Match", tag), http.StatusPreconditionFailed, "precondition_failed")
	wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/workflows/one", nil), http.StatusNotFound, "not_found")
	b.call(t, http.MethodPost, apiPrefix+"/workflows/two/versions", map[string]any{"source": helloText})
	wantProblem(t, patch("two", map[string]any{"slug": "three"}, "If-Match", renamed.header.Get("ETag")), http.StatusPreconditionFailed, "precondition_failed")
}

func TestDeleteWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t, withKeys(t))
	b.workflow(t, "one")
	b.call(t, http.MethodPut, secretsPath+"/KEY", map[string]any{"value": "some-value"})
	remove := func(headers ...string) answer {
		return b.call(t, http.MethodDelete, apiPrefix+"/workflows/one", nil, headers...)
	}
	wantProblem(t, remove(), http.StatusPreconditionRequired, "precondition_required")
	id := b.queued(t, "one")
	for _, live := range []func(){func() {}, func() { b.exec(t, "UPDATE executions SET status = 'waiting', parked_at = now() WHERE id = $1", id) }} {
		live()
		p := wantProblem(t, remove("If-Match", "*"), http.StatusConflict, "conflict")
		if p.Detail != "The workflow has executions that have not ended; cancel them or wait for their end." {
			t.Errorf("the sentence is %q", p.Detail)
		}
	}
	b.exec(t, "UPDATE executions SET status = 'queued', parked_at = NULL WHERE id = $1", id)
	b.finish(t, id, execution.Completed)
	wantProblem(t, remove("If-Match", `"9"`), http.StatusPreconditionFailed, "precondition_failed")
	if a := remove("If-Match", b.call(t, http.MethodGet, apiPrefix+"/workflows/one", nil).header.Get("ETag")); a.status != http.StatusNoContent {
		t.Fatalf("deleting: %d %s", a.status, a.body)
	}
	wantProblem(t, remove("If-Match", "*"), http.StatusNotFound, "not_found")
	wantProblem(t, b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions", nil), http.StatusNotFound, "not_found")
	if e := decode[openapi.Execution](t, b.call(t, http.MethodGet, executionPath(id, ""), nil), http.StatusOK); e.Workflow != "one" {
		t.Errorf("what it has run is %+v", e)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM secret_versions WHERE erased_at IS NULL"); n != 0 {
		t.Errorf("%d values outlive their workflow", n)
	}
	if again := b.workflow(t, "one"); again.Version != 1 {
		t.Errorf("the slug cannot be used again: %+v", again)
	}
	if list := decode[openapi.WorkflowPage](t, b.call(t, http.MethodGet, apiPrefix+"/workflows", nil), http.StatusOK); len(list.Data) != 1 {
		t.Errorf("the list shows %+v", list.Data)
	}
}
