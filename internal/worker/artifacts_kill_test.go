package worker_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/artifact"
	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/pgtest"
)

// leavesBoth leaves files of no, one and several chunks, and a checkpoint.
const leavesBoth = `
name: both
nodes:
  leave:
    run: |
      cd "$FOUNDRY_CHECKPOINTS"; mkdir .new; head -c 2500000 /dev/zero > .new/state; mv .new gen-1
      cd "$FOUNDRY_ARTIFACTS"; : > empty; printf small > small; head -c 2500000 /dev/zero > large
`

// once is a hook that answers at the nth hit of a point, once.
func once(point string, nth int, answer func(ctx context.Context) failpoint.Answer) failpoint.Hook {
	var mu sync.Mutex
	hits := 0
	return func(ctx context.Context, name string) failpoint.Answer {
		if name != point {
			return failpoint.Answer{}
		}
		mu.Lock()
		hits++
		now := hits == nth
		mu.Unlock()
		if !now {
			return failpoint.Answer{}
		}
		return answer(ctx)
	}
}

// wholeLeft asserts that what leavesBoth leaves is there once, and whole.
func (b *testBundle) wholeLeft(id uuid.UUID) {
	b.t.Helper()
	if x := b.end(id); x.Status != execution.Completed {
		b.t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	zeros := strings.Repeat("\x00", 2_500_000)
	files, contents := b.artifacts(id, artifact.Artifact)
	if len(files) != 3 || contents["empty"] != "" || contents["small"] != "small" || contents["large"] != zeros {
		b.t.Errorf("artifacts %+v", files)
	}
	if files, contents := b.artifacts(id, artifact.Checkpoint); len(files) != 1 || contents["gen-1/state"] != zeros {
		b.t.Errorf("checkpoints %+v", files)
	}
	if names := b.checkpoints(id); len(names) != 1 {
		b.t.Errorf("checkpoint events %q", names)
	}
	if w := b.warnings(id); len(w) != 0 {
		b.t.Errorf("warnings %q", w)
	}
	if left := pgtest.Get[int](b.t, b.pool, "SELECT count(*)::int FROM artifacts WHERE state <> 'complete'"); left != 0 {
		b.t.Errorf("%d files are not complete", left)
	}
	if runs := b.nodes(id); runs["leave"].Attempt != 1 {
		b.t.Errorf("the command ran %d times", runs["leave"].Attempt)
	}
	pgtest.CheckInvariants(b.t, b.pool)
}

// collecting are the points around every step of a collection, by how often each is passed.
var collecting = map[string]int{ //nolint:gochecknoglobals // a table of two tests
	"shim.list": 2, "sandbox.read_file": 7, "artifact.commit": 6, "artifact.chunk": 6, "artifact.store": 2,
}

// TestArtifactsSurviveTheirWorker has the worker go away at every point of a collection; the next one finishes it.
func TestArtifactsSurviveTheirWorker(t *testing.T) {
	t.Parallel()
	for operation, times := range collecting {
		for _, nth := range []int{1, times} {
			for _, end := range []string{failpoint.Before, failpoint.After} {
				t.Run(operation+end+" "+string(rune('0'+nth)), func(t *testing.T) {
					t.Parallel()
					b := setup(t)
					reached := make(chan struct{})
					b.hook = once(operation+end, nth, func(ctx context.Context) failpoint.Answer {
						close(reached)
						<-ctx.Done() // nothing more is heard of this worker
						return failpoint.Answer{Err: context.Cause(ctx)}
					})
					stop := b.startWorker(1)
					id := b.enqueue(b.push(leavesBoth), "")
					<-reached
					stop()
					b.hook = nil
					b.startWorker(1)
					b.wholeLeft(id)
				})
			}
		}
	}
}

// TestArtifactsSurviveLostAnswers has every step of a collection fail once, with its effect and without.
func TestArtifactsSurviveLostAnswers(t *testing.T) {
	t.Parallel()
	for operation, times := range collecting {
		for _, c := range []struct {
			end    string
			answer failpoint.Answer
		}{
			{failpoint.Before, failpoint.Answer{Err: errs.E(errs.Unavailable, "No answer.")}},
			{failpoint.Before, failpoint.Answer{Twice: true}},
			{failpoint.After, failpoint.Answer{Err: errs.E(errs.Unknown, "Lost.")}},
		} {
			name := operation + c.end
			if c.answer.Twice {
				name += " twice"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				b.hook = once(operation+c.end, (times+1)/2, func(context.Context) failpoint.Answer { return c.answer })
				b.startWorker(1)
				b.wholeLeft(b.enqueue(b.push(leavesBoth), ""))
			})
		}
	}
}

