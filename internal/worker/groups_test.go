package worker_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/execution"
	"foundry/internal/pgtest"
)

// TestChildrenAndGroups: a child enters a group like any other execution, but never that of who waits for it.
func TestChildrenAndGroups(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	b.startLoops()
	b.startWorker(4)
	b.push("name: deploy\nconcurrency: deploy\nnodes: { a: { set: { x: 1 } } }")
	b.push("name: between\nnodes: { call: { workflow: deploy } }")
	for name, c := range map[string]struct {
		text    string
		status  execution.Status
		failure string
		runs    string
	}{
		"in another group": {
			text:   "concurrency: parent\nnodes: { call: { matrix: { n: [1, 2, 3] }, workflow: deploy } }",
			status: execution.Completed, runs: "call[0]#1 completed\ncall[1]#1 completed\ncall[2]#1 completed\n",
		},
		"in the same group": {
			text:   "concurrency: { group: deploy, limit: 2 }\nnodes: { call: { workflow: deploy, continue-on-error: true } }",
			status: execution.Completed, failure: "group_held_by_parent", runs: "call[0]#1 failed\n",
		},
		"in the group of one above": {
			text:   "concurrency: deploy\nnodes: { call: { workflow: between, continue-on-error: true } }",
			status: execution.Completed, failure: "child_failed", runs: "call[0]#1 failed\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := b.end(b.enqueue(b.push("name: "+name+"\n"+c.text+"\n"), ""))
			if x.Status != c.status {
				t.Errorf("status %s, failure %+v", x.Status, x.Failure)
			}
			if diff := cmp.Diff(c.runs, b.lines(x.ID)); diff != "" {
				t.Error(diff)
			}
			code := pgtest.Get[string](t, b.pool, "SELECT COALESCE(min(error->>'code'), '') FROM node_runs WHERE execution_id = $1", x.ID)
			if code != c.failure {
				t.Errorf("the node failed with %q, want %q", code, c.failure)
			}
		})
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM concurrency_slots"); n != 0 {
		t.Errorf("%d slots are left", n)
	}
}

// TestParkedExecutionsKeepTheirSlot: what waits for a person is in its group, though no worker holds it.
func TestParkedExecutionsKeepTheirSlot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	b.startLoops()
	b.startWorker(4)
	w := b.push("name: sign-off\nconcurrency: release\nnodes: { ask: { approval: x } }")
	first := b.enqueue(w, "")
	b.parked(first)
	second := b.enqueue(w, "")
	pgtest.CheckInvariants(t, b.pool)
	if places := pgtest.Get[string](t, b.pool, "SELECT status FROM executions JOIN concurrency_waiters ON execution_id = id WHERE id = $1", second); places != "queued" {
		t.Errorf("the second is %s", places)
	}
	if err := b.queue.Cancel(t.Context(), b.org, first, "ann"); err != nil {
		t.Fatal(err)
	}
	if x := b.end(first); x.Status != execution.Canceled {
		t.Errorf("the first is %s", x.Status)
	}
	b.parked(second)
}
