package httpapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/auth"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
)

const releaseText = `name: Release
nodes:
  build: { run: make }
  ask:
    needs: [build]
    approval: { message: "Publish?", roles: [admin] }
  pause: { wait: 1h }
  publish:
    needs: [ask]
    run: make publish
`

// parked makes an execution of releaseText that waits for its approval and its wait node, as the engine and the journal leave it.
func (b *testBundle) parked(t *testing.T) uuid.UUID {
	t.Helper()
	slug := "release-" + uuid.NewString()[:8]
	post[openapi.Workflow](t, b, apiPrefix+"/workflows", map[string]any{"source": releaseText, "slug": slug}, http.StatusCreated)
	id := b.started(t, slug)
	b.exec(t, `INSERT INTO node_runs (id, execution_id, node_key, status, started_at, prompt) VALUES ($1, $2, 'ask', 'waiting', now(), '{"message": "Publish?", "roles": ["admin"]}')`,
		execution.NewID(), id)
	b.exec(t, "INSERT INTO node_runs (id, execution_id, node_key, status, started_at, due_at) VALUES ($1, $2, 'pause', 'waiting', now(), '2031-01-01T00:00:00Z')",
		execution.NewID(), id)
	b.event(t, id, nil, "execution.waiting", map[string]any{})
	b.exec(t, "UPDATE executions SET status = 'waiting', parked_at = now(), worker_id = NULL, claim = claim + 1 WHERE id = $1", id)
	b.exec(t, "INSERT INTO execution_timers (execution_id, due_at, reason) VALUES ($1, '2031-01-01T00:00:00Z', 'wait')", id)
	return id
}

func TestApprove(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	id := b.parked(t)
	run := post[openapi.NodeRun](t, b, executionPath(id, "/nodes/ask/approve"), map[string]any{"comment": "as discussed"}, http.StatusOK)
	if run.Key != "ask" || run.Status != "completed" || run.FinishedAt == nil || run.Error != nil {
		t.Errorf("the node run is %+v", run)
	}
	want := &openapi.Decision{Approved: true, By: run.Decision.By, Comment: "as discussed"}
	if diff := cmp.Diff(want, run.Decision); diff != "" || run.Decision.By == "" {
		t.Errorf("decision by %q: %s", run.Decision.By, diff)
	}
	var outputs openapi.Decision
	if err := json.Unmarshal(run.Outputs, &outputs); err != nil || outputs != *want {
		t.Errorf("outputs %s (%v)", run.Outputs, err)
	}
	if n := b.count(t, `SELECT count(*) FROM audit_log WHERE action = 'approval.decide' AND target = 'ask' AND data->>'approved' = 'true' AND actor = '`+run.Decision.By+`' AND request_id <> ''`); n != 1 {
		t.Errorf("%d audit rows", n)
	}
	e := get[openapi.Execution](t, b, executionPath(id, ""))
	if e.Status != "waiting" || e.WaitingFor == nil || e.WaitingFor.Position == nil || *e.WaitingFor.Position != "1" || e.WaitingFor.Reason != openapi.WaitingForReasonWorker {
		t.Errorf("it is not ready: %s, %+v", e.Status, e.WaitingFor)
	}
	for _, verb := range []string{"approve", "reject"} {
		wantProblem(t, b.call(t, http.MethodPost, executionPath(id, "/nodes/ask/"+verb), nil), http.StatusConflict, "already_decided")
	}
}

func TestReject(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	id := b.parked(t)
	run := post[openapi.NodeRun](t, b, executionPath(id, "/nodes/ask/reject?index=0"), nil, http.StatusOK)
	if run.Status != "failed" || run.Error == nil || run.Error.Code != "rejected" || run.Error.Message != run.Decision.By+" has rejected it." ||
		run.Decision.Approved || run.Decision.Comment != "" {
		t.Errorf("the node run is %+v, its error %+v", run, run.Error)
	}
}

func TestDecideIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, editor, viewer := b.tokenOf(t, auth.Admin, "*"), b.tokenOf(t, auth.Editor, "*"), b.tokenOf(t, auth.Viewer, "*")
	reader := b.tokenOf(t, auth.Admin, "executions:read")
	long := strings.Repeat("é", queue.MaxComment/2) + "x"
	end := func(t *testing.T, id uuid.UUID) {
		t.Helper()
		b.exec(t, "UPDATE executions SET parked_at = NULL, status = 'failed', finished_at = now() WHERE id = $1", id)
	}
	for name, c := range map[string]struct {
		rest   string
		token  string
		body   any
		change func(t *testing.T, id uuid.UUID)
		status int
		code   string
		detail string
	}{
		"another role":       {rest: "/nodes/ask/approve", token: editor, status: http.StatusForbidden, code: "forbidden", detail: "This needs the right to decide as admin."},
		"who runs nothing":   {rest: "/nodes/ask/approve", token: viewer, status: http.StatusForbidden, code: "forbidden", detail: "This needs the right to decide on approvals."},
		"without the scope":  {rest: "/nodes/ask/approve", token: reader, status: http.StatusForbidden, code: "forbidden", detail: "This needs the right to decide on approvals."},
		"no such node":       {rest: "/nodes/nobody/approve", status: http.StatusNotFound, code: "not_found"},
		"no name of a node":  {rest: "/nodes/a%2Fb/approve", status: http.StatusNotFound, code: "not_found"},
		"a strange name":     {rest: "/nodes/" + url.PathEscape("1 é") + "/approve", status: http.StatusNotFound, code: "not_found"},
		"NUL":                {rest: "/nodes/%00/approve", status: http.StatusNotFound, code: "not_found"},
		"not yet":            {rest: "/nodes/publish/approve", status: http.StatusConflict, code: "not_waiting", detail: `The node "publish" does not wait yet.`},
		"never any more":     {rest: "/nodes/publish/approve", change: end, status: http.StatusConflict, code: "execution_finished"},
		"a wait node":        {rest: "/nodes/pause/approve", status: http.StatusConflict, code: "not_waiting", detail: `The node "pause" does not ask for a decision.`},
		"another index":      {rest: "/nodes/ask/approve?index=1", status: http.StatusConflict, code: "not_waiting"},
		"index -1":           {rest: "/nodes/ask/approve?index=-1", status: http.StatusBadRequest, code: "invalid"},
		"an index too large": {rest: "/nodes/ask/approve?index=99999999999", status: http.StatusBadRequest, code: "invalid"},
		"a long comment":     {rest: "/nodes/ask/approve", body: map[string]any{"comment": long}, status: http.StatusUnprocessableEntity, code: "validation"},
		"a number":           {rest: "/nodes/ask/approve", body: map[string]any{"comment": 5}, status: http.StatusUnprocessableEntity, code: "validation"},
		"ended":              {rest: "/nodes/ask/reject", change: end, status: http.StatusConflict, code: "execution_finished"},
		"canceling": {rest: "/nodes/ask/approve", change: func(t *testing.T, id uuid.UUID) {
			t.Helper()
			post[openapi.Execution](t, b, executionPath(id, "/cancel"), nil, http.StatusAccepted)
		}, status: http.StatusConflict, code: "cancel_requested"},
		"overdue": {rest: "/nodes/ask/approve", change: func(t *testing.T, id uuid.UUID) {
			t.Helper()
			b.exec(t, "UPDATE node_runs SET due_at = now() - interval '1 s' WHERE execution_id = $1", id)
		}, status: http.StatusConflict, code: "not_waiting", detail: `The time to decide on the node "ask" is over.`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := b.parked(t)
			if c.change != nil {
				c.change(t, id)
			}
			headers := []string{"Authorization", "Bearer " + admin}
			if c.token != "" {
				headers[1] = "Bearer " + c.token
			}
			p := wantProblem(t, b.call(t, http.MethodPost, executionPath(id, c.rest), c.body, headers...), c.status, c.code)
			if c.detail != "" && p.Detail != c.detail {
				t.Errorf("the sentence is %q", p.Detail)
			}
			if c.code == "validation" {
				wantPointers(t, p, "/comment")
			}
			var decided int
			if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM node_runs WHERE execution_id = $1 AND (decision IS NOT NULL OR status <> 'waiting')", id).Scan(&decided); err != nil || decided != 0 {
				t.Errorf("%d node runs have changed (%v)", decided, err)
			}
		})
	}
}

