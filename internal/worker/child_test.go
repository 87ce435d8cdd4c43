package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

// childOf waits until an execution has a child, and returns the newest.
func (b *testBundle) childOf(parent uuid.UUID) uuid.UUID {
	b.t.Helper()
	var child uuid.UUID
	await(b.t, "a child", func() bool {
		ids := pgtest.Get[[]uuid.UUID](b.t, b.pool, `SELECT COALESCE(array_agg(id ORDER BY id), '{}') FROM executions WHERE parent_execution_id = $1`, parent)
		if len(ids) > 0 {
			child = ids[len(ids)-1]
		}
		return len(ids) > 0
	})
	return child
}

func TestChildren(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLoops()
	b.startWorker(1) // a parent that waits takes no room
	b.push(`
name: double
inputs: { n: { type: integer, required: true } }
nodes: { twice: { set: { n: "${{ inputs.n }}${{ inputs.n }}" } } }
outputs: { n: "${{ nodes.twice.outputs.n }}" }
`)
	b.push("name: broken\nnodes: { fail: { run: exit 3 } }")
	b.push("name: second-time\nnodes: { fail: { run: 'exit 3' } }")
	b.push("name: endless\nnodes: { again: { workflow: endless } }")
	b.enqueue(b.push("name: shut\nconcurrency: { group: shut, on-conflict: reject }\nnodes: { hold: { approval: x } }"), "")
	for name, c := range map[string]struct {
		nodes   string
		outputs string
		status  execution.Status
		failure string // the code
		runs    string
		want    string
	}{
		"one": {
			nodes: "{ call: { workflow: double, inputs: { n: 21 } } }", outputs: "${{ nodes.call.outputs.n }}", status: execution.Completed,
			runs: "call[0]#1 completed\n", want: `{"got": "2121"}`,
		},
		"many": {
			nodes:   "{ call: { matrix: { n: [1, 2, 3, 4] }, max-parallel: 2, workflow: double, inputs: { n: '${{ matrix.n }}' } } }",
			outputs: "${{ join(nodes.call.outputs.n) }}", status: execution.Completed,
			runs: "call[0]#1 completed\ncall[1]#1 completed\ncall[2]#1 completed\ncall[3]#1 completed\n", want: `{"got": "11,22,33,44"}`,
		},
		"again and again": {
			nodes:   "{ call: { repeat: 3, workflow: double, inputs: { n: '${{ repeat.index }}' } } }",
			outputs: "${{ nodes.call.outputs.n }}", status: execution.Completed,
			runs: "call[0]#1 completed\ncall[1]#1 completed\ncall[2]#1 completed\n", want: `{"got": "22"}`,
		},
		"one that fails": {
			nodes: "{ call: { workflow: broken, retries: { max: 1, initial: 1ms } }, after: { needs: [call], set: { x: 1 } } }", status: execution.Failed, failure: "child_failed",
			runs: "after[0]#1 skipped\ncall[0]#1 failed\ncall[0]#2 failed\n",
		},
		"none such":    {nodes: "{ call: { workflow: nobody } }", status: execution.Failed, failure: "workflow", runs: "call[0]#1 failed\n"},
		"wrong inputs": {nodes: "{ call: { workflow: double, inputs: { m: 1 } } }", status: execution.Failed, failure: "inputs", runs: "call[0]#1 failed\n"},
		"refused":      {nodes: "{ call: { workflow: shut } }", status: execution.Failed, failure: "group_conflict", runs: "call[0]#1 failed\n"},
		"too deep":     {nodes: "{ call: { workflow: endless } }", status: execution.Failed, failure: "child_failed", runs: "call[0]#1 failed\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "name: " + name + "\nnodes: " + c.nodes + "\n"
			if c.outputs != "" {
				text += "outputs: { got: \"" + c.outputs + "\" }\n"
			}
			x := b.end(b.enqueue(b.push(text), ""))
			code := ""
			if x.Failure != nil {
				code = x.Failure.Code
			}
			if x.Status != c.status || code != c.failure || c.want != "" && string(x.Outputs) != c.want {
				t.Errorf("status %s, failure %+v, outputs %s", x.Status, x.Failure, x.Outputs)
			}
			if diff := cmp.Diff(c.runs, b.lines(x.ID)); diff != "" {
				t.Error(diff)
			}
			b.checkHistory(x.ID)
		})
	}
}

