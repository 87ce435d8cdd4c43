package httpapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
)

func TestCreateExecution(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	path := apiPrefix + "/workflows/hello/executions"

	t.Run("answers with what scripts rely on", func(t *testing.T) {
		t.Parallel()
		b.workflow(t, "first")
		body := map[string]any{"inputs": map[string]any{"who": "you"}, "version": 1, "priority": 3}
		a := b.call(t, http.MethodPost, apiPrefix+"/workflows/first/executions", body)
		e := decode[openapi.ExecutionQueued](t, a, http.StatusAccepted)
		if e.Number != 1 || e.Status != "queued" || e.Source != "api" || e.Workflow != "first" || e.Version != 1 || e.ID.Version() != 7 {
			t.Errorf("queued %+v", e)
		}
		if since := time.Since(e.QueuedAt); since < -time.Minute || since > time.Minute {
			t.Errorf("queued at %s", e.QueuedAt)
		}
		if a.header.Get("Location") != executionPath(e.ID, "") {
			t.Errorf("Location is %q", a.header.Get("Location"))
		}
		got := get[openapi.Execution](t, b, a.header.Get("Location"))
		if got.Priority != 3 || string(got.Outputs) != "null" || got.WorkerID != nil || got.Error != nil || got.FinishedAt != nil {
			t.Errorf("read %+v", got)
		}
		var inputs map[string]any
		if err := json.Unmarshal(got.Inputs, &inputs); err != nil || !maps.Equal(inputs, map[string]any{"who": "you", "times": 1.0}) {
			t.Errorf("inputs %s (%v): defaults are filled in", got.Inputs, err)
		}
	})
	t.Run("needs no body", func(t *testing.T) {
		t.Parallel()
		for _, headers := range [][]string{nil, {"Content-Type", "application/json"}} {
			if e := decode[openapi.ExecutionQueued](t, b.call(t, http.MethodPost, path, nil, headers...), http.StatusAccepted); e.Number < 1 {
				t.Errorf("queued %+v", e)
			}
		}
		decode[openapi.ExecutionQueued](t, b.call(t, http.MethodPost, path, "{}"), http.StatusAccepted)
		wantProblem(t, b.call(t, http.MethodPost, path, "null"), http.StatusUnprocessableEntity, "validation")
	})
	for name, c := range map[string]struct {
		body     string
		pointers []string
	}{
		"an unknown input":     {`{"inputs": {"whom": "x"}}`, []string{"/inputs/whom"}},
		"a mistyped input":     {`{"inputs": {"times": "x"}}`, []string{"/inputs/times"}},
		"several faults":       {`{"inputs": {"times": 11, "who": 1, "x": 1}}`, []string{"/inputs/who", "/inputs/times", "/inputs/x"}},
		"inputs that are none": {`{"inputs": [1]}`, []string{"/inputs"}},
		"null for inputs":      {`{"inputs": null}`, []string{"/inputs"}},
		"an absent version":    {`{"version": 2}`, []string{"/version"}},
		"version 0":            {`{"version": 0}`, []string{"/version"}},
		"half a version":       {`{"version": 1.5}`, []string{"/version"}},
		"a huge version":       {`{"version": 9999999999999}`, []string{"/version"}},
		"priority 11":          {`{"priority": 11}`, []string{"/priority"}},
		"an unknown field":     {`{"input": {}}`, []string{"/input"}},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			p := wantProblem(t, b.call(t, http.MethodPost, path, c.body), http.StatusUnprocessableEntity, "validation")
			wantPointers(t, p, c.pointers...)
		})
	}
	t.Run("stores odd characters", func(t *testing.T) {
		t.Parallel()
		a := b.call(t, http.MethodPost, path, `{"inputs": {"who": "a\u0000b\ud800c<é>"}}`)
		e := decode[openapi.ExecutionQueued](t, a, http.StatusAccepted)
		if got := get[openapi.Execution](t, b, executionPath(e.ID, "")); !strings.Contains(string(got.Inputs), "é") {
			t.Errorf("inputs %s", got.Inputs)
		}
	})
	t.Run("of an unknown workflow", func(t *testing.T) {
		t.Parallel()
		for _, ref := range []string{"nobody", uuid.NewString(), "%00", "%ff", strings.Repeat("x", 65), "a%2Fb"} {
			wantProblem(t, b.call(t, http.MethodPost, apiPrefix+"/workflows/"+ref+"/executions", "{}"), http.StatusNotFound, "not_found")
		}
	})
	t.Run("runs an older version", func(t *testing.T) {
		t.Parallel()
		b.workflow(t, "older")
		path := apiPrefix + "/workflows/older/executions"
		post[openapi.VersionCreated](t, b, apiPrefix+"/workflows/older/versions", map[string]any{"source": helloText}, http.StatusCreated)
		if e := post[openapi.ExecutionQueued](t, b, path, map[string]any{"version": 1}, http.StatusAccepted); e.Version != 1 {
			t.Errorf("queued %+v", e)
		}
		if e := post[openapi.ExecutionQueued](t, b, path, map[string]any{}, http.StatusAccepted); e.Version != 2 {
			t.Errorf("queued %+v", e)
		}
	})
}

