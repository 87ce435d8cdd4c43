package worker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/sandboxtest"
)

// has reports whether an execution's history has an event of the type.
func (b *testBundle) has(id uuid.UUID, want event.Type) bool {
	for _, got := range b.types(id) {
		if got == want {
			return true
		}
	}
	return false
}

func TestSandboxTroubleIsNoFailure(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]sandboxtest.Fault{
		"no room":                {{Op: sandboxtest.OpCreate, Times: 2, Before: errs.E(sandbox.Quota, "No room.")}},
		"no answer":              {{Op: sandboxtest.OpCreate, Times: 2, Before: errs.E(errs.Unavailable, "Down.")}},
		"a lost answer":          {{Op: sandboxtest.OpCreate, After: errs.E(errs.Unknown, "Lost.")}},
		"a creation made twice":  {{Op: sandboxtest.OpCreate, Twice: true}},
		"a start made twice":     {{Op: sandboxtest.OpRun, Shim: "start", Twice: true}},
		"a start's lost answer":  {{Op: sandboxtest.OpRun, Shim: "start", After: errs.E(errs.Unknown, "Lost.")}},
		"a start that never was": {{Op: sandboxtest.OpRun, Shim: "start", Times: 2, Before: errs.E(errs.Unavailable, "Down.")}},
		"lost tails": {
			{Op: sandboxtest.OpRun, Shim: "tail", Times: 3, After: errs.E(errs.Unknown, "Lost.")},
			{Op: sandboxtest.OpRun, Shim: "tail", Times: 2, Twice: true},
		},
		"a lost destroy": {{Op: sandboxtest.OpDestroy, After: errs.E(errs.Unknown, "Lost.")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			for _, f := range faults {
				b.fake.Inject(f)
			}
			w := b.push("name: trouble\nnodes:\n  only:\n    run: |\n      echo x >> ran\n      cat ran\n")
			id := b.enqueue(w, "")
			b.startWorker(1)
			x := b.end(id)
			if x.Status != execution.Completed {
				t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
			}
			if log := b.log(id, "only", event.Stdout); log != "x\n" {
				t.Errorf("the command ran more than once, or its log is wrong: %q", log)
			}
			if waited := b.has(id, event.SandboxWaiting); waited != (name == "no room" || name == "no answer" || name == "a lost answer") {
				t.Errorf("sandbox.waiting in the history: %v", waited)
			}
		})
	}
}

func TestSandboxThatNeverIsFailsWithItsStage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpCreate, Before: errs.E(errs.Invalid, "There is no image %q.", "nope")})
	w := b.push("name: never\nnodes:\n  a: { run: echo never }\n  b: { needs: [a], run: echo never }\n")
	id := b.enqueue(w, "")
	b.startWorker(1)
	x := b.end(id)
	if x.Status != execution.Failed || x.Failure.Code != "sandbox" || x.Failure.Node != "a" ||
		!strings.Contains(x.Failure.Message, `There is no image "nope".`) {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	if !b.has(id, event.SandboxFailed) {
		t.Error("the history has no sandbox.failed")
	}
}

// gated is a workflow whose command writes its pid and waits for a file.
const gated = `
name: gated
nodes:
  wait:
    run: |
      echo "attempt $FOUNDRY_ATTEMPT"
      echo $$ >> "$FOUNDRY_WORKSPACE/pids"
      while ! test -e "$FOUNDRY_WORKSPACE/go"; do sleep 0.02; done
      echo done
`

// workspace waits until a node's command runs, and returns its workspace and the pid of the newest command.
func (b *testBundle) workspace(commands int) (dir string, pid int) {
	b.t.Helper()
	await(b.t, "the command to run", func() bool {
		infos, err := b.fake.List(b.t.Context(), nil)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, info := range infos {
			raw, err := os.ReadFile(filepath.Join(info.Workspace, "pids"))
			pids := strings.Fields(string(raw))
			if err == nil && len(pids) >= commands {
				dir = info.Workspace
				pid, err = strconv.Atoi(pids[len(pids)-1])
				return err == nil
			}
		}
		return false
	})
	return dir, pid
}

