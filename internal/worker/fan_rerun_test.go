package worker_test

import (
	"testing"

	"github.com/google/uuid"

	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

// pushVersion stores a text as the next version of a workflow.
func (b *testBundle) pushVersion(w *workflow.Workflow, text string) {
	b.t.Helper()
	if _, err := b.workflows.AddVersion(b.t.Context(), workflow.VersionParams{Name: w.Name, OrganizationID: b.org, WorkflowID: w.ID, Source: text}); err != nil {
		b.t.Fatal(err)
	}
}

// rerunFailed queues an execution that goes on from what another has left, in the latest version of its workflow or in its own.
func (b *testBundle) rerunFailed(of uuid.UUID, latest bool) uuid.UUID {
	b.t.Helper()
	r, err := b.queue.Rerun(b.t.Context(), workflow.NewDefinitions(b.workflows), queue.RerunRequest{
		OrganizationID: b.org, Of: of, From: queue.FromFailed, Latest: latest, Source: execution.FromAPI,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return r.ID
}

// TestOutputsOfRetriedAttempts has attempts that failed leave more than a matrix may have together: they do not count.
func TestOutputsOfRetriedAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	x := b.end(b.enqueue(b.push(`
name: retried
nodes:
  each: { matrix: { n: [0] }, retries: { max: 6, initial: 1ms }, run: 'echo "x=$(head -c 200000 /dev/zero | tr "\0" y)" >> "$FOUNDRY_OUTPUT"; test "$FOUNDRY_ATTEMPT" = 6' }
`), ""))
	if x.Status != execution.Completed {
		t.Errorf("%s %+v\n%s", x.Status, x.Failure, b.lines(x.ID))
	}
}

// TestRerunWithASmallerMatrix goes on in a version whose matrix is smaller than what is kept.
func TestRerunWithASmallerMatrix(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	text := func(list string) string {
		return `
name: smaller
nodes:
  each: { matrix: { n: ` + list + ` }, set: { n: "${{ matrix.n }}" } }
  gate: { needs: [each], run: exit 1 }
  join: { needs: [each, gate], if: always(), set: { all: "${{ join(nodes.each.outputs.n) }}" } }
`
	}
	w := b.push(text("[a, b, c, d]"))
	x := b.end(b.enqueue(w, ""))
	b.pushVersion(w, text("[a, b]"))
	r := b.rerunFailed(x.ID, true)
	b.end(r)
	if got := pgtest.Get[string](t, b.pool, "SELECT outputs->>'all' FROM node_runs WHERE execution_id = $1 AND node_key = 'join'", r); got != "a,b" {
		t.Errorf("the matrix [a, b] gives %s\n%s", got, b.lines(r))
	}
}

// TestRerunWithAnotherMatrix has a later version write other values: what of the matrix is still the same is kept, and what has been made of
// its outputs is made anew, though both had completed.
func TestRerunWithAnotherMatrix(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	text := func(list string) string {
		return `
name: other
nodes:
  each: { matrix: { n: ` + list + ` }, set: { n: "${{ matrix.n }}" } }
  join: { needs: [each], set: { all: "${{ join(nodes.each.outputs.n) }}" } }
  aside: { set: { x: 1 } }
  gate: { needs: [join], run: exit 1 }
outputs: { all: "${{ nodes.join.outputs.all }}" }
`
	}
	w := b.push(text("[a, b, c]"))
	x := b.end(b.enqueue(w, ""))
	b.pushVersion(w, text("[a, x, c, d]"))
	for version, want := range map[bool]string{
		false: "aside[0]#1 reused\neach[0]#1 reused\neach[1]#1 reused\neach[2]#1 reused\ngate[0]#1 new\njoin[0]#1 reused\na,b,c",
		true:  "aside[0]#1 reused\neach[0]#1 reused\neach[1]#1 reused\neach[1]#2 new\neach[2]#1 reused\neach[3]#1 new\ngate[0]#1 new\njoin[0]#1 new\na,x,c,d",
	} {
		r := b.rerunFailed(x.ID, version)
		b.end(r)
		got := pgtest.Get[string](t, b.pool, `SELECT string_agg(format('%s[%s]#%s %s', node_key, index, attempt, CASE WHEN reused_from IS NULL THEN 'new' ELSE 'reused' END), E'\n' ORDER BY node_key, index, attempt)
			|| E'\n' || max(outputs->>'all') FROM node_runs WHERE execution_id = $1`, r)
		if got != want {
			t.Errorf("latest: %t\n%s\nwant\n%s", version, got, want)
		}
	}
}

// TestRerunKeepsNothingBeyondTheMatrix has one combination of [a, b, c, d] fail, and the newest version has [a, b] left.
func TestRerunKeepsNothingBeyondTheMatrix(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	text := func(list string) string {
		return `
name: sparse
nodes:
  each: { matrix: { n: ` + list + ` }, fail-fast: false, env: { N: "${{ matrix.n }}" }, run: 'echo "got=<$N>" >> "$FOUNDRY_OUTPUT"; test "$N" != c' }
outputs: { all: "${{ join(nodes.each.outputs.got) }}" }
`
	}
	w := b.push(text("[a, b, c, d]"))
	x := b.end(b.enqueue(w, ""))
	b.pushVersion(w, text("[a, b]"))
	r := b.rerunFailed(x.ID, true)
	y := b.end(r)
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM node_runs WHERE execution_id = $1 AND reused_from IS NULL", r); n != 0 {
		t.Errorf("%s: %d commands ran without a combination: %s\n%s", y.Status, n, y.Outputs, b.lines(r))
	}
}

// TestFailFastAfterCancel has a matrix that runs because of a cancel fail fast: its other executions are canceled.
func TestFailFastAfterCancel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLoops()
	b.startWorker(4)
	b.push("name: low\ninputs: { n: { type: integer } }\nnodes: { ask: { approval: x }, fail: { needs: [ask], run: exit 1 } }")
	id := b.enqueue(b.push("name: high\nnodes: { hold: { run: touch held; sleep 600 }, call: { needs: [hold], if: always(), matrix: { n: [0, 1] }, workflow: low, inputs: { n: '${{ matrix.n }}' } } }"), "")
	b.left(id, "held")
	if err := b.queue.Cancel(t.Context(), b.org, id, "test"); err != nil {
		t.Fatal(err)
	}
	await(t, "children", func() bool {
		return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE parent_execution_id = $1 AND status = 'waiting'", id) == 2
	})
	first := pgtest.Get[[16]byte](t, b.pool, "SELECT id FROM executions WHERE parent_execution_id = $1 ORDER BY number LIMIT 1", id)
	if err := b.decide(t.Context(), first, true); err != nil {
		t.Fatal(err)
	}
	await(t, "the failure", func() bool {
		return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM node_runs WHERE execution_id = $1 AND node_key = 'call' AND status = 'failed'", id) == 1
	})
	await(t, "the cancel of the other child", func() bool {
		return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE parent_execution_id = $1 AND cancel_requested_at IS NOT NULL", id) > 0
	})
}
