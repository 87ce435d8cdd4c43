package queue_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/queue"
)

func TestRerunTakesTheSandbox(t *testing.T) {
	t.Parallel()
	b := setupRerun(t)
	defer b.check()
	of := b.past(execution.Failed, "fetch=failed")
	sandbox := b.sandbox(of, "kept")
	fresh := b.rerun(b.ask(of, in(queue.SandboxFresh)))
	if fresh.Plan.Sandbox != nil || fresh.Plan.WhyFresh == "" || b.owner(sandbox) != of.String()+" kept" {
		t.Errorf("a fresh one was asked for, and got %+v", fresh.Plan)
	}
	x := b.rerun(b.ask(of))
	if got := b.owner(sandbox); x.Plan.Sandbox == nil || *x.Plan.Sandbox != sandbox || got != x.ID.String()+" ready" {
		t.Errorf("the sandbox is of %s, want %s; plan %+v", got, x.ID, x.Plan)
	}
	if heir := pgtest.Get[uuid.UUID](t, b.pool, "SELECT sandbox_from FROM executions WHERE id = $1", x.ID); heir != of {
		t.Errorf("the sandbox is from %s", heir)
	}
	_, err := b.queue.Rerun(t.Context(), b.texts, b.ask(of, in(queue.SandboxReuse)))
	wantCode(t, err, queue.SandboxNotAvailable)
	if third := b.rerun(b.ask(of)); third.Plan.Sandbox != nil || third.Plan.WhyFresh != "Execution 3 has gone on in the sandbox." {
		t.Errorf("plan %+v", third.Plan)
	}
}

// owner is whose a sandbox is, and its state.
func (b *rerunBundle) owner(sandbox uuid.UUID) string {
	b.t.Helper()
	return pgtest.Get[string](b.t, b.pool, "SELECT execution_id || ' ' || state FROM sandboxes WHERE id = $1", sandbox)
}

// TestRerunThatNeverBeginsGivesTheSandboxBack ends reruns in the queue: the sandbox is kept as before, and a rerun of them has it.
func TestRerunThatNeverBeginsGivesTheSandboxBack(t *testing.T) {
	t.Parallel()
	b := setupRerun(t)
	defer b.check()
	of := b.past(execution.Failed, "fetch=completed")
	sandbox := b.sandbox(of, "kept")
	until := pgtest.Get[time.Time](t, b.pool, "SELECT keep_until FROM sandboxes WHERE id = $1", sandbox)
	for name, end := range map[string]func(uuid.UUID) error{
		"canceled": func(id uuid.UUID) error { return b.queue.Cancel(t.Context(), b.org, id, "me") },
		"timed out": func(id uuid.UUID) error {
			pgtest.Exec(t, b.pool, "UPDATE executions SET queue_deadline_at = now() - interval '1 s' WHERE id = $1", id)
			_, err := b.queue.PassDeadlines(t.Context())
			return err
		},
	} {
		x := b.rerun(b.ask(of, in(queue.SandboxReuse)))
		if err := end(x.ID); err != nil {
			t.Fatal(err)
		}
		if got := b.owner(sandbox); got != x.ID.String()+" kept" {
			t.Errorf("%s: the sandbox is of %s", name, got)
		}
		if got := pgtest.Get[time.Time](t, b.pool, "SELECT keep_until FROM sandboxes WHERE id = $1", sandbox); !got.Equal(until) {
			t.Errorf("%s: kept until %s, before %s", name, got, until)
		}
		of = x.ID
	}
	if x := b.rerun(b.ask(of, in(queue.SandboxReuse))); strings.Join(x.Plan.ReusedKeys(), " ") != "fetch" {
		t.Errorf("reused %q", x.Plan.ReusedKeys())
	}
}