// TestFullQueueRefusesChildren holds that a node cannot queue more of a workflow than requests can.
func TestFullQueueRefusesChildren(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLoops()
	b.queuedMax = 2
	b.startWorker(1)
	low := b.push("name: low\nnodes: { a: { set: { x: 1 } } }")
	params := workflow.ChangeParams{OrganizationID: b.org, WorkflowID: low.ID, Actor: audit.Actor{Kind: audit.System, Name: "test"}}
	if _, err := b.workflows.Update(t.Context(), params, workflow.Update{Paused: new(true)}); err != nil {
		t.Fatal(err)
	}
	b.enqueue(low, "")
	high := b.push("name: high\nnodes: { call: { workflow: low } }")
	first := b.enqueue(high, "")
	b.childOf(first)
	if x := b.end(b.enqueue(high, "")); x.Status != execution.Failed || x.Failure.Code != string(queue.Full) {
		t.Errorf("%s: %+v", x.Status, x.Failure)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE workflow_id = $1", low.ID); n != 2 {
		t.Errorf("%d executions are queued", n)
	}
}

// TestManyChildren runs more executions at once than one entry queues.
func TestManyChildren(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLoops()
	b.startWorker(8)
	b.push("name: low\ninputs: { n: { type: integer } }\nnodes: { a: { set: { n: '${{ inputs.n }}' } } }\noutputs: { n: '${{ nodes.a.outputs.n }}' }")
	x := b.end(b.enqueue(b.push(`
name: high
inputs: { list: { type: array } }
nodes: { call: { matrix: { n: "${{ inputs.list }}" }, workflow: low, inputs: { n: "${{ matrix.n }}" } } }
outputs: { all: "${{ join(nodes.call.outputs.n, '') }}" }
`), `{"list":[`+strings.TrimSuffix(strings.Repeat("1,", 120), ",")+`]}`))
	if want := `{"all": "` + strings.Repeat("1", 120) + `"}`; string(x.Outputs) != want {
		t.Errorf("%s, %+v, %s", x.Status, x.Failure, x.Outputs)
	}
	b.checkHistory(x.ID)
}

// TestDepthOfChildren counts how far an execution that runs itself comes.
func TestDepthOfChildren(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLoops()
	b.startWorker(2)
	x := b.end(b.enqueue(b.push("name: endless\nnodes: { again: { workflow: endless } }"), ""))
	if x.Status != execution.Failed || !strings.Contains(x.Failure.Message, "depth of 5") {
		t.Errorf("%s: %+v", x.Status, x.Failure)
	}
	if depth := pgtest.Get[string](t, b.pool, "SELECT string_agg(depth::text, ',' ORDER BY id) FROM executions"); depth != "0,1,2,3,4,5" {
		t.Errorf("depths %s", depth)
	}
}

// TestCancelPassesDown cancels a parent whose child has a child: each ends before the one above it.
func TestCancelPassesDown(t *testing.T) {
	t.Parallel()
	for name, cancels := range map[string]int{"once": 1, "twice": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.startLoops()
			b.startWorker(2)
			b.push("name: low\nnodes: { hold: { run: touch held; sleep 600 }, last: { needs: [hold], if: canceled(), run: exit 0 } }")
			b.push("name: middle\nnodes: { call: { workflow: low }, last: { needs: [call], if: canceled(), set: { x: 1 } } }")
			id := b.enqueue(b.push("name: high\nnodes: { call: { workflow: middle }, last: { needs: [call], if: canceled(), set: { x: 1 } } }"), "")
			low := b.childOf(b.childOf(id))
			b.left(low, "held")
			for range cancels {
				if err := b.queue.Cancel(t.Context(), b.org, id, "test"); err != nil && !errs.Is(err, errs.Finished) {
					t.Fatal(err)
				}
			}
			b.end(id)
			if got := pgtest.Get[string](t, b.pool, "SELECT string_agg(status, ',' ORDER BY finished_at) FROM executions"); got != "canceled,canceled,canceled" {
				t.Error(got)
			}
			if order := pgtest.Get[bool](t, b.pool, "SELECT bool_and(c.finished_at <= p.finished_at) FROM executions c JOIN executions p ON p.id = c.parent_execution_id"); !order {
				t.Error("a parent has ended before its child")
			}
			if cancels == 1 {
				if want := "call[0]#1 canceled\nlast[0]#1 completed\n"; b.lines(id) != want {
					t.Error(b.lines(id))
				}
			}
		})
	}
}

