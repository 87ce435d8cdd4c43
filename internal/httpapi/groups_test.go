package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/pgtest"
)

// grouped makes a workflow whose executions enter a group of their customer.
func (b *testBundle) grouped(t *testing.T, slug, concurrency string) {
	t.Helper()
	source := "name: " + slug + "\ninputs: { customer: {} }\nconcurrency: " + concurrency + "\nnodes: { a: { set: { x: 1 } } }\n"
	post[openapi.Workflow](t, b, apiPrefix+"/workflows", map[string]any{"source": source, "slug": slug}, http.StatusCreated)
}

func (b *testBundle) enter(t *testing.T, slug string, body map[string]any) answer {
	t.Helper()
	return b.call(t, http.MethodPost, apiPrefix+"/workflows/"+slug+"/executions", body)
}

func (b *testBundle) entered(t *testing.T, slug, customer string) uuid.UUID {
	t.Helper()
	return decode[openapi.ExecutionQueued](t, b.enter(t, slug, map[string]any{"inputs": map[string]any{"customer": customer}}), http.StatusAccepted).ID
}

func TestConcurrencyGroups(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	b.grouped(t, "report", `{ group: "report-${{ inputs.customer }}", limit: 1 }`)
	b.grouped(t, "again", `{ group: "report-acme", on-conflict: reject }`)
	b.worker(t, "active", 4, "1 hour")
	waiting := func(id uuid.UUID) *openapi.WaitingFor {
		return get[openapi.Execution](t, b, executionPath(id, "")).WaitingFor
	}
	first, other := b.entered(t, "report", "acme"), b.entered(t, "report", "umbrella")
	second, third := b.entered(t, "report", "acme"), b.entered(t, "report", "acme")
	for _, id := range []uuid.UUID{first, other} {
		if w := waiting(id); w == nil || w.Reason != openapi.WaitingForReasonTurn || w.Group != nil {
			t.Errorf("one that has a slot waits for %+v", w)
		}
	}
	position := "2"
	want := &openapi.WaitingFor{
		Reason: openapi.WaitingForReasonGroup, Reasons: []string{"group"}, Position: &position, Workers: 1, Nodes: []openapi.WaitingNode{},
		Group:   &openapi.WaitingGroup{Name: "report-acme", Limit: 1, Held: 1, Holders: []uuid.UUID{first}},
		Message: `The concurrency group "report-acme" has room for 1, and 1 have begun or are about to. Position among those that wait for it: 2.`,
	}
	if diff := cmp.Diff(want, waiting(third)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, filter := range []string{"", "?status=queued", "?workflow=report", "?workflow=report&status=queued", "?actor=test", "?actor=test&workflow=report"} {
		blocked := map[uuid.UUID]bool{}
		for _, x := range get[openapi.ExecutionPage](t, b, apiPrefix+"/executions"+filter).Data {
			if x.ConcurrencyGroup == nil || !strings.HasPrefix(*x.ConcurrencyGroup, "report-") {
				t.Errorf("list%s: %s is in the group %v", filter, x.ID, x.ConcurrencyGroup)
			}
			blocked[x.ID] = x.Blocked
		}
		if diff := cmp.Diff(map[uuid.UUID]bool{first: false, other: false, second: true, third: true}, blocked); diff != "" {
			t.Errorf("list%s: -want +got\n%s", filter, diff)
		}
	}
	// Another workflow of the organization is in the same group. The refusal names who has it, and has no effect.
	a := b.enter(t, "again", map[string]any{})
	if p := wantProblem(t, a, http.StatusConflict, "group_conflict"); !strings.Contains(p.Detail, "report #1 ("+first.String()+")") {
		t.Errorf("the refusal is %q", p.Detail)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); n != 4 {
		t.Errorf("%d executions", n)
	}
	for id, status := range map[uuid.UUID]int{first: http.StatusAccepted, third: http.StatusAccepted} {
		if a := b.call(t, http.MethodPost, executionPath(id, "/cancel"), nil); a.status != status {
			t.Errorf("cancel: %d", a.status)
		}
	}
	if w := waiting(second); w == nil || w.Group != nil || w.Reason != openapi.WaitingForReasonTurn {
		t.Errorf("the next waits for %+v", w)
	}
	if x := get[openapi.Execution](t, b, executionPath(third, "")); x.Status != "canceled" || x.WaitingFor != nil {
		t.Errorf("it is %s and waits for %+v", x.Status, x.WaitingFor)
	}
	// Its first event says what it has entered.
	events := get[openapi.EventPage](t, b, executionPath(second, "/events")).Data
	if got := string(events[0].Data); !strings.Contains(got, `"name": "report-acme"`) && !strings.Contains(got, `"name":"report-acme"`) {
		t.Errorf("queued with %s", got)
	}
	metrics := b.call(t, http.MethodGet, "/metrics", nil)
	b.entered(t, "report", "umbrella")
	if after := b.call(t, http.MethodGet, "/metrics", nil); !strings.Contains(string(metrics.body), "foundry_executions_blocked 0") || !strings.Contains(string(after.body), "foundry_executions_blocked 1") {
		t.Error("metrics do not tell what is blocked")
	}
}

func TestConcurrencyGroupOfAPausedWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	b.grouped(t, "one", "deploy")
	b.change(t, map[string]any{"paused": true})
	id := b.entered(t, "one", "")
	w := get[openapi.Execution](t, b, executionPath(id, "")).WaitingFor
	if w == nil || !slices.Equal(w.Reasons, []string{"paused"}) || w.Position != nil || w.Group == nil || w.Group.Held != 0 || len(w.Group.Holders) != 0 {
		t.Errorf("it waits for %+v", w)
	}
	b.change(t, map[string]any{"paused": false})
	if w := get[openapi.Execution](t, b, executionPath(id, "")).WaitingFor; w == nil || w.Group != nil || w.Position == nil || *w.Position != "1" {
		t.Errorf("after the pause it waits for %+v", w)
	}
}

func TestConcurrencyGroupNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.grouped(t, "report", `{ group: "${{ inputs.customer }}" }`)
	for customer, words := range map[string]string{"": "is empty", strings.Repeat("x", 257): "at most 256 characters; this one has 257"} {
		p := wantProblem(t, b.enter(t, "report", map[string]any{"inputs": map[string]any{"customer": customer}}), http.StatusUnprocessableEntity, "validation")
		if !strings.Contains(p.Detail, words) {
			t.Errorf("the refusal is %q, want %q", p.Detail, words)
		}
	}
}

// TestRerunsEnterGroups: a rerun enters the group of the version that it runs, with the inputs of the execution.
func TestRerunsEnterGroups(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.grouped(t, "report", `{ group: "report-${{ inputs.customer }}-${{ execution.version }}", on-conflict: reject }`)
	id := b.entered(t, "report", "acme")
	b.finish(t, id, execution.Failed)
	b.exec(t, "DELETE FROM concurrency_slots") // as its end would have
	rerun := func() answer { return b.call(t, http.MethodPost, rerunPath(id), map[string]any{"from": "a"}) }
	again := decode[openapi.RerunQueued](t, rerun(), http.StatusAccepted)
	if name := pgtest.Get[string](t, b.pool, "SELECT concurrency_group FROM executions WHERE id = $1", again.ID); name != "report-acme-1" {
		t.Errorf("it is in the group %s", name)
	}
	p := wantProblem(t, rerun(), http.StatusConflict, "group_conflict")
	if !strings.Contains(p.Detail, fmt.Sprintf("report #%d", again.Number)) {
		t.Errorf("the refusal is %q", p.Detail)
	}
}

func TestEnteringAGroupTakesNoMoreRoundTrips(t *testing.T) {
	t.Parallel()
	sent := &roundTrips{}
	b := setup(t, sent.trace(t))
	b.grouped(t, "queues", "queues")
	b.grouped(t, "rejects", "{ group: rejects, limit: 2, on-conflict: reject }")
	for slug, want := range map[string][]string{
		"queues":  {"WorkflowGet", "begin+WorkflowLockMany+GroupEnter+ExecutionEnqueue", "GroupSetLimit+GroupAdmit+commit"},
		"rejects": {"WorkflowGet", "begin+WorkflowLockMany+GroupEnter+GroupState", "ExecutionEnqueue", "GroupSetLimit+GroupAdmit+commit"},
	} {
		b.entered(t, slug, "") // looks up the token and compiles the version
		sent.clear()
		b.entered(t, slug, "")
		if got := sent.list(); !slices.Equal(got, want) {
			t.Errorf("%s: the round trips are %q, want %q", slug, got, want)
		}
	}
}