func TestPriorityOfTheWorkflowHoldsUnlessOneIsGiven(t *testing.T) {
	t.Parallel()
	b := setup(t)
	post[openapi.Workflow](t, b, apiPrefix+"/workflows", map[string]any{"source": "name: urgent\npriority: 5\nnodes: {a: {run: echo}}\n"}, http.StatusCreated)
	for body, want := range map[string]int{`{}`: 5, `{"priority": 0}`: 0, `{"priority": -10}`: -10} {
		e := decode[openapi.ExecutionQueued](t, b.call(t, http.MethodPost, apiPrefix+"/workflows/urgent/executions", body), http.StatusAccepted)
		if got := get[openapi.Execution](t, b, executionPath(e.ID, "")); got.Priority != want {
			t.Errorf("%s gave priority %d, want %d", body, got.Priority, want)
		}
	}
}

func TestListExecutionsHasNoDuplicatesOrGaps(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	var want []uuid.UUID
	for range 12 {
		want = append([]uuid.UUID{b.queued(t, "hello")}, want...)
	}
	var got []uuid.UUID
	for cursor := ""; ; {
		p := get[openapi.ExecutionPage](t, b, apiPrefix+"/executions?limit=5"+cursor)
		for _, e := range p.Data {
			got = append(got, e.ID)
		}
		b.queued(t, "hello") // a newer one must not shift the next page
		if p.NextCursor == nil {
			break
		}
		if len(p.Data) != 5 {
			t.Errorf("a page of %d that is not the last", len(p.Data))
		}
		cursor = "&cursor=" + *p.NextCursor
	}
	if !slices.Equal(got, want) {
		t.Errorf("read %d executions %v, want %v", len(got), got, want)
	}
	if p := get[openapi.ExecutionPage](t, b, apiPrefix+"/executions?limit=15"); p.NextCursor != nil || len(p.Data) != 15 {
		t.Errorf("a page of exactly all: %d entries, cursor %v", len(p.Data), p.NextCursor)
	}
}

func TestListExecutionsFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	two := b.workflow(t, "two")
	completed, failed, running, queued := b.queued(t, "one"), b.queued(t, "two"), b.started(t, "two"), b.queued(t, "two")
	b.finish(t, completed, execution.Completed)
	b.finish(t, failed, execution.Failed)
	b.exec(t, `UPDATE execution_data SET error = '{"code": "exit_code", "message": "It failed.", "node": "greet"}' WHERE execution_id = $1`, failed)
	for query, want := range map[string][]uuid.UUID{
		"":                                        {queued, running, failed, completed},
		"?status=completed":                       {completed},
		"?status=completed&status=failed":         {failed, completed},
		"?status=waiting":                         nil,
		"?workflow=two":                           {queued, running, failed},
		"?workflow=" + two.ID.String():            {queued, running, failed},
		"?workflow=two&status=running&limit=200":  {running},
		"?workflow=one&status=running&status=ui2": nil,
	} {
		a := b.call(t, http.MethodGet, apiPrefix+"/executions"+query, nil)
		if strings.Contains(query, "ui2") {
			wantPointers(t, wantProblem(t, a, http.StatusBadRequest, "invalid"), "?status")
			continue
		}
		var got []uuid.UUID
		for _, e := range decode[openapi.ExecutionPage](t, a, http.StatusOK).Data {
			got = append(got, e.ID)
			if e.ID == failed && (e.Error == nil || e.Error.Node != "greet" || e.FinishedAt == nil) {
				t.Errorf("the failed one is %+v", e)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s gave %v, want %v", query, got, want)
		}
	}
	wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/executions?workflow=nobody", nil), http.StatusNotFound, "not_found")
}

