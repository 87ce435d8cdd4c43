package worker_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
	"foundry/internal/sandbox"
	"foundry/internal/workflow"
)

// lines shows how each node run has ended, one a line: key[index]#attempt status.
func (b *testBundle) lines(id uuid.UUID) string {
	b.t.Helper()
	runs, err := b.executions.NodeRuns(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	var out strings.Builder
	for _, r := range runs {
		fmt.Fprintf(&out, "%s[%d]#%d %s\n", r.Key, r.Index, r.Attempt, r.Status)
	}
	return out.String()
}

// left waits until the workspace of an execution has a file.
func (b *testBundle) left(id uuid.UUID, name string) {
	b.t.Helper()
	await(b.t, name, func() bool {
		boxes, err := b.fake.List(b.t.Context(), map[string]string{sandbox.LabelExecution: id.String()})
		if err != nil {
			b.t.Fatal(err)
		}
		if len(boxes) == 0 {
			return false
		}
		_, err = os.Stat(filepath.Join(boxes[0].Workspace, name))
		return err == nil
	})
}

func TestFans(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(8)
	for name, c := range map[string]struct {
		nodes   string // below nodes:
		outputs string // of the execution, as an expression
		status  execution.Status
		failure string // code, node and index
		runs    string
		want    string // the outputs, as JSON
	}{
		"matrix of values": {
			nodes: `
  parts: { set: { list: "${{ fromJSON('[\"a\", \"b\"]') }}" } }
  each: { needs: [parts], matrix: { part: "${{ nodes.parts.outputs.list }}", n: [1, { deep: 2 }] }, set: { got: "${{ matrix.part }}", n: "${{ matrix.n.deep || matrix.n }}" } }
  join: { needs: [each], set: { all: "${{ join(nodes.each.outputs.got) }}", ns: "${{ toJSON(nodes.each.outputs.n) }}" } }`,
			outputs: "${{ nodes.join.outputs.all }} ${{ nodes.each.outputs.n[3] }}", status: execution.Completed,
			runs: "each[0]#1 completed\neach[1]#1 completed\neach[2]#1 completed\neach[3]#1 completed\njoin[0]#1 completed\nparts[0]#1 completed\n",
			want: `{"got": "a,a,b,b 2"}`,
		},
		"matrix of commands": {
			nodes: `
  each: { matrix: { n: [3, 4, 5] }, max-parallel: 2, env: { N: "${{ matrix.n }}" }, run: echo "square=$((N * N)) of $FOUNDRY_INDEX" >> "$FOUNDRY_OUTPUT" }`,
			outputs: "${{ join(nodes.each.outputs.square) }}", status: execution.Completed,
			runs: "each[0]#1 completed\neach[1]#1 completed\neach[2]#1 completed\n", want: `{"got": "9 of 0,16 of 1,25 of 2"}`,
		},
		"nothing to do": {
			nodes: `
  each: { matrix: { n: "${{ fromJSON('[]') }}" }, run: exit 1 }
  after: { needs: [each], set: { x: "${{ toJSON(nodes.each.outputs) }}" } }
  never: { repeat: { times: "${{ 0 }}" }, run: exit 1 }`,
			outputs: "${{ nodes.after.outputs.x }} ${{ nodes.never.status }}", status: execution.Completed,
			runs: "after[0]#1 completed\neach[0]#1 completed\nnever[0]#1 completed\n", want: `{"got": "{} completed"}`,
		},
		"one fails, the rest is skipped": {
			nodes: `
  each: { matrix: { n: [0, 1, 2] }, max-parallel: 1, env: { N: "${{ matrix.n }}" }, run: test $N != 1 }
  after: { needs: [each], set: { x: 1 } }
  told: { needs: [each], if: failure(), set: { x: 1 } }`,
			status: execution.Failed, failure: "exit_code each 1",
			runs: "after[0]#1 skipped\neach[0]#1 completed\neach[1]#1 failed\neach[2]#1 skipped\ntold[0]#1 completed\n",
		},
		"one fails, the others run": {
			nodes: `
  each: { matrix: { n: [0, 1, 2] }, max-parallel: 1, fail-fast: false, env: { N: "${{ matrix.n }}" }, retries: { max: 1, initial: 1ms }, run: test $N != 1 }`,
			status: execution.Failed, failure: "exit_code each 1",
			runs: "each[0]#1 completed\neach[1]#1 failed\neach[1]#2 failed\neach[2]#1 completed\n",
		},
		"failures that do not count": {
			nodes: `
  each: { matrix: { n: [0, 1, 2] }, continue-on-error: true, set: { n: "${{ fromJSON(matrix.n == 1 && 'x' || '7') }}" } }
  after: { needs: [each], set: { x: "${{ toJSON(nodes.each.outputs.n) }} ${{ nodes.each.status }}" } }`,
			outputs: "${{ nodes.after.outputs.x }}", status: execution.Completed, want: `{"got": "[\n  7,\n  null,\n  7\n] failed"}`,
			runs: "after[0]#1 completed\neach[0]#1 completed\neach[1]#1 failed\neach[2]#1 completed\n",
		},
		"what cannot be fanned out": {
			nodes: `
  each: { matrix: { n: "${{ fromJSON('{}') }}" }, run: exit 1 }
  often: { repeat: { times: "${{ 1001 }}" }, run: exit 1 }`,
			status: execution.Failed, failure: "fan_out each -", runs: "each[0]#1 failed\noften[0]#1 failed\n",
		},
		"a condition that is false": {
			nodes:  "\n  each: { if: false, matrix: { n: [0, 1] }, run: exit 1 }",
			status: execution.Completed, runs: "each[0]#1 skipped\n",
		},
		"repeat until": {
			nodes: `
  grow: { repeat: { times: 9, until: repeat.outputs.n == '8' }, env: { N: "${{ repeat.outputs.n || 1 }}" }, run: echo "n=$((N * 2))" >> "$FOUNDRY_OUTPUT" }`,
			outputs: "${{ nodes.grow.outputs.n }}", status: execution.Completed,
			runs: "grow[0]#1 completed\ngrow[1]#1 completed\ngrow[2]#1 completed\n", want: `{"got": "8"}`,
		},
		"repeat that fails": {
			nodes: `
  try: { repeat: 3, retries: { max: 1, initial: 1ms }, env: { I: "${{ repeat.index }}" }, run: test "$I" != 1 }`,
			status: execution.Failed, failure: "exit_code try 1", runs: "try[0]#1 completed\ntry[1]#1 failed\ntry[1]#2 failed\n",
		},
		"repeat whose end cannot be told": {
			nodes:  "\n  try: { repeat: { until: fromJSON('x') }, set: { x: 1 } }",
			status: execution.Failed, failure: "expression try 1", runs: "try[0]#1 completed\ntry[1]#1 failed\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "name: " + name + "\nnodes:" + c.nodes + "\n"
			if c.outputs != "" {
				text += "outputs: { got: \"" + c.outputs + "\" }\n"
			}
			x := b.end(b.enqueue(b.push(text), ""))
			got := ""
			if f := x.Failure; f != nil {
				got = f.Code + " " + f.Node + " -"
				if f.Index != nil {
					got = fmt.Sprintf("%s %s %d", f.Code, f.Node, *f.Index)
				}
			}
			if x.Status != c.status || got != c.failure || c.want != "" && string(x.Outputs) != c.want {
				t.Errorf("status %s, failure %q, outputs %s", x.Status, got, x.Outputs)
			}
			if diff := cmp.Diff(c.runs, b.lines(x.ID)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestFailFastEndsCommands has one command of a matrix fail while the others run.
func TestFailFastEndsCommands(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	x := b.end(b.enqueue(b.push(`
name: hasty
nodes:
  each:
    matrix: { n: [0, 1, 2, 3] }
    max-parallel: 3
    env: { N: "${{ matrix.n }}" }
    run: if test $N = 1; then until test -e up0 && test -e up2; do sleep 0.01; done; exit 7; fi; touch up$N; sleep 600
`), ""))
	if x.Status != execution.Failed || *x.Failure.Index != 1 {
		t.Errorf("%s: %+v", x.Status, x.Failure)
	}
	want := "each[0]#1 canceled\neach[1]#1 failed\neach[2]#1 canceled\neach[3]#1 skipped\n"
	if diff := cmp.Diff(want, b.lines(x.ID)); diff != "" {
		t.Error(diff)
	}
	b.checkHistory(x.ID)
}

// TestFansOutlivesWorkers takes the worker away in the middle of a matrix and of a repeat: each instance runs once.
func TestFansOutliveWorkers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stop := b.startWorker(4)
	id := b.enqueue(b.push(`
name: long
env: { WIDTH: "[0, 1, 2, 3, 4, 5]" }
nodes:
  each:
    matrix: { n: "${{ fromJSON(env.WIDTH) }}" }
    max-parallel: 2
    env: { N: "${{ matrix.n }}" }
    run: echo "$N" >> runs; if test $N = 2; then touch held; until test -e go; do sleep 0.01; done; fi; echo "n=$N" >> "$FOUNDRY_OUTPUT"
  grow:
    needs: [each]
    repeat: { times: 4 }
    env: { N: "${{ repeat.outputs.n || 0 }}" }
    run: echo "g$N" >> runs; if test $N = 2; then touch held2; until test -e go2; do sleep 0.01; done; fi; echo "n=$((N + 1))" >> "$FOUNDRY_OUTPUT"
  told: { needs: [grow], run: echo "all=$(sort runs | tr '\n' ' ')" >> "$FOUNDRY_OUTPUT" }
outputs: { got: "${{ join(nodes.each.outputs.n) }} ${{ nodes.grow.outputs.n }} ${{ nodes.told.outputs.all }}" }
`), "")
	b.left(id, "held")
	stop()
	stop = b.startWorker(4)
	b.leave(id, "go", "")
	b.left(id, "held2")
	stop()
	b.startWorker(4)
	b.leave(id, "go2", "")
	x := b.end(id)
	if want := `{"got": "0,1,2,3,4,5 4 0 1 2 3 4 5 g0 g1 g2 g3 "}`; string(x.Outputs) != want {
		t.Errorf("%s: %s, %+v\n%s", x.Status, x.Outputs, x.Failure, b.lines(id))
	}
	if b.count(id, event.NodeAttached) < 2 {
		t.Errorf("%d times attached", b.count(id, event.NodeAttached))
	}
}

// TestCancelOfFans cancels in the middle of a matrix: what runs is ended, what has not begun is skipped, and nodes that run because of it run.
func TestCancelOfFans(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	id := b.enqueue(b.push(`
name: stopped
nodes:
  each: { matrix: { n: [0, 1, 2] }, max-parallel: 1, run: touch held; sleep 600 }
  clean: { needs: [each], if: always(), matrix: { n: [0, 1] }, run: exit 0 }
`), "")
	b.left(id, "held")
	if err := b.queue.Cancel(t.Context(), b.org, id, "test"); err != nil {
		t.Fatal(err)
	}
	if x := b.end(id); x.Status != execution.Canceled {
		t.Errorf("it is %s", x.Status)
	}
	want := "clean[0]#1 completed\nclean[1]#1 completed\neach[0]#1 canceled\neach[1]#1 skipped\neach[2]#1 skipped\n"
	if diff := cmp.Diff(want, b.lines(id)); diff != "" {
		t.Error(diff)
	}
}

// TestApprovalsOfAMatrix are decided one by one; the first refusal ends the others.
func TestApprovalsOfAMatrix(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLoops()
	b.startWorker(4)
	id := b.enqueue(b.push(`
name: asked
nodes:
  ask: { matrix: { who: [ann, bob, cid] }, approval: "Is ${{ matrix.who }} content?" }
`), "")
	b.parked(id)
	for index, approved := range []bool{true, false} {
		if err := b.decideOn(t.Context(), id, "ask", index, approved); err != nil {
			t.Fatal(err)
		}
	}
	x := b.end(id)
	if x.Status != execution.Failed || *x.Failure.Index != 1 {
		t.Errorf("%s: %+v", x.Status, x.Failure)
	}
	if want := "ask[0]#1 completed\nask[1]#1 failed\nask[2]#1 canceled\n"; b.lines(id) != want {
		t.Error(b.lines(id))
	}
	if err := b.decideOn(t.Context(), id, "ask", 2, true); !errs.Is(err, errs.Finished) {
		t.Errorf("a late decision: %v", err)
	}
}

// TestWideFan runs a thousand instances and joins them.
func TestWideFan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 1000), ",") + "]"
	w := b.push(`
name: wide
inputs: { list: { type: array } }
nodes:
  each: { matrix: { n: "${{ inputs.list }}" }, set: { n: "${{ matrix.n }}" } }
  join: { needs: [each], set: { all: "${{ join(nodes.each.outputs.n, '') }}" } }
outputs: { all: "${{ nodes.join.outputs.all }}" }
`)
	x := b.end(b.enqueue(w, `{"list":`+list+`}`))
	if want := `{"all": "` + strings.Repeat("1", 1000) + `"}`; string(x.Outputs) != want {
		t.Errorf("%s, %+v, %.80s", x.Status, x.Failure, x.Outputs)
	}
	b.checkHistory(x.ID)
}

// TestRerunOfFans runs again what did not complete of a matrix and of a repeat, and nothing else.
func TestRerunOfFans(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	// What an instance does depends on the attempt of its node run, which a rerun counts on from.
	w := b.push(`
name: second-try
nodes:
  each:
    matrix: { n: [0, 1, 2] }
    fail-fast: false
    env: { N: "${{ matrix.n }}" }
    run: echo "by=$FOUNDRY_EXECUTION_ID" >> "$FOUNDRY_OUTPUT"; test $N != 1 -o "$AGAIN" = yes
    secrets: []
  grow:
    repeat: 4
    env: { I: "${{ repeat.index }}", BEFORE: "${{ repeat.outputs.sum || 0 }}" }
    run: echo "sum=$((BEFORE + I))" >> "$FOUNDRY_OUTPUT"; test $I != 2 -o "$AGAIN" = yes
outputs: { sum: "${{ nodes.grow.outputs.sum }}", by: "${{ toJSON(nodes.each.outputs.by) }}" }
`)
	first := b.end(b.enqueue(w, ""))
	if first.Status != execution.Failed {
		t.Fatalf("it is %s", first.Status)
	}
	pgtest.Exec(t, b.pool, `WITH v AS (UPDATE workflows SET latest_version = 2 WHERE id = $1 RETURNING id)
		INSERT INTO workflow_versions (workflow_id, version, source)
		SELECT o.workflow_id, 2, 'env: { AGAIN: "yes" }' || o.source FROM workflow_versions o JOIN v ON v.id = o.workflow_id`, w.ID)
	again, err := b.queue.Rerun(t.Context(), workflow.NewDefinitions(b.workflows), queue.RerunRequest{
		OrganizationID: b.org, Of: first.ID, From: queue.FromFailed, Latest: true, Sandbox: queue.SandboxFresh, Source: execution.FromAPI,
	})
	if err != nil {
		t.Fatal(err)
	}
	x := b.end(again.ID)
	if x.Status != execution.Completed {
		t.Fatalf("%s: %+v", x.Status, x.Failure)
	}
	var got struct{ Sum, By string }
	if err := json.Unmarshal(x.Outputs, &got); err != nil || got.Sum != "6" || strings.Count(got.By, first.ID.String()) != 2 || strings.Count(got.By, x.ID.String()) != 1 {
		t.Errorf("%s", x.Outputs)
	}
	kept := pgtest.Get[string](t, b.pool, `SELECT string_agg(node_key || index, ' ' ORDER BY node_key, index) FROM node_runs WHERE execution_id = $1 AND reused_from IS NOT NULL`, x.ID)
	if kept != "each0 each2 grow0 grow1" {
		t.Errorf("kept %s", kept)
	}
	b.checkHistory(x.ID)
}