func openGate(t *testing.T, workspace string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(workspace, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// parent returns the pid of a process's parent.
func parent(t *testing.T, pid int) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}

func TestLostSupervisorInterruptsAndRunsAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id := b.enqueue(b.push(gated), "")
	_, pid := b.workspace(1)
	if err := syscall.Kill(parent(t, pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	workspace, _ := b.workspace(2)
	openGate(t, workspace)
	x := b.end(id)
	runs, err := b.executions.NodeRuns(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if x.Status != execution.Completed || len(runs) != 2 || runs[0].Status != execution.NodeInterrupted || runs[1].Status != execution.NodeCompleted {
		t.Fatalf("status %s, node runs %+v", x.Status, runs)
	}
	if log := b.log(id, "wait", event.Stdout); log != "attempt 2\ndone\n" {
		t.Errorf("log of the second attempt: %q", log)
	}
}

func TestInterruptedTooOftenIsAFailureOfTheInfrastructure(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id := b.enqueue(b.push(gated), "")
	for attempt := range 5 {
		_, pid := b.workspace(attempt + 1)
		if err := syscall.Kill(parent(t, pid), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	x := b.end(id)
	if x.Status != execution.Failed || x.Failure.Code != "infrastructure" {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
}

// TestLostAnswersOfTheDatabase ends the worker's connections again and again while a command writes. Each
// time the engine must drop what it knows, load, and attach.
func TestLostAnswersOfTheDatabase(t *testing.T) {
	t.Parallel()
	const lines = 400
	b := setup(t)
	b.startWorker(1)
	w := b.push(fmt.Sprintf(`
name: writer
nodes:
  before: { set: { x: "1" } }
  write:
    needs: [before]
    run: |
      for i in $(seq %d); do echo "line $i"; echo "error $i" >&2; sleep 0.005; done
  after:
    needs: [write]
    run: echo after
`, lines))
	id := b.enqueue(w, "")
	// A worker whose first connections are cut does not start.
	await(t, "the first line", func() bool { return b.logIfAny(id, "write") != "" })
	asked, kills := 0, 0
	await(t, "the end of the writer", func() bool {
		if asked++; asked%25 != 0 || kills > 60 {
			x, err := b.executions.Get(t.Context(), b.org, id)
			return err == nil && x.Status.Terminal()
		}
		// Every backend but this one: the answer to whatever they are doing is lost.
		var n int
		err := b.pool.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
			AND query NOT LIKE '%LISTEN%'`).Scan(&n)
		if err != nil {
			return false // this one was hit by an older call
		}
		kills += n
		return false
	})
	x := b.end(id)
	if x.Status != execution.Completed {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	var out, errOut strings.Builder
	for i := 1; i <= lines; i++ {
		fmt.Fprintf(&out, "line %d\n", i)
		fmt.Fprintf(&errOut, "error %d\n", i)
	}
	if got := b.log(id, "write", event.Stdout); got != out.String() {
		t.Errorf("stdout has %d bytes, want %d", len(got), out.Len())
	}
	if got := b.log(id, "write", event.Stderr); got != errOut.String() {
		t.Errorf("stderr has %d bytes, want %d", len(got), errOut.Len())
	}
	runs, err := b.executions.NodeRuns(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if len(runs) != 3 {
		t.Errorf("a node ran more than once: %+v", runs)
	}
	t.Logf("%d connections ended, attached %d times", kills, strings.Count(fmt.Sprint(b.types(id)), string(event.NodeAttached)))
}

func TestStoppedWorkerLeavesCommandsAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stop := b.startWorker(1)
	id := b.enqueue(b.push(gated), "")
	workspace, pid := b.workspace(1)
	stop()
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the command did not outlive its worker: %v", err)
	}
	openGate(t, workspace)
	x, err := b.executions.Get(t.Context(), b.org, id)
	if err != nil {
		t.Fatal(err)
	}
	if x.Status != execution.Running {
		t.Fatalf("status %s", x.Status)
	}
}
