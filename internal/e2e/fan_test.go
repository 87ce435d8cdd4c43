package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/api/client"
)

// ledger has each run of a wide node write a line when it begins and one when it ends. One of them stays until it is let go. The command
// that joins them reads what was written.
const ledger = `name: ledger
max-parallel: 4
nodes:
  crunch:
    matrix: { part: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19] }
    env: { PART: "${{ matrix.part }}" }
    run: |
      echo "begin $PART" >>ledger
      if [ "$PART" = 5 ]; then until test -e go; do sleep 0.05; done; fi
      echo "end $PART" >>ledger
      echo "of $PART"
      echo "part=$PART" >>"$FOUNDRY_OUTPUT"
  join:
    needs: [crunch]
    env: { PARTS: "${{ join(nodes.crunch.outputs.part, ' ') }}" }
    run: |
      echo "parts=$PARTS" >>"$FOUNDRY_OUTPUT"
      echo "ledger=$(sort ledger | uniq -c | awk '{ if ($1 != 1) bad++ } END { print NR, bad + 0 }')" >>"$FOUNDRY_OUTPUT"
outputs:
  parts: ${{ nodes.join.outputs.parts }}
  ledger: ${{ nodes.join.outputs.ledger }}
`

// TestMatrixOverADeath kills the worker in the middle of a matrix: each combination has run once, and has its own log.
func TestMatrixOverADeath(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push(ledger, nil)
	id := i.queue("ledger", nil)
	eventually(t, func() error {
		if n := i.count(id, "node.completed"); n == 0 {
			return errors.New("nothing has ended")
		}
		return nil
	})
	i.kill(i.worker)
	i.startWorker()
	eventually(t, func() error {
		if i.count(id, "node.attached") == 0 {
			return errors.New("nothing has been taken over")
		}
		return nil
	})
	i.open(id)
	i.completes(id)
	want := map[string]string{"parts": "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19", "ledger": "40 0"}
	if diff := cmp.Diff(want, decode[map[string]string](t, i.execution(id).Outputs)); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	for _, n := range i.nodes(id) {
		if n.Attempt != 1 || n.Status != client.NodeStatusCompleted {
			t.Errorf("%s[%d], attempt %d, is %s", n.Key, n.Index, n.Attempt, n.Status)
		}
		if n.Key != "crunch" {
			continue
		}
		if m := decode[map[string]int](t, n.Matrix); m["part"] != n.Index {
			t.Errorf("run %d is of %v", n.Index, m)
		}
		if out := i.must("logs", id, "--node", "crunch", "--index", fmt.Sprint(n.Index)); out != fmt.Sprintf("of %d\n", n.Index) {
			t.Errorf("the log of run %d is %q", n.Index, out)
		}
	}
	i.sound()
}

const (
	outer = "name: outer\nnodes:\n  call: { workflow: inner }\n  after: { needs: [call], set: { n: \"${{ nodes.call.outputs.n }}\" } }\noutputs: { n: \"${{ nodes.after.outputs.n }}\" }\n"
	inner = `name: inner
nodes:
  hold:
    run: |
      echo begun
      until test -e go; do sleep 0.05; done
      echo "n=7" >>"$FOUNDRY_OUTPUT"
  late: { needs: [hold], set: { n: "${{ nodes.hold.outputs.n }}" } }
outputs: { n: "${{ nodes.late.outputs.n }}" }
`
)

// childOf waits for the only execution that a node of another runs.
func (i *installation) childOf(id string) string {
	i.t.Helper()
	var page client.ExecutionPage
	eventually(i.t, func() error {
		if status := i.call(http.MethodGet, "/executions?parent="+id, nil, &page); status != http.StatusOK || len(page.Data) != 1 {
			return fmt.Errorf("%d: %d children", status, len(page.Data))
		}
		return nil
	})
	return page.Data[0].ID.String()
}

// TestChildOverADeath kills the worker while an execution waits for another, which runs.
func TestChildOverADeath(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push(inner, nil)
	i.push(outer, nil)
	id := i.queue("outer", nil)
	child := i.childOf(id)
	i.says(child, "hold", "begun")
	i.waits(id)
	if w := i.execution(id).WaitingFor; w == nil || w.Reason != client.WaitingForReasonWorkflow || w.Message != `The node "call" waits for the end of inner #1.` {
		t.Errorf("it waits for %+v", w)
	}
	i.kill(i.worker)
	i.startWorker()
	i.attached(child, 1)
	i.open(child)
	i.completes(id)
	x, c := i.execution(id), i.execution(child)
	if string(x.Outputs) != `{"n":"7"}` || c.Status != client.ExecutionStatusCompleted || c.Parent == nil || c.Parent.ExecutionID.String() != id || c.Parent.Node != "call" {
		t.Errorf("outputs %s; the child is %s, of %+v", x.Outputs, c.Status, c.Parent)
	}
	if n := i.nodes(child)[0]; n.Attempt != 1 {
		t.Errorf("its command was run %d times", n.Attempt)
	}
	i.sound()
}

// TestCancelOfAParent has the command line end an execution, and with it what it runs.
func TestCancelOfAParent(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push(inner, nil)
	i.push(outer, nil)
	id := i.queue("outer", nil)
	child := i.childOf(id)
	i.says(child, "hold", "begun")
	i.must("cancel", "outer#1")
	for name, id := range map[string]string{"the parent": id, "the child": child} {
		if x := i.ended(id); x.Status != client.ExecutionStatusCanceled {
			t.Errorf("%s is %s: %+v", name, x.Status, x.Error)
		}
	}
	parent, inside := i.execution(id), i.execution(child)
	if parent.FinishedAt.Before(*inside.FinishedAt) {
		t.Errorf("the parent ended at %s, before the child, at %s", parent.FinishedAt, inside.FinishedAt)
	}
	if out := i.must("executions", "--parent", "outer#1"); !strings.Contains(out, "inner#1") || strings.Count(out, "\n") != 2 {
		t.Errorf("the list of children is\n%s", out)
	}
	i.sound()
}
