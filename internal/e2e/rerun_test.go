package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"foundry/api/client"
)

// leftover fails the first time that it runs in a sandbox, and leaves 1 MB there.
const leftover = `name: leftover
sandbox: { keep: on-failure }
nodes:
  gather:
    run: |
      echo gathered >>gathered
      echo "size=1048576" >>"$FOUNDRY_OUTPUT"
  crunch:
    needs: [gather]
    env: { SIZE: "${{ nodes.gather.outputs.size }}" }
    run: |
      if [ -e big ]; then sha256sum <big; exit 0; fi
      head -c "$SIZE" /dev/urandom >big
      sha256sum <big
      exit 3
  last:
    needs: [crunch]
    run: echo "$(wc -l <gathered) $(wc -c <big)"
outputs:
  size: ${{ nodes.gather.outputs.size }}
`

// preview asks what a rerun would do.
func (i *installation) preview(id string, body map[string]any) client.RerunPreview {
	i.t.Helper()
	var p client.RerunPreview
	if status := i.call(http.MethodPost, "/executions/"+id+"/rerun/preview", body, &p); status != http.StatusOK {
		i.t.Fatalf("preview: %d", status)
	}
	return p
}

// rerun asks for a rerun and returns its id.
func (i *installation) rerun(id string, body map[string]any) string {
	i.t.Helper()
	var queued client.RerunQueued
	if status := i.call(http.MethodPost, "/executions/"+id+"/rerun", body, &queued); status != http.StatusAccepted {
		i.t.Fatalf("rerun: %d", status)
	}
	return queued.ID.String()
}

// fails runs a workflow that fails, and returns the execution and its sandbox.
func (i *installation) fails(workflow string) (id, sandbox string) {
	i.t.Helper()
	id = i.queue(workflow, nil)
	if x := i.ended(id); x.Status != client.ExecutionStatusFailed {
		i.t.Fatalf("status %s, %+v", x.Status, x.Error)
	}
	return id, i.sandbox(id)
}

// completes waits for the end of an execution that does.
func (i *installation) completes(id string) client.Execution {
	i.t.Helper()
	x := i.ended(id)
	if x.Status != client.ExecutionStatusCompleted {
		i.t.Fatalf("status %s, %+v", x.Status, x.Error)
	}
	return x
}

func plans(p client.RerunPreview) string {
	var all []string
	for _, n := range p.Nodes {
		all = append(all, n.Key+"="+string(n.Plan))
	}
	return strings.Join(all, " ")
}

func TestARerunReadsWhatTheFailedOneLeft(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push(leftover, nil)
	id, sandbox := i.fails("leftover")
	sum := string(i.logs(id, "crunch"))

	p := i.preview(id, map[string]any{})
	if got := plans(p); got != "gather=reused crunch=run last=run" {
		t.Errorf("the preview says %q", got)
	}
	if p.Sandbox.Use != client.SandboxPlanUseReuse || p.Sandbox.ID == nil || p.Sandbox.ID.String() != sandbox {
		t.Errorf("the preview names the sandbox %+v, want %s", p.Sandbox, sandbox)
	}
	if out := i.must("rerun", "leftover#1", "--preview"); !strings.Contains(out, "crunch  run") || !strings.Contains(out, "It goes on in the sandbox "+sandbox) {
		t.Errorf("rerun --preview says:\n%s", out)
	}
	out := i.must("rerun", "leftover#1", "--follow")
	if !strings.Contains(out, "leftover#2 is queued") || !strings.Contains(out, "leftover#2 completed") {
		t.Errorf("rerun --follow says:\n%s", out)
	}
	again := queuedID(t, out)
	x := i.completes(again)
	if x.RerunOf == nil || x.RerunOf.String() != id || string(x.Outputs) != `{"size":"1048576"}` {
		t.Errorf("a rerun of %v with the outputs %s", x.RerunOf, x.Outputs)
	}
	if got := string(i.logs(again, "crunch")); got != sum {
		t.Errorf("it has read %q, left was %q", got, sum)
	}
	if got := strings.Fields(string(i.logs(again, "last"))); len(got) != 2 || got[0] != "1" || got[1] != "1048576" {
		t.Errorf("gathered how often, bytes: %q", got)
	}
	before := map[string]client.NodeRun{}
	for _, n := range i.nodes(id) {
		before[n.Key] = n
	}
	for _, n := range i.nodes(again) {
		reused := n.ReusedFrom != nil && *n.ReusedFrom == before[n.Key].ID
		if reused != (n.Key == "gather") || n.SandboxID == nil || n.SandboxID.String() != sandbox || n.Attempt != 1 {
			t.Errorf("%s is reused from %v, ran in %v, attempt %d", n.Key, n.ReusedFrom, n.SandboxID, n.Attempt)
		}
	}

	// The rerun has completed, so the sandbox is gone.
	for of, why := range map[string]string{id: "Execution 2 has gone on in the sandbox.", again: "The sandbox was not kept, or has been destroyed."} {
		p := i.preview(of, map[string]any{"from": "crunch"})
		if p.Sandbox.Use != client.SandboxPlanUseFresh || p.Sandbox.ID != nil || p.Sandbox.Reason != why {
			t.Errorf("the preview says %+v, want a fresh one: %s", p.Sandbox, why)
		}
		if status := i.call(http.MethodPost, "/executions/"+of+"/rerun", map[string]any{"from": "crunch", "sandbox": "reuse"}, nil); status != http.StatusConflict {
			t.Errorf("reuse of a sandbox that is gone: %d", status)
		}
	}
	fresh := i.rerun(id, map[string]any{"sandbox": "fresh"})
	if x := i.ended(fresh); x.Status != client.ExecutionStatusFailed {
		t.Errorf("without the files it is %s", x.Status)
	}
	if got := i.ownSandbox(fresh, "crunch"); got == sandbox {
		t.Error("a fresh sandbox is the old one")
	}
	i.sound()
}