func TestQueryParametersAreChecked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	id := b.queued(t, "hello")
	foreign := *listWorkflows.encode("hello")
	for path, pointer := range map[string]string{
		"/executions?limit=0":                      "?limit",
		"/executions?limit=201":                    "?limit",
		"/executions?limit=x":                      "?limit",
		"/executions?limit=":                       "?limit",
		"/executions?limit=1&limit=2":              "?limit",
		"/executions?limit=99999999999":            "?limit",
		"/executions?cursor=nonsense":              "?cursor",
		"/executions?cursor=":                      "?cursor",
		"/executions?cursor=" + foreign:            "?cursor",
		"/executions?cursor=ZTp4":                  "?cursor", // "e:x"
		"/workflows?cursor=ZTp4":                   "?cursor",
		"/workflows/hello/versions?cursor=djp4":    "?cursor", // "v:x"
		"/sandboxes?cursor=djp4":                   "?cursor",
		"/executions?statuss=queued":               "?statuss",
		"/executions?workflow=%00":                 "?workflow",
		"/executions?workflow=%ff":                 "?workflow",
		"/me?verbose=1":                            "?verbose",
		"/executions/" + id.String() + "?x=1":      "?x",
		executionRest(id, "/events?after=-1"):      "?after",
		executionRest(id, "/events?limit=1001"):    "?limit",
		executionRest(id, "/logs?index=1"):         "?node",
		executionRest(id, "/logs?stream=stdin"):    "?stream",
		executionRest(id, "/logs?follow=yes"):      "?follow",
		executionRest(id, "/logs?node=a&index=-1"): "?index",
	} {
		p := wantProblem(t, b.call(t, http.MethodGet, apiPrefix+path, nil), http.StatusBadRequest, "invalid")
		wantPointers(t, p, pointer)
	}
	wantProblem(t, b.call(t, http.MethodGet, executionPath(id, "/events?logs=a:b"), nil), http.StatusBadRequest, "invalid")
	wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/executions?limit=%zz", nil), http.StatusBadRequest, "invalid")
}

func executionRest(id uuid.UUID, rest string) string {
	return fmt.Sprintf("/executions/%s%s", id, rest)
}

func TestWaitingFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	b.queued(t, "hello")
	id := b.queued(t, "hello")
	waiting := func(t *testing.T, reason openapi.WaitingForReason, workers int) openapi.WaitingFor {
		t.Helper()
		e := get[openapi.Execution](t, b, executionPath(id, ""))
		if e.WaitingFor == nil {
			t.Fatalf("%+v waits for nothing", e)
		}
		if w := *e.WaitingFor; w.Reason != reason || w.Workers != workers || w.Message == "" {
			t.Errorf("waits for %+v, want %s with %d workers", w, reason, workers)
		}
		return *e.WaitingFor
	}
	b.worker(t, "gone", 4, "1 hour")
	b.worker(t, "draining", 4, "1 hour")
	b.worker(t, "active", 4, "-1 second")
	if w := waiting(t, openapi.WaitingForReasonWorker, 0); *w.Position != "2" {
		t.Errorf("position %q, want 2", *w.Position)
	}
	worker := b.worker(t, "active", 1, "1 hour")
	waiting(t, openapi.WaitingForReasonTurn, 1)
	running := b.started(t, "hello")
	b.exec(t, "UPDATE executions SET worker_id = $2 WHERE id = $1", running, worker)
	waiting(t, openapi.WaitingForReasonSlot, 1)
	if e := get[openapi.Execution](t, b, executionPath(running, "")); e.WaitingFor != nil || e.WorkerID == nil || *e.WorkerID != worker {
		t.Errorf("a running execution is %+v", e)
	}
}

func TestPositionIsCountedToAThousand(t *testing.T) {
	t.Parallel()
	for ahead, want := range map[int]string{0: "1", 1: "2", 999: "1000", 1000: "1000+", 1001: "1000+"} {
		if got := *queuedJSON(execution.Place{Ahead: ahead}, capacity{}, "").Position; got != want {
			t.Errorf("with %d ahead: %q, want %q", ahead, got, want)
		}
	}
}