// TestChildCanceledAlone is a failure for its parent.
func TestChildCanceledAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLoops()
	b.startWorker(2)
	w := b.push("name: low\nnodes: { hold: { run: exit 0 } }")
	pgtest.Exec(t, b.pool, "UPDATE workflows SET paused_at = now(), paused_by = 'test' WHERE id = $1", w.ID)
	id := b.enqueue(b.push("name: high\nnodes: { call: { workflow: low } }"), "")
	b.parked(id)
	if err := b.queue.Cancel(t.Context(), b.org, b.childOf(id), "test"); err != nil { // it was never claimed, and ends at once
		t.Fatal(err)
	}
	if x := b.end(id); x.Status != execution.Failed || x.Failure.Code != "child_canceled" {
		t.Errorf("%s: %+v", x.Status, x.Failure)
	}
}

// TestChildThatIsNotTakenInTime ends its parent by its queue-timeout.
func TestChildThatIsNotTakenInTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLoops()
	b.startWorker(2)
	w := b.push("name: low\nqueue-timeout: 1s\nnodes: { hold: { run: exit 0 } }")
	pgtest.Exec(t, b.pool, "UPDATE workflows SET paused_at = now(), paused_by = 'test' WHERE id = $1", w.ID)
	if x := b.end(b.enqueue(b.push("name: high\nnodes: { call: { workflow: low } }"), "")); x.Status != execution.Failed || x.Failure.Code != "child_timed_out" {
		t.Errorf("%s: %+v", x.Status, x.Failure)
	}
}

// TestFailFastEndsChildren has one execution of a matrix fail while the others run.
func TestFailFastEndsChildren(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLoops()
	b.startWorker(4)
	b.push(`
name: low
inputs: { n: { type: integer } }
nodes:
  ask: { approval: x }
  fail: { needs: [ask], run: exit 1 }
`)
	id := b.enqueue(b.push("name: high\nnodes: { call: { matrix: { n: [0, 1, 2] }, workflow: low, inputs: { n: '${{ matrix.n }}' } } }"), "")
	b.parked(id)
	children := pgtest.Get[[]uuid.UUID](t, b.pool, "SELECT array_agg(id ORDER BY number) FROM executions WHERE parent_execution_id = $1", id)
	for _, child := range children {
		b.parked(child)
	}
	if err := b.decide(t.Context(), children[1], true); err != nil {
		t.Fatal(err)
	}
	if x := b.end(id); x.Status != execution.Failed || x.Failure.Code != "child_failed" || *x.Failure.Index != 1 {
		t.Errorf("%s: %+v", x.Status, x.Failure)
	}
	if want := "call[0]#1 canceled\ncall[1]#1 failed\ncall[2]#1 canceled\n"; b.lines(id) != want {
		t.Error(b.lines(id))
	}
}

// TestAChildsEndAroundThePark has a child end at every point of its parent's way into the park, and ends the worker at every point of a
// commit: the parent goes on all the same, and has one child.
func TestAChildsEndAroundThePark(t *testing.T) {
	t.Parallel()
	for _, point := range []string{
		"journal.lock.before", "journal.lock.after", "journal.commit.before", "journal.commit.after", "queue.claim.before", "queue.claim.after",
	} {
		for nth := 1; nth <= 5; nth++ {
			t.Run(fmt.Sprintf("%s %d", point, nth), func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				b.startLoops()
				b.push("name: low\nnodes: { a: { set: { x: 7 } } }\noutputs: { x: '${{ nodes.a.outputs.x }}' }")
				high := b.push("name: high\nnodes: { call: { workflow: low }, after: { needs: [call], set: { x: '${{ nodes.call.outputs.x }}' } } }\noutputs: { x: '${{ nodes.after.outputs.x }}' }")
				var seen atomic.Int32
				b.hook = func(_ context.Context, at string) failpoint.Answer {
					if at != point || int(seen.Add(1)) != nth {
						return failpoint.Answer{}
					}
					if at == "journal.commit.after" {
						return failpoint.Answer{Err: errs.E(errs.Unknown, "Cut off.")}
					}
					return failpoint.Answer{Err: errors.New("cut off")}
				}
				b.startWorker(4)
				id := b.enqueue(high, "")
				if x := b.end(id); x.Status != execution.Completed || string(x.Outputs) != `{"x": 7}` {
					t.Errorf("%s: %+v, %s", x.Status, x.Failure, x.Outputs)
				}
				if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); n != 2 {
					t.Errorf("%d executions", n)
				}
				if b.count(id, event.NodeStarted) != 2 {
					t.Errorf("started %d times", b.count(id, event.NodeStarted))
				}
				b.checkHistory(id)
			})
		}
	}
}
