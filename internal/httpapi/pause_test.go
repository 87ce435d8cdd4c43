package httpapi

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"foundry/internal/audit"
	"foundry/internal/auth"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/pgtest"
)

// change sends a change of the workflow, whatever its revision.
func (b *testBundle) change(t *testing.T, body map[string]any, headers ...string) answer {
	t.Helper()
	return b.call(t, http.MethodPatch, apiPrefix+"/workflows/one", body, append([]string{"If-Match", "*"}, headers...)...)
}

func TestPauseOfAWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	b.workflow(t, "one")
	b.worker(t, "active", 4, "1 hour")
	before := b.queued(t, "one")
	w := decode[openapi.Workflow](t, b.change(t, map[string]any{"paused": true}), http.StatusOK)
	if w.PausedAt == nil || w.PausedBy == nil || *w.PausedBy == "" || w.Slug != "one" {
		t.Fatalf("paused %+v", w)
	}
	if again := get[openapi.Workflow](t, b, apiPrefix+"/workflows/one"); again.PausedAt == nil || !again.PausedAt.Equal(*w.PausedAt) {
		t.Errorf("read as %+v", again)
	}
	after := b.queued(t, "one")
	want := "The workflow is paused since " + w.PausedAt.UTC().Format("2006-01-02T15:04:05Z07:00") + ", by " + *w.PausedBy + "."
	for _, id := range []string{before.String(), after.String()} {
		x := get[openapi.Execution](t, b, apiPrefix+"/executions/"+id)
		if x.WaitingFor == nil || x.WaitingFor.Reason != openapi.WaitingForReasonPaused || !slices.Equal(x.WaitingFor.Reasons, []string{"paused"}) ||
			x.WaitingFor.Position != nil || x.WaitingFor.Message != want {
			t.Errorf("waits for %+v, want %q", x.WaitingFor, want)
		}
	}
	b.exec(t, "UPDATE workers SET lease_until = now()")
	if x := get[openapi.Execution](t, b, executionPath(before, "")).WaitingFor; x == nil || !slices.Equal(x.Reasons, []string{"paused", "worker"}) || x.Message != want+" No worker is alive." {
		t.Errorf("without a worker it waits for %+v", x)
	}
	w = decode[openapi.Workflow](t, b.change(t, map[string]any{"paused": false}), http.StatusOK)
	if w.PausedAt != nil || w.PausedBy != nil {
		t.Errorf("resumed %+v", w)
	}
	if x := get[openapi.Execution](t, b, executionPath(after, "")).WaitingFor; x == nil || x.Position == nil || *x.Position != "2" {
		t.Errorf("after the pause it waits for %+v", x)
	}
	records := get[openapi.AuditPage](t, b, apiPrefix+"/audit?action="+string(audit.WorkflowUpdate)).Data
	if len(records) != 2 || !strings.Contains(string(records[1].Data), `"paused"`) || !strings.Contains(string(records[1].Data), "true") {
		t.Errorf("on record: %+v", records)
	}
}

func TestWhoMayPauseAWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	pause := map[string]any{"paused": true}
	wantProblem(t, b.call(t, http.MethodPatch, apiPrefix+"/workflows/one", pause), http.StatusPreconditionRequired, "precondition_required")
	wantProblem(t, b.change(t, pause, "Authorization", "Bearer "+b.tokenOf(t, auth.Viewer, "*")), http.StatusForbidden, "forbidden")
	decode[openapi.Workflow](t, b.change(t, pause, "Authorization", "Bearer "+b.tokenOf(t, auth.Editor, "*")), http.StatusOK)

	p := wantProblem(t, b.change(t, map[string]any{}), http.StatusUnprocessableEntity, "validation")
	if !strings.Contains(p.Detail+p.Errors[0].Detail, "at least one field") {
		t.Errorf("nothing to change: %+v", p)
	}
	for field, value := range map[string]any{"paused": "yes", "max_queued": 100_001, "slug": ""} {
		wantPointers(t, wantProblem(t, b.change(t, map[string]any{field: value}), http.StatusUnprocessableEntity, "validation"), "/"+field)
	}
}

func TestQueueFull(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	b.workflow(t, "one")
	if w := decode[openapi.Workflow](t, b.change(t, map[string]any{"max_queued": 2}), http.StatusOK); w.MaxQueued != 2 || w.PausedAt != nil {
		t.Errorf("limited to %+v", w)
	}
	b.queued(t, "one")
	post[openapi.ExecutionQueued](t, b, apiPrefix+"/workflows/one/executions", map[string]any{"priority": 7}, http.StatusAccepted)
	a := b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions", nil, "Idempotency-Key", "k")
	p := wantProblem(t, a, http.StatusTooManyRequests, "queue_full")
	if p.Detail != "2 executions of this workflow are queued, as many as its max_queued allows; try again later." || a.header.Get("Retry-After") != "5" {
		t.Errorf("the refusal is %q, Retry-After %q", p.Detail, a.header.Get("Retry-After"))
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); n != 2 {
		t.Errorf("%d executions", n)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT priority FROM executions ORDER BY number DESC LIMIT 1"); n != 7 {
		t.Errorf("priority %d", n)
	}
	decode[openapi.Workflow](t, b.change(t, map[string]any{"max_queued": 0}), http.StatusOK)
	decode[openapi.ExecutionQueued](t, b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions", nil, "Idempotency-Key", "k"), http.StatusAccepted)
}

func TestWaitingForOfWhatHasBegun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	b.exec(t, "INSERT INTO workers (id, state, host, pid, version, slots, lease_until) VALUES ($1, 'dormant', 'h', 1, 'v', 4, now())", execution.NewID())
	if x := get[openapi.Execution](t, b, executionPath(b.queued(t, "one"), "")).WaitingFor; x == nil || !strings.HasPrefix(x.Message, "No worker is awake; 1 asleep. Position") {
		t.Errorf("while workers sleep it waits for %+v", x)
	}
	worker, id := b.worker(t, "active", 4, "1 hour"), b.started(t, "one")
	b.exec(t, "UPDATE executions SET worker_id = $2 WHERE id = $1", id, worker)
	waiting := func() *openapi.WaitingFor { return get[openapi.Execution](t, b, executionPath(id, "")).WaitingFor }
	if w := waiting(); w != nil {
		t.Errorf("at work it waits for %+v", w)
	}
	b.event(t, id, nil, "sandbox.waiting", map[string]any{"stage": "create", "reason": "The provider has no room."})
	if w := waiting(); w == nil || w.Reason != openapi.WaitingForReasonSandbox || w.Position != nil || w.Message != "There is no sandbox for it yet. The provider has no room." {
		t.Errorf("without a sandbox it waits for %+v", w)
	}
	b.event(t, id, nil, "sandbox.ready", map[string]any{})
	if w := waiting(); w != nil {
		t.Errorf("with a sandbox it waits for %+v", w)
	}
	b.exec(t, "UPDATE executions SET worker_id = NULL WHERE id = $1", id)
	b.exec(t, "INSERT INTO execution_queue (execution_id, run_order) VALUES ($1, '-infinity')", id)
	b.event(t, id, nil, "execution.released", map[string]any{"reason": "No key opens the secret TOKEN."})
	w := waiting()
	if w == nil || w.Reason != openapi.WaitingForReasonReleased || !slices.Equal(w.Reasons, []string{"released"}) || *w.Position != "1" ||
		w.Message != "A worker gave it back: No key opens the secret TOKEN. Position in the queue: 1." {
		t.Errorf("given back it waits for %+v", w)
	}
}