func TestCancelExecution(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	t.Run("that was never claimed", func(t *testing.T) {
		t.Parallel()
		id := b.queued(t, "hello")
		e := post[openapi.Execution](t, b, executionPath(id, "/cancel"), nil, http.StatusAccepted)
		if e.Status != "canceled" || e.FinishedAt == nil || e.WaitingFor != nil {
			t.Errorf("canceled %+v", e)
		}
		wantProblem(t, b.call(t, http.MethodPost, executionPath(id, "/cancel"), nil), http.StatusConflict, "execution_finished")
	})
	t.Run("that runs", func(t *testing.T) {
		t.Parallel()
		id := b.started(t, "hello")
		e := post[openapi.Execution](t, b, executionPath(id, "/cancel"), nil, http.StatusAccepted)
		if e.Status != "running" || e.CancelRequestedAt == nil || e.FinishedAt != nil {
			t.Errorf("canceling %+v", e)
		}
		post[openapi.Execution](t, b, executionPath(id, "/cancel"), nil, http.StatusAccepted)
		b.finish(t, id, execution.Canceled)
		wantProblem(t, b.call(t, http.MethodPost, executionPath(id, "/cancel"), nil), http.StatusConflict, "execution_finished")
	})
}

func TestAnotherOrganizationSeesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.workflow(t, "hello")
	id := b.started(t, "hello")
	b.nodeRun(t, id, "greet", 0, 1)
	owner := b.token
	_, b.token = b.organization(t, "umbrella")
	for _, path := range []string{
		"/workflows/hello", "/workflows/" + w.ID.String(), "/workflows/hello/versions", "/workflows/hello/versions/1",
		executionRest(id, ""), executionRest(id, "/nodes"), executionRest(id, "/events"), executionRest(id, "/logs"), executionRest(id, "/logs?node=greet"),
	} {
		wantProblem(t, b.call(t, http.MethodGet, apiPrefix+path, nil), http.StatusNotFound, "not_found")
	}
	for _, path := range []string{"/workflows/hello/executions", executionRest(id, "/cancel")} {
		wantProblem(t, b.call(t, http.MethodPost, apiPrefix+path, nil), http.StatusNotFound, "not_found")
	}
	for _, path := range []string{"/workflows", "/executions", "/sandboxes"} {
		page := get[struct{ Data []any }](t, b, apiPrefix+path)
		if len(page.Data) != 0 {
			t.Errorf("%s shows %v", path, page.Data)
		}
	}
	b.workflow(t, "hello") // slugs are per organization
	b.token = owner
	if e := get[openapi.Execution](t, b, executionPath(id, "")); e.CancelRequestedAt != nil {
		t.Error("a stranger canceled the execution")
	}
}

func TestUnknownExecutions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, id := range []string{uuid.NewString(), "x", "1", "%00", "..%2f..", "00000000-0000-0000-0000-000000000000"} {
		for _, rest := range []string{"", "/nodes", "/events", "/logs"} {
			wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/executions/"+id+rest, nil), http.StatusNotFound, "not_found")
		}
		wantProblem(t, b.call(t, http.MethodPost, apiPrefix+"/executions/"+id+"/cancel", nil), http.StatusNotFound, "not_found")
	}
}

// TestExpiredExecutions holds that what retention has dropped is gone, not unknown: as soon as its history is, and when its row is, too.
func TestExpiredExecutions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	old := b.queued(t, "hello")
	b.finish(t, old, execution.Completed)
	day := time.Now().UTC().AddDate(0, 0, -40).Truncate(24 * time.Hour)
	id := execution.FirstID(day.Add(time.Hour))
	id[6], id[8] = 0x70, 0x80
	paths := []string{"", "/nodes", "/events", "/logs", "/artifacts", "/summary"}
	b.exec(t, "SELECT make_partitions($1)", day)
	for _, rest := range paths {
		wantProblem(t, b.call(t, http.MethodGet, executionPath(id, rest), nil), http.StatusNotFound, "not_found")
	}
	b.exec(t, "WITH data AS (DELETE FROM execution_data WHERE execution_id = $1) UPDATE executions SET id = $2 WHERE id = $1", old, id)
	b.exec(t, "INSERT INTO execution_data (execution_id, inputs) VALUES ($1, '{}')", id)
	if e := get[openapi.Execution](t, b, executionPath(id, "")); e.ID != id {
		t.Fatalf("read %+v", e)
	}
	b.exec(t, "DROP TABLE execution_events"+day.Format("_20060102")+", execution_logs"+day.Format("_20060102"))
	for range 2 {
		for _, rest := range paths {
			p := wantProblem(t, b.call(t, http.MethodGet, executionPath(id, rest), nil), http.StatusGone, "expired")
			if !strings.Contains(p.Detail, day.Format(time.DateOnly)) {
				t.Errorf("%s: %q does not name the day", rest, p.Detail)
			}
		}
		b.exec(t, "DELETE FROM executions WHERE id = $1", id)
	}
	v4 := id
	v4[6] = 0x40
	wantProblem(t, b.call(t, http.MethodGet, executionPath(v4, ""), nil), http.StatusNotFound, "not_found")
}