// ownSandbox is where a node of an execution ran.
func (i *installation) ownSandbox(id, node string) string {
	i.t.Helper()
	for _, n := range i.nodes(id) {
		if n.Key == node && n.SandboxID != nil {
			return n.SandboxID.String()
		}
	}
	i.t.Fatalf("%s has no sandbox", node)
	return ""
}

func TestTwoRerunsWantOneSandbox(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push(leftover, nil)
	id, sandbox := i.fails("leftover")
	var group sync.WaitGroup
	var mu sync.Mutex
	var taken []string
	statuses := map[int]int{}
	for range 2 {
		group.Go(func() {
			var queued client.RerunQueued
			status := i.call(http.MethodPost, "/executions/"+id+"/rerun", map[string]any{"sandbox": "reuse"}, &queued)
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
			if queued.ID != uuid.Nil {
				taken = append(taken, queued.ID.String())
			}
		})
	}
	group.Wait()
	if statuses[http.StatusAccepted] != 1 || statuses[http.StatusConflict] != 1 {
		t.Fatalf("answers %v", statuses)
	}
	i.completes(taken[0])
	if got := i.ownSandbox(taken[0], "crunch"); got != sandbox {
		t.Errorf("it ran in %s, want %s", got, sandbox)
	}
	i.sound()
}

// TestARerunMasksWhatTheSandboxHolds leaves a secret and an announced mask in a file, rotates the secret, at last deletes it, and prints the file.
func TestARerunMasksWhatTheSandboxHolds(t *testing.T) {
	t.Parallel()
	i, _ := startWithKeys(t)
	i.push(`name: holds
sandbox: { keep: always }
nodes:
  leave:
    run: |
      if [ -e left ]; then cat left; echo "$TOKEN"; printf %s "$TOKEN" | sha256sum; exit 0; fi
      announced=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
      echo "::add-mask::$announced"
      echo "$TOKEN and $announced" >left
      exit 3
`, nil)
	values := []string{"value-" + rand.Text(), "value-" + rand.Text(), "value-" + rand.Text()}
	i.setSecret("holds", "TOKEN", values[0])
	id, sandbox := i.fails("holds")
	for n, value := range append(values[1:], "") {
		if value != "" {
			i.setSecret("holds", "TOKEN", value)
		} else if status := i.call(http.MethodDelete, "/workflows/holds/secrets/TOKEN", nil, nil); status != http.StatusNoContent {
			t.Fatalf("deleting the secret: %d", status)
		}
		id = i.rerun(id, map[string]any{"sandbox": "reuse", "from": "leave"})
		i.completes(id)
		sum := sha256.Sum256([]byte(value))
		want := "*** and ***\n***\n" + hex.EncodeToString(sum[:]) + "  -\n"
		if value == "" {
			want = strings.Replace(want, "\n***\n", "\n\n", 1)
		}
		if got := string(i.logs(id, "leave")); got != want {
			t.Errorf("rerun %d says %q, want %q", n+1, got, want)
		}
		if got := i.ownSandbox(id, "leave"); got != sandbox {
			t.Errorf("rerun %d ran in %s, want %s", n+1, got, sandbox)
		}
	}
	s := newSinks(i)
	s.collect(id, 0)
	for _, value := range values {
		if told := s.find(value); len(told) > 0 {
			t.Errorf("a value is told in %q", told)
		}
	}
	i.sound()
}