// TestWhoseFilesASandboxHas has reruns of two versions end before they begin: what goes on in the sandbox has its own files, and keeps
// what the commands before have made of them.
func TestWhoseFilesASandboxHas(t *testing.T) {
	t.Parallel()
	b := setupRerun(t)
	defer b.check()
	wantOld := func(want bool, what string, id uuid.UUID) {
		t.Helper()
		if old, err := dbsqlc.New(b.pool).RerunFilesOld(t.Context(), id); err != nil || old != want {
			t.Errorf("%s: the files are of another version: %t, %v", what, old, err)
		}
	}
	cancel := func(id uuid.UUID) uuid.UUID {
		t.Helper()
		if err := b.queue.Cancel(t.Context(), b.org, id, "me"); err != nil {
			t.Fatal(err)
		}
		return id
	}
	again := func(of uuid.UUID, change ...func(*queue.RerunRequest)) uuid.UUID {
		t.Helper()
		return b.rerun(b.ask(of, append(change, in(queue.SandboxReuse))...)).ID
	}
	of := b.past(execution.Failed, "fetch=failed")
	sandbox := b.sandbox(of, "kept")
	second := again(of)
	wantOld(false, "version 2 after version 2", second)
	b.version(rerunText)
	third := again(cancel(second), latest)
	wantOld(true, "version 3 after version 2", third)
	third = again(cancel(third))
	wantOld(true, "version 3 after one that has not begun", third)

	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET files_version = 3 WHERE id = $1", sandbox) // as its engine does once it has put them there
	wantOld(false, "version 3 that has its files", third)
	third = again(cancel(third))
	wantOld(false, "version 3 after version 3", third)

	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET files_version = NULL WHERE id = $1", sandbox)
	wantOld(true, "nobody knows which", third)
	pgtest.Exec(t, b.pool, "INSERT INTO node_runs (id, execution_id, node_key, attempt, status, sandbox_id) VALUES (gen_random_uuid(), $1, 'fetch', 9, 'running', $2)", third, sandbox)
	wantOld(false, "a command has begun", third)
}

// TestRerunsThatWantOneSandbox lets eight reruns want it at once.
func TestRerunsThatWantOneSandbox(t *testing.T) {
	t.Parallel()
	for name, choice := range map[string]queue.SandboxChoice{"insisting": queue.SandboxReuse, "leaving the choice": queue.SandboxAny} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupRerun(t)
			defer b.check()
			of := b.past(execution.Failed, "fetch=failed")
			b.sandbox(of, "kept")
			const callers = 8
			// All have made their plan when the first can commit.
			release := b.lock("SELECT id FROM workflows WHERE id = $1 FOR UPDATE", b.workflow)
			var mu sync.Mutex
			var reused, fresh, refused int
			var group sync.WaitGroup
			for range callers {
				group.Go(func() {
					x, err := b.queue.Rerun(t.Context(), b.texts, b.ask(of, in(choice)))
					mu.Lock()
					defer mu.Unlock()
					switch {
					case errs.Is(err, queue.SandboxNotAvailable):
						refused++
					case err != nil:
						t.Error(err)
					case x.Plan.Sandbox != nil:
						reused++
					default:
						fresh++
					}
				})
			}
			b.blocked(callers)
			release()
			group.Wait()
			if choice == queue.SandboxReuse && (reused != 1 || refused != callers-1) || choice == queue.SandboxAny && (reused != 1 || fresh != callers-1) {
				t.Errorf("%d reused it, %d got a fresh one, %d were refused", reused, fresh, refused)
			}
			if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE rerun_of = $1", of); n != reused+fresh {
				t.Errorf("%d reruns are queued", n)
			}
		})
	}
}

// TestRerunLosesTheSandboxToItsEnd has the sandbox expire between the plan and the transaction.
func TestRerunLosesTheSandboxToItsEnd(t *testing.T) {
	t.Parallel()
	for choice, want := range map[queue.SandboxChoice]errs.Code{queue.SandboxReuse: queue.SandboxNotAvailable, queue.SandboxAny: ""} {
		b := setupRerun(t)
		of := b.past(execution.Failed, "fetch=completed")
		sandbox := b.sandbox(of, "kept")
		release := b.lock("SELECT id FROM workflows WHERE id = $1 FOR UPDATE", b.workflow)
		done := make(chan error, 1)
		go func() {
			x, err := b.queue.Rerun(t.Context(), b.texts, b.ask(of, in(choice)))
			if err == nil && x.Plan.WhyFresh != "The sandbox was not kept, or has been destroyed." {
				err = errors.New("it is fresh since: " + x.Plan.WhyFresh)
			}
			done <- err
		}()
		b.blocked(1)
		pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'destroying' WHERE id = $1", sandbox)
		release()
		if err := <-done; errs.CodeOf(err) != want {
			t.Errorf("%q: %v, want the code %q", choice, err, want)
		}
		if got := b.owner(sandbox); got != of.String()+" destroying" {
			t.Errorf("%q: the sandbox is of %s", choice, got)
		}
		b.check()
	}
}

// blocked waits until so many connections wait for a lock.
func (b *rerunBundle) blocked(want int) {
	b.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for giveUp := time.After(time.Minute); ; {
		if n := pgtest.Get[int](b.t, b.pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"); n == want {
			return
		}
		select {
		case <-ticker.C:
		case <-giveUp:
			b.t.Fatalf("%d connections do not come to wait", want)
		}
	}
}