// TestFilesThatChangeAreLeftOut has a process that the shim cannot know of write to a file whenever it is read.
func TestFilesThatChangeAreLeftOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var mu sync.Mutex
	reads := 0
	b.hook = func(ctx context.Context, name string) failpoint.Answer {
		if name != "sandbox.read_file"+failpoint.Before {
			return failpoint.Answer{}
		}
		mu.Lock()
		defer mu.Unlock()
		reads++
		infos, err := b.fake.List(ctx, nil)
		if err != nil || len(infos) != 1 {
			t.Errorf("%d sandboxes, %v", len(infos), err)
			return failpoint.Answer{}
		}
		if err := os.WriteFile(infos[0].Workspace+"/target", []byte("changed "+string(rune('0'+reads))), 0); err != nil {
			t.Error(err)
		}
		return failpoint.Answer{}
	}
	b.startWorker(1)
	id := b.enqueue(b.push(`
name: changing
nodes:
  leave:
    run: |
      echo steady > "$FOUNDRY_ARTIFACTS/steady"
      echo changing > "$FOUNDRY_WORKSPACE/target"
      ln "$FOUNDRY_WORKSPACE/target" "$FOUNDRY_ARTIFACTS/changing"
`), "")
	if x := b.end(id); x.Status != execution.Completed {
		t.Fatalf("status %s", x.Status)
	}
	_, contents := b.artifacts(id, artifact.Artifact)
	if len(contents) != 1 || contents["steady"] != "steady\n" {
		t.Errorf("artifacts %q", contents)
	}
	if w := b.warnings(id); len(w) != 1 || !strings.Contains(w[0], "Somebody changed it") {
		t.Errorf("warnings %q", w)
	}
	if reads != 4 { // the steady one once, the other one three times
		t.Errorf("%d reads", reads)
	}
	pgtest.CheckInvariants(t, b.pool)
}

// TestCanceledCommandsLeaveArtifacts collects what a command has left before it was canceled.
func TestCanceledCommandsLeaveArtifacts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(1)
	id := b.enqueue(b.push(`
name: canceled
nodes:
  leave:
    run: |
      echo half > "$FOUNDRY_ARTIFACTS/half"
      echo ready
      sleep 600
`), "")
	await(t, "the command", func() bool { return b.logged(id) })
	if err := b.queue.Cancel(t.Context(), b.org, id, "Ann"); err != nil {
		t.Fatal(err)
	}
	if x := b.end(id); x.Status != execution.Canceled {
		t.Fatalf("status %s", x.Status)
	}
	if _, contents := b.artifacts(id, artifact.Artifact); contents["half"] != "half\n" {
		t.Errorf("artifacts %q", contents)
	}
}

// TestCollectionOfACanceledCommandIsBounded has a sandbox that answers no more when its files are asked for.
func TestCollectionOfACanceledCommandIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hook = func(ctx context.Context, name string) failpoint.Answer {
		if name == "shim.list"+failpoint.Before {
			<-ctx.Done()
			return failpoint.Answer{Err: context.Cause(ctx)}
		}
		return failpoint.Answer{}
	}
	b.startWorker(1)
	id := b.enqueue(b.push("name: stuck\nnodes:\n  leave:\n    run: echo x > \"$FOUNDRY_ARTIFACTS/x\"; echo ready; sleep 600\n"), "")
	await(t, "the command", func() bool { return b.logged(id) })
	if err := b.queue.Cancel(t.Context(), b.org, id, "Ann"); err != nil {
		t.Fatal(err)
	}
	if x := b.end(id); x.Status != execution.Canceled {
		t.Fatalf("status %s", x.Status)
	}
	if w := b.warnings(id); len(w) != 1 || !strings.Contains(w[0], "artifacts_incomplete") {
		t.Errorf("warnings %q", w)
	}
}

// logged reports whether an execution has output.
func (b *testBundle) logged(id uuid.UUID) bool {
	for _, e := range b.history(id) {
		if e.Type == event.Log {
			return true
		}
	}
	return false
}