// TestTwoPeopleDecideAtOnce holds that one of them is told that it counts, and the other that it does not.
func TestTwoPeopleDecideAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	for range 10 {
		id := b.parked(t)
		statuses := make([]int, 4)
		start := make(chan struct{})
		var group sync.WaitGroup
		for i := range statuses {
			group.Go(func() {
				<-start
				statuses[i] = b.call(t, http.MethodPost, executionPath(id, "/nodes/ask/"+[]string{"approve", "reject"}[i%2]), nil).status
			})
		}
		close(start)
		group.Wait()
		counted := map[int]int{}
		for _, status := range statuses {
			counted[status]++
		}
		if diff := cmp.Diff(map[int]int{http.StatusOK: 1, http.StatusConflict: 3}, counted); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestWaitingForOfTheParked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.parked(t)
	b.worker(t, "active", 4, "1 hour")
	due := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	want := &openapi.WaitingFor{
		Reason: openapi.WaitingForReasonApproval, Reasons: []string{"approval", "wait"}, Workers: 1, Message: `Somebody has to decide on the node "ask". And for 1 more.`,
		Nodes: []openapi.WaitingNode{
			{Kind: openapi.WaitingNodeKindApproval, Node: "ask", Message: "Publish?", Roles: []string{"admin"}},
			{Kind: openapi.WaitingNodeKindWait, Node: "pause", Roles: []string{}, DueAt: &due},
		},
	}
	e := get[openapi.Execution](t, b, executionPath(id, ""))
	if diff := cmp.Diff(want, e.WaitingFor); diff != "" || e.Status != "waiting" {
		t.Errorf("%s: -want +got\n%s", e.Status, diff)
	}
	nodes := get[openapi.NodeRuns](t, b, executionPath(id, "/nodes")).Data
	if len(nodes) != 2 || nodes[0].Prompt == nil || nodes[0].Prompt.Message != "Publish?" || !cmp.Equal(nodes[0].Prompt.Roles, []string{"admin"}) ||
		nodes[0].Decision != nil || nodes[0].DueAt != nil || nodes[1].Prompt != nil || nodes[1].DueAt == nil || !nodes[1].DueAt.Equal(due) {
		t.Errorf("nodes %+v", nodes)
	}

	t.Run("a retry", func(t *testing.T) {
		t.Parallel()
		id := b.parked(t)
		b.exec(t, "DELETE FROM node_runs WHERE execution_id = $1", id)
		for attempt, retry := range []string{"2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"} {
			b.exec(t, `INSERT INTO node_runs (id, execution_id, node_key, attempt, status, started_at, finished_at, retry_at)
				VALUES ($1, $2, 'build', $3, 'failed', now(), now(), $4::timestamptz)`, execution.NewID(), id, attempt+1, retry)
		}
		want := &openapi.WaitingFor{
			Reason: openapi.WaitingForReasonRetry, Reasons: []string{"retry"}, Workers: 1, Message: `The node "build" pauses until 2031-01-01T00:00:00Z before it runs again.`,
			Nodes: []openapi.WaitingNode{{Kind: openapi.WaitingNodeKindRetry, Node: "build", Roles: []string{}, DueAt: &due}},
		}
		if diff := cmp.Diff(want, get[openapi.Execution](t, b, executionPath(id, "")).WaitingFor); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a time", func(t *testing.T) {
		t.Parallel()
		id := b.parked(t)
		b.exec(t, "DELETE FROM node_runs WHERE execution_id = $1 AND node_key = 'ask'", id)
		if w := get[openapi.Execution](t, b, executionPath(id, "")).WaitingFor; w == nil || w.Reason != openapi.WaitingForReasonWait || w.Message != `The node "pause" waits until 2031-01-01T00:00:00Z.` {
			t.Errorf("waits for %+v", w)
		}
	})
}
