package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"foundry/internal/audit"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/pgtest"
)

// TestWaitForTheEnd holds that a request that waits is answered by the end, not by its time.
func TestWaitForTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	answered := make(chan answer, 1)
	go func() {
		answered <- b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions?wait=300s", nil, "Idempotency-Key", "k")
	}()
	var id string
	waitUntil(t, func() bool {
		return b.pool.QueryRow(t.Context(), "SELECT id::text FROM executions").Scan(&id) == nil
	})
	e := decode[openapi.ExecutionPage](t, b.call(t, http.MethodGet, apiPrefix+"/executions", nil), http.StatusOK).Data[0]
	if err := b.server.queue.CancelAs(t.Context(), audit.Actor{OrganizationID: b.orgID, Kind: audit.System, Name: "test"}, e.ID); err != nil {
		t.Fatal(err)
	}
	a := <-answered
	got := decode[openapi.Execution](t, a, http.StatusAccepted)
	if got.Status != "canceled" || got.ID != e.ID || got.FinishedAt == nil || a.header.Get("Location") != apiPrefix+"/executions/"+id {
		t.Errorf("the answer is %+v, Location %s", got, a.header.Get("Location"))
	}
	again := b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions?wait=300s", nil, "Idempotency-Key", "k")
	if replayed := decode[openapi.Execution](t, again, http.StatusAccepted); replayed.ID != e.ID || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the same request again: %+v", replayed)
	}
}

func TestWaitEndsInTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	got := decode[openapi.Execution](t, b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions?wait=1s", nil), http.StatusAccepted)
	if got.Status != "queued" || got.WaitingFor == nil {
		t.Errorf("after its time the answer is %+v", got)
	}
	for _, wait := range []string{"0s", "301s", "1m", "10", ""} {
		p := wantProblem(t, b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions?wait="+wait, nil), http.StatusBadRequest, "invalid")
		wantPointers(t, p, "?wait")
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); n != 1 {
		t.Errorf("%d executions, want 1: a refused request has no effect", n)
	}
}

func TestExecutionsNameWhoAskedAndFilter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	editor := b.tokenOf(t, "editor", "*")
	mine := b.queued(t, "one")
	decode[openapi.ExecutionQueued](t, b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions", nil, "Authorization", "Bearer "+editor), http.StatusAccepted)
	e := decode[openapi.Execution](t, b.call(t, http.MethodGet, executionPath(mine, ""), nil), http.StatusOK)
	if e.Actor != "test" || e.Source != "api" {
		t.Errorf("asked for by %q from %q", e.Actor, e.Source)
	}
	later := url.QueryEscape(e.QueuedAt.Add(time.Hour).Format(time.RFC3339Nano))
	for query, want := range map[string]int{
		"actor=test": 1, "actor=nobody": 0, "source=api": 2, "source=ui&source=webhook": 0, "status=queued&source=api&workflow=one": 2,
		"created_before=" + later: 2, "created_after=" + later: 0, "actor=test&workflow=one&status=completed": 0,
	} {
		page := decode[openapi.ExecutionPage](t, b.call(t, http.MethodGet, apiPrefix+"/executions?"+query, nil), http.StatusOK)
		if len(page.Data) != want {
			t.Errorf("%s finds %d, want %d", query, len(page.Data), want)
		}
	}
	p := wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/executions?created_after=yesterday", nil), http.StatusBadRequest, "invalid")
	wantPointers(t, p, "?created_after")
	if !strings.Contains(p.Detail, "Must be a time such as 2026-01-31T09:30:00Z.") {
		t.Errorf("the sentence is %q", p.Detail)
	}
	p = wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/executions?source=moon", nil), http.StatusBadRequest, "invalid")
	wantPointers(t, p, "?source")
}

func TestAuditList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	b.workflow(t, "two")
	b.call(t, http.MethodPost, apiPrefix+"/workflows/one/versions", map[string]any{"source": helloText})
	b.call(t, http.MethodPatch, apiPrefix+"/workflows/one", map[string]any{"slug": "first"}, "If-Match", "*")
	id := b.queued(t, "first")
	b.call(t, http.MethodPost, executionPath(id, "/cancel"), nil)
	b.call(t, http.MethodDelete, apiPrefix+"/workflows/first", nil, "If-Match", "*")

	list := func(query string) (actions []string, next *string) {
		t.Helper()
		page := decode[openapi.AuditPage](t, b.call(t, http.MethodGet, apiPrefix+"/audit?"+query, nil), http.StatusOK)
		for _, entry := range page.Data {
			actions = append(actions, entry.Action)
			if entry.Action != "token.create" && (entry.Actor != "test" || entry.ActorKind != "token" || entry.RequestID == "" || entry.Address == "") {
				t.Errorf("an entry does not say who did it, and from where: %+v", entry)
			}
		}
		return actions, page.NextCursor
	}
	want := "workflow.delete execution.cancel workflow.update version.create workflow.create workflow.create"
	var all []string
	query := "limit=2&actor=test"
	for {
		actions, next := list(query)
		all = append(all, actions...)
		if next == nil {
			break
		}
		query = "limit=2&actor=test&cursor=" + *next
	}
	if got := strings.Join(all, " "); got != want {
		t.Errorf("on record are %s, want %s", got, want)
	}
	if actions, _ := list("action=workflow.create"); len(actions) != 2 {
		t.Errorf("the filter by action finds %q", actions)
	}
	if actions, _ := list("workflow=two"); strings.Join(actions, " ") != "workflow.create" {
		t.Errorf("the filter by workflow finds %q", actions)
	}
	if actions, _ := list("actor=nobody"); len(actions) != 0 {
		t.Errorf("the filter by actor finds %q", actions)
	}
	deleted := pgtest.Get[string](t, b.pool, "SELECT id::text FROM workflows WHERE slug = 'first'")
	if actions, _ := list("workflow=" + deleted); len(actions) != 4 {
		t.Errorf("a deleted workflow's record is %q", actions)
	}
	wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/audit?workflow=first", nil), http.StatusNotFound, "not_found")
}

// TestEnqueueTakesFewRoundTrips counts what a request to run a workflow asks of the database once its token and its version are known:
// a regression is seen here before it is seen in a latency.
func TestEnqueueTakesFewRoundTrips(t *testing.T) {
	t.Parallel()
	sent := &roundTrips{}
	b := setup(t, sent.trace(t))
	b.workflow(t, "one")
	b.queued(t, "one") // looks up the token and compiles the version
	for name, c := range map[string]struct {
		headers []string
		want    []string
	}{
		"plain": {want: []string{"WorkflowGet", "begin+ExecutionEnqueueMany", "commit"}},
		"with a key": {
			headers: []string{"Idempotency-Key", "k"},
			want:    []string{"WorkflowGet", "IdempotencyGet", "begin+IdempotencyClaim", "ExecutionEnqueue", "IdempotencyKeep+IdempotencyPrune+commit"},
		},
	} {
		sent.clear()
		decode[openapi.ExecutionQueued](t, b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions", nil, c.headers...), http.StatusAccepted)
		if got := sent.list(); !slices.Equal(got, c.want) {
			t.Errorf("%s: the round trips are %q, want %q", name, got, c.want)
		}
	}
	sent.clear()
	decode[openapi.ExecutionQueued](t, b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions", nil, "Idempotency-Key", "k"), http.StatusAccepted)
	if got := sent.list(); !slices.Equal(got, []string{"WorkflowGet", "IdempotencyGet"}) {
		t.Errorf("sent again: the round trips are %q", got)
	}
}
