package worker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/sandboxtest"
	"foundry/internal/workflow"
)

func TestCommandsOfALostSandboxRunInANewOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id := b.enqueue(b.push(gated), "")
	b.workspace(1)
	infos, err := b.fake.List(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.fake.Vanish(infos[0].ProviderID)
	workspace, _ := b.workspace(1) // of the next sandbox: the first is not listed any more
	openGate(t, workspace)
	x := b.end(id)
	attempt := b.nodes(id)["wait"].Attempt // 2; or 3 if the death of the supervisor was seen before that of the sandbox
	if x.Status != execution.Completed || attempt < 2 || attempt > 3 {
		t.Fatalf("status %s, failure %+v, nodes %+v", x.Status, x.Failure, b.nodes(id))
	}
	if log := b.log(id, "wait", event.Stdout); log != fmt.Sprintf("attempt %d\ndone\n", attempt) {
		t.Errorf("log of the last attempt: %q", log)
	}
}

func TestCancelDoesNotWaitForRoom(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.Inject(sandboxtest.Fault{Op: sandboxtest.OpCreate, Times: -1, Before: errs.E(sandbox.Quota, "No room.")})
	b.startWorker(1)
	id := b.enqueue(b.push("name: no room\nnodes:\n  a: { run: echo x }\n"), "")
	await(t, "the wait for room", func() bool { return b.has(id, event.SandboxWaiting) })
	if err := b.queue.Cancel(t.Context(), b.org, id, "test"); err != nil {
		t.Fatal(err)
	}
	if x := b.end(id); x.Status != execution.Canceled {
		t.Fatalf("status %s", x.Status)
	}
}

func TestLostCommandIsDeadBeforeItRunsAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id := b.enqueue(b.push(gated), "")
	_, pid := b.workspace(1)
	if err := syscall.Kill(parent(t, pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	workspace, _ := b.workspace(2)
	if runs(pid) {
		t.Error("the first command runs beside the second")
	}
	openGate(t, workspace)
	b.end(id)
}

func TestOneUnansweredCallIsNoFailure(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]sandboxtest.Fault{
		"a start that is not found": {Op: sandboxtest.OpRun, Shim: "start", Before: errs.E(errs.NotFound, "Once.")},
		"a file that is not put":    {Op: sandboxtest.OpPutFile, Before: errs.E(errs.Unavailable, "Down.")},
		"a handle that is refused":  {Op: sandboxtest.OpOpen, Before: errs.E(errs.Unavailable, "Down.")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.fake.Inject(fault)
			b.startWorker(1)
			x := b.end(b.enqueue(b.push("name: once\nnodes:\n  a: { run: echo x }\n"), ""))
			if x.Status != execution.Completed {
				t.Errorf("status %s, failure %+v", x.Status, x.Failure)
			}
		})
	}
}

// reload ends the worker's connections until the answer to a commit is lost and the execution has been
// loaded again.
func (b *testBundle) reload(id uuid.UUID) {
	b.t.Helper()
	own := connect(b.t, b.url)
	defer own.Close(b.t.Context())
	asked := 0
	await(b.t, "a reload", func() bool {
		if asked++; asked%15 == 0 {
			_, err := own.Exec(b.t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
				AND state <> 'idle'`)
			if err != nil {
				b.t.Fatal(err)
			}
		}
		var attached bool
		err := own.QueryRow(b.t.Context(), "SELECT EXISTS (SELECT 1 FROM execution_events WHERE execution_id = $1 AND type = 'node.attached')", id).Scan(&attached)
		if err != nil {
			b.t.Fatal(err)
		}
		return attached
	})
}

func TestReloadLeavesFilesAsCommandsMadeThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const text = `
name: files
files: { data.txt: ./data.txt }
nodes:
  a:
    run: |
      echo mine > data.txt
      echo $$ > pids
      while ! test -e go; do echo tick; done
      cat data.txt >&2
`
	w, err := b.workflows.Create(t.Context(), workflow.CreateParams{
		OrganizationID: b.org, Slug: "files", Name: "files", Source: text,
		Files: []workflow.Content{{Path: "data.txt", Bytes: []byte("original\n")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.startWorker(1)
	id := b.enqueue(w, "")
	workspace, _ := b.workspace(1)
	b.reload(id)
	if err := os.WriteFile(filepath.Join(workspace, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.end(id)
	if got := b.log(id, "a", event.Stderr); got != "mine\n" {
		t.Errorf("after a reload the command's file holds %q", got)
	}
}

func TestReleasedExecutionIsClaimedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	worker := uuid.Must(uuid.NewV7())
	if err := b.queue.Join(t.Context(), queue.Worker{ID: worker, Host: "test", PID: 1, Version: "test", Slots: 1, Lease: queue.DefaultLease}); err != nil {
		t.Fatal(err)
	}
	id := b.enqueue(b.push(sandboxless), "")
	claimed, err := b.queue.Claim(t.Context(), worker, 1)
	if err != nil || len(claimed) != 1 {
		t.Fatal(claimed, err)
	}
	if err := b.queue.Release(t.Context(), id, claimed[0].Claim, "no key"); err != nil {
		t.Fatal(err)
	}
	again, err := b.queue.Claim(t.Context(), worker, 1)
	if err != nil || len(again) != 1 || again[0].Claim != claimed[0].Claim+2 {
		t.Fatalf("claimed %+v, %v", again, err)
	}
}

func TestClaimWhoseAnswerWasLostIsTakenUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(2)
	b.end(b.enqueue(b.push(gatedOpen), "")) // the worker is there
	holding := b.enqueue(b.push(gated), "")
	workspace, _ := b.workspace(1)
	worker := pgtest.Get[uuid.UUID](t, b.pool, "SELECT id FROM workers")
	// What the database holds after such a claim.
	pgtest.Exec(t, b.pool, "UPDATE workers SET state = 'draining'")
	id := b.enqueue(b.push(sandboxless), "")
	pgtest.Exec(t, b.pool, `WITH d AS (DELETE FROM execution_queue WHERE execution_id = $1)
		UPDATE executions SET status = 'running', worker_id = $2, claim = claim + 1, claimed_at = now() WHERE id = $1`, id, worker)
	b.end(id)
	openGate(t, workspace)
	b.end(holding)
}

// gatedOpen ends at once.
const gatedOpen = "name: open\nnodes:\n  a:\n    set: { x: \"1\" }\n"

// runs reports whether a process is there and can do anything yet: one that has ended, or is about to, has no memory, and so no arguments.
func runs(pid int) bool {
	arguments, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return err == nil && len(arguments) > 0
}