// TestARerunWithAnotherVersionHasItsFiles fixes a script beside the text, and goes on where it failed.
func TestARerunWithAnotherVersionHasItsFiles(t *testing.T) {
	t.Parallel()
	i := start(t)
	const text = "name: fixed\nsandbox: { keep: on-failure }\nfiles: { step.sh: ./step.sh }\nnodes:\n  first: { run: \"echo one >left; echo changed >>step.sh\" }\n  second: { needs: [first], run: sh ./step.sh }\n"
	i.push(text, map[string][]byte{"step.sh": []byte("echo broken; exit 4\n")})
	id, sandbox := i.fails("fixed")
	same := i.rerun(id, map[string]any{"sandbox": "reuse"})
	if x := i.ended(same); x.Status != client.ExecutionStatusFailed || string(i.logs(same, "second")) != "broken\n" {
		t.Errorf("with the same version it is %s and says %q", x.Status, i.logs(same, "second"))
	}
	i.push(text, map[string][]byte{"step.sh": []byte("cat left; wc -l <step.sh\n")})
	latest := i.rerun(same, map[string]any{"sandbox": "reuse", "version": "latest"})
	if x := i.completes(latest); x.Version != 2 {
		t.Errorf("version %d", x.Version)
	}
	if got := strings.Fields(string(i.logs(latest, "second"))); fmt.Sprint(got) != "[one 1]" || i.ownSandbox(latest, "second") != sandbox {
		t.Errorf("the new script says %q in %s", got, i.ownSandbox(latest, "second"))
	}
	i.sound()
}

// TestARerunThatNeedsNoSandboxKeepsIt reruns an execution that has failed by its outputs alone.
func TestARerunThatNeedsNoSandboxKeepsIt(t *testing.T) {
	t.Parallel()
	i := start(t)
	text := "name: outputs\nsandbox: { keep: always }\nnodes:\n  only: { run: \"echo n=[1 >>$FOUNDRY_OUTPUT\" }\noutputs:\n  n: ${{ %s }}\n"
	i.push(fmt.Sprintf(text, "fromJSON(nodes.only.outputs.n)"), nil)
	id, sandbox := i.fails("outputs")
	again := i.rerun(id, map[string]any{"sandbox": "reuse"})
	if x := i.ended(again); x.Status != client.ExecutionStatusFailed || x.Error == nil || x.Error.Code != "outputs" {
		t.Errorf("the same version: %s, %+v", x.Status, x.Error)
	}
	i.push(fmt.Sprintf(text, "nodes.only.outputs.n"), nil)
	last := i.rerun(again, map[string]any{"sandbox": "reuse", "version": "latest"})
	if x := i.completes(last); string(x.Outputs) != `{"n":"[1"}` {
		t.Errorf("outputs %s", x.Outputs)
	}
	if p := i.preview(last, map[string]any{"from": "only"}); p.Sandbox.ID == nil || p.Sandbox.ID.String() != sandbox {
		t.Errorf("the sandbox is not kept: %+v", p.Sandbox)
	}
	if n := len(i.nodes(last)); n != 1 {
		t.Errorf("%d node runs", n)
	}
	i.sound()
}

// TestARerunOutlivesItsWorker kills the worker of a rerun: the next one knows what is reused.
func TestARerunOutlivesItsWorker(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push(`name: outlives
sandbox: { keep: on-failure }
nodes:
  first: { run: "echo first >>ran; echo n=$(wc -l <ran) >>\"$FOUNDRY_OUTPUT\"" }
  second:
    needs: [first]
    run: |
      if [ ! -e failed ]; then : >failed; exit 3; fi
      echo second >>ran; echo here
      until [ -e go ]; do sleep 0.05; done
  third:
    needs: [second]
    env: { N: "${{ nodes.first.outputs.n }}" }
    run: echo "$N $(cat ran | tr '\n' ' ')"
`, nil)
	id, _ := i.fails("outlives")
	again := i.rerun(id, map[string]any{})
	i.says(again, "second", "here")
	i.kill(i.worker)
	i.startWorker()
	i.attached(again, 1)
	i.open(again)
	i.completes(again)
	if got := strings.TrimSpace(string(i.logs(again, "third"))); got != "1 first second" {
		t.Errorf("what ran: %q", got)
	}
	if n := i.count(again, "node.attached"); n != 1 {
		t.Errorf("%d takeovers", n)
	}
	i.sound()
}
