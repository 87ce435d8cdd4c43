package worker_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/event"
	"foundry/internal/execution"
)

func TestSetNodes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	w := b.push(`
name: sets
inputs:
  who: { type: string, default: world }
nodes:
  greet:
    set: { text: "hello ${{ inputs.who }}" }
  shout:
    needs: [greet]
    set: { text: "${{ nodes.greet.outputs.text }}!", n: "${{ 1 }}" }
  never:
    needs: [greet]
    if: ${{ nodes.greet.outputs.text == 'bye' }}
    set: { x: "1" }
outputs:
  said: ${{ nodes.shout.outputs.text }}
`)
	x := b.end(b.enqueue(w, `{"who":"you"}`))
	if x.Status != execution.Completed || string(x.Outputs) != `{"said": "hello you!"}` {
		t.Fatalf("status %s, outputs %s, failure %v", x.Status, x.Outputs, x.Failure)
	}
	want := []event.Type{
		event.ExecutionQueued, event.ExecutionClaimed, event.ExecutionStarted, event.NodeStarted, event.NodeCompleted,
		event.NodeSkipped, event.NodeStarted, event.NodeCompleted, event.ExecutionCompleted,
	}
	if diff := cmp.Diff(want, b.types(x.ID)); diff != "" {
		t.Fatal(diff)
	}
}

func TestRunNodes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	w := b.push(`
name: runs
env: { PLACE: here }
nodes:
  one:
    run: |
      echo "out $PLACE $FOUNDRY_NODE $FOUNDRY_ATTEMPT"
      echo err >&2
      echo "n=41" >> "$FOUNDRY_OUTPUT"
      echo shared > file
  two:
    needs: [one]
    env: { N: "${{ nodes.one.outputs.n }}" }
    run: echo "got=$((N + 1)) $(cat file)" >> "$FOUNDRY_OUTPUT"
outputs:
  got: ${{ nodes.two.outputs.got }}
`)
	x := b.end(b.enqueue(w, ""))
	if x.Status != execution.Completed || string(x.Outputs) != `{"got": "42 shared"}` {
		t.Fatalf("status %s, outputs %s, failure %v\n%v", x.Status, x.Outputs, x.Failure, b.types(x.ID))
	}
	if got := b.log(x.ID, "one", event.Stdout); got != "out here one 1\n" {
		t.Errorf("stdout %q", got)
	}
	if got := b.log(x.ID, "one", event.Stderr); got != "err\n" {
		t.Errorf("stderr %q", got)
	}
	want := []event.Type{
		event.ExecutionQueued, event.ExecutionClaimed, event.ExecutionStarted, event.SandboxCreating, event.SandboxReady,
		event.NodeStarted, event.NodeCompleted, event.NodeStarted, event.NodeCompleted, event.ExecutionCompleted,
	}
	if diff := cmp.Diff(want, b.types(x.ID)); diff != "" {
		t.Error(diff)
	}
}

func TestFailureAndRetry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	w := b.push(`
name: retries
nodes:
  flaky:
    retries: { max: 3, initial: 10ms, backoff: constant }
    run: |
      n=$(cat tries 2>/dev/null || echo 0); n=$((n + 1)); echo $n > tries
      echo "try $n"
      test $n -ge 3
  stubborn:
    retries: { max: 2, initial: 1ms }
    retry-on: [7]
    run: exit 3
  after:
    needs: [stubborn]
    run: echo never
  always:
    needs: [stubborn]
    if: ${{ always() }}
    run: echo cleanup
`)
	x := b.end(b.enqueue(w, ""))
	if x.Status != execution.Failed || x.Failure == nil || x.Failure.Node != "stubborn" || x.Failure.Code != "exit_code" {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	nodes := b.nodes(x.ID)
	got := map[string]string{}
	for key, n := range nodes {
		got[key] = string(n.Status) + " " + strings.Repeat("#", n.Attempt)
	}
	want := map[string]string{"flaky": "completed ###", "stubborn": "failed #", "after": "skipped #", "always": "completed #"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if log := b.log(x.ID, "flaky", event.Stdout); log != "try 3\n" {
		t.Errorf("log of the last attempt: %q", log)
	}
}

// cancelable is a workflow whose command ends on TERM, with a node that runs on a cancel.
const cancelable = `
name: cancels
nodes:
  long:
    run: |
      trap 'echo stopping; exit 0' TERM
      echo started
      sleep 600 & wait
  next:
    needs: [long]
    run: echo never
  cleanup:
    needs: [long]
    if: ${{ canceled() }}
    run: echo cleaned
`

func TestCancelOfQueued(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.enqueue(b.push(cancelable), "")
	if err := b.queue.Cancel(t.Context(), b.org, id, "test"); err != nil {
		t.Fatal(err)
	}
	if x := b.end(id); x.Status != execution.Canceled {
		t.Fatalf("status %s", x.Status)
	}
	if err := b.queue.Cancel(t.Context(), b.org, id, "test"); err == nil {
		t.Fatal("a second cancel of an ended execution was accepted")
	}
}

func TestCancelOfRunning(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(2)
	id := b.enqueue(b.push(cancelable), "")
	await(t, "the first line", func() bool { return strings.Contains(b.logIfAny(id, "long"), "started") })
	if err := b.queue.Cancel(t.Context(), b.org, id, "test"); err != nil {
		t.Fatal(err)
	}
	x := b.end(id)
	nodes := b.nodes(id)
	if x.Status != execution.Canceled || nodes["long"].Status != execution.NodeCanceled || nodes["next"].Status != execution.NodeSkipped ||
		nodes["cleanup"].Status != execution.NodeCompleted {
		t.Fatalf("status %s, nodes %+v", x.Status, nodes)
	}
	if log := b.log(id, "long", event.Stdout); !strings.Contains(log, "stopping") {
		t.Errorf("the trap did not run: %q", log)
	}
}

// logIfAny is the log of a node that may not have begun.
func (b *testBundle) logIfAny(id [16]byte, node string) string {
	if _, ok := b.nodes(id)[node]; !ok {
		return ""
	}
	return b.log(id, node, event.Stdout)
}

func TestTimeoutOfANode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	w := b.push("name: slow node\nnodes:\n  slow:\n    timeout: 200ms\n    run: sleep 600\n")
	x := b.end(b.enqueue(w, ""))
	if x.Status != execution.Failed || x.Failure.Code != "timed_out" || b.nodes(x.ID)["slow"].Status != execution.NodeTimedOut {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
}

// passesDeadline waits until the only execution whose time is over is told so. A round leaves out what is being written.
func (b *testBundle) passesDeadline() {
	b.t.Helper()
	await(b.t, "the deadline", func() bool {
		n, err := b.queue.PassDeadlines(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		return n == 1
	})
}

func TestTimeoutOfAnExecution(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	w := b.push("name: slow execution\ntimeout: 300ms\nnodes:\n  slow:\n    run: sleep 600\n")
	id := b.enqueue(w, "")
	b.passesDeadline()
	x := b.end(id)
	if x.Status != execution.TimedOut || x.Failure.Code != "timed_out" {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
}
