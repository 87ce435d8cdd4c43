package worker_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/artifact"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

// growing makes three generations. Each is a folder that is renamed when it is whole, and the next run goes on from the last.
const growing = `
cd "$FOUNDRY_CHECKPOINTS"
last=$(ls | sort | tail -n 1)
n=0; if [ -n "$last" ]; then n=$(cat "$last/n"); fi
echo "begins at $n"
while [ "$n" -lt 3 ]; do
  STEP
  n=$((n+1)); mkdir .new; echo $n > .new/n; mv .new "gen-$n"
done
cp gen-3/n "$FOUNDRY_ARTIFACTS/result"
`

// grow is a workflow of one node that runs growing, with a step before each generation.
func grow(step, more string) string {
	script := strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(growing, "STEP", step)), "\n", "\n      ")
	return "name: grow\nnodes:\n  before: { set: { x: \"1\" } }\n  grow:\n    needs: [before]\n" + more + "    run: |\n      " + script + "\n"
}

// checkpoints are the names of the checkpoint events, in their order, behind their numbers.
func (b *testBundle) checkpoints(id uuid.UUID) (names []string) {
	b.t.Helper()
	for _, e := range b.history(id) {
		if e.Type != event.Checkpoint {
			continue
		}
		var data struct {
			Name   string
			Number int
		}
		if err := json.Unmarshal(e.Data, &data); err != nil {
			b.t.Fatal(err)
		}
		if names = append(names, data.Name); data.Number != len(names) {
			b.t.Errorf("checkpoint %s has the number %d, and is the event %d", data.Name, data.Number, len(names))
		}
	}
	return names
}

func (b *testBundle) awaitCheckpoint(id uuid.UUID, name string) {
	b.t.Helper()
	await(b.t, "the checkpoint "+name, func() bool { return slices.Contains(b.checkpoints(id), name) })
}

// grown asserts that the execution has completed, with what its last attempt printed first.
func (b *testBundle) grown(id uuid.UUID, begins string) {
	b.t.Helper()
	if x := b.end(id); x.Status != execution.Completed {
		b.t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	if log := b.log(id, "grow", event.Stdout); log != begins+"\n" {
		b.t.Errorf("the last attempt says %q, want %q", log, begins)
	}
	if _, contents := b.artifacts(id, artifact.Artifact); contents["result"] != "3\n" {
		b.t.Errorf("the result is %q", contents["result"])
	}
	names := b.checkpoints(id)
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) || names[len(names)-1] != "gen-3" {
		b.t.Errorf("checkpoints %q", names)
	}
	pgtest.CheckInvariants(b.t, b.pool)
}

func TestCheckpointOutlivesItsSandbox(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id := b.enqueue(b.push(grow(`if [ "$n" = 2 ] && [ "$FOUNDRY_ATTEMPT" = 1 ]; then while :; do sleep 0.05; done; fi`, "")), "")
	b.awaitCheckpoint(id, "gen-2")
	infos, err := b.fake.List(t.Context(), nil)
	if err != nil || len(infos) != 1 {
		t.Fatalf("%d sandboxes, %v", len(infos), err)
	}
	b.fake.Vanish(infos[0].ProviderID)
	b.grown(id, "begins at 2")
}

func TestCheckpointsOfARetry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id := b.enqueue(b.push(grow(`if [ "$n" -ge "$FOUNDRY_ATTEMPT" ]; then exit 1; fi`, "    retries: { max: 5, initial: 1ms }\n")), "")
	b.grown(id, "begins at 2")
	files, _ := b.artifacts(id, artifact.Checkpoint)
	if len(files) != artifact.Keep || files["gen-3/n"].Checkpoint != 3 || files["gen-2/n"].Checkpoint != 2 {
		t.Errorf("kept %+v", files)
	}
	if left := pgtest.Get[int](t, b.pool, "SELECT count(*)::int FROM artifacts WHERE state <> 'complete'"); left != 0 {
		t.Errorf("%d files are not complete", left)
	}
}

func TestCheckpointsOutliveTheirWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stop := b.startWorker(1)
	id := b.enqueue(b.push(grow(`while ! test -e "$FOUNDRY_WORKSPACE/go-$n"; do sleep 0.02; done`, "")), "")
	var dir string
	await(t, "the sandbox", func() bool {
		infos, err := b.fake.List(t.Context(), nil)
		if err == nil && len(infos) == 1 {
			dir = infos[0].Workspace
		}
		return dir != ""
	})
	open := func(n string) { putFile(t, dir+"/go-"+n) }
	open("0")
	b.awaitCheckpoint(id, "gen-1")
	stop()
	open("1") // nobody follows the command now
	stop = b.startWorker(1)
	b.awaitCheckpoint(id, "gen-2")
	stop()
	b.startWorker(1)
	open("2")
	b.grown(id, "begins at 0")
	if names := b.checkpoints(id); len(names) != 3 {
		t.Errorf("checkpoints %q", names)
	}
}

func TestCheckpointOfALostCommand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	// The first attempt kills its supervisor right after its first generation, before anybody can have looked.
	id := b.enqueue(b.push(grow(`if [ "$n" = 1 ] && [ "$FOUNDRY_ATTEMPT" = 1 ]; then kill -9 $PPID; sleep 60; fi`, "")), "")
	b.grown(id, "begins at 1")
}

func TestCheckpointsOfAnEarlierExecution(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	// Begun at 0, it fails after its first generation.
	w := b.push(grow(`if [ "$n" = 1 ] && [ -z "$last" ]; then exit 1; fi`, ""))
	first := b.enqueue(w, "")
	if x := b.end(first); x.Status != execution.Failed {
		t.Fatalf("status %s", x.Status)
	}
	texts := workflow.NewDefinitions(b.workflows)
	rerun := func(of uuid.UUID, from string) uuid.UUID {
		r, err := b.queue.Rerun(t.Context(), texts, queue.RerunRequest{
			OrganizationID: b.org, Of: of, From: from, Sandbox: queue.SandboxFresh, Source: execution.FromAPI,
		})
		if err != nil {
			t.Fatal(err)
		}
		return r.ID
	}
	// What it needs has run again: its checkpoint may be of something else.
	anew := rerun(first, "before")
	if x := b.end(anew); x.Status != execution.Failed || b.log(anew, "grow", event.Stdout) != "begins at 0\n" {
		t.Errorf("from the node before: status %s, %q", x.Status, b.log(anew, "grow", event.Stdout))
	}
	second := rerun(first, queue.FromFailed)
	if x := b.end(second); x.Status != execution.Completed || b.log(second, "grow", event.Stdout) != "begins at 1\n" {
		t.Errorf("from what failed: status %s, %q", x.Status, b.log(second, "grow", event.Stdout))
	}
	// A node that completed begins at the beginning when it is asked for again.
	third := rerun(second, "grow")
	if x := b.end(third); x.Status != execution.Failed || b.log(third, "grow", event.Stdout) != "begins at 0\n" {
		t.Errorf("of a completed one: status %s, %q", x.Status, b.log(third, "grow", event.Stdout))
	}
	pgtest.CheckInvariants(t, b.pool)
}

func TestCheckpointsThatCannotBeKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id := b.enqueue(b.push(`
name: unfit
nodes:
  make:
    run: |
      cd "$FOUNDRY_CHECKPOINTS"
      mkdir .a; ln -s /etc/passwd .a/link; mv .a a
      while ! test -e "$FOUNDRY_WORKSPACE/go"; do sleep 0.02; done
      echo whole > .b; mv .b b
      mkdir .c
      for i in 1 2 3 4 5; do truncate -s 30M ".c/$i"; done
      mv .c c
`), "")
	await(t, "the first warning", func() bool { return len(b.warnings(id)) == 1 })
	infos, err := b.fake.List(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	putFile(t, infos[0].Workspace+"/go")
	if x := b.end(id); x.Status != execution.Completed {
		t.Fatalf("status %s", x.Status)
	}
	warnings := b.warnings(id)
	if len(warnings) != 2 || !strings.Contains(warnings[0], "Links and other things") || !strings.Contains(warnings[1], "134217728") {
		t.Errorf("warnings %q", warnings)
	}
}
