package worker_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/pgtest"
	"foundry/internal/secret"
)

const askThenWrite = `
name: ask
nodes:
  before: { set: { a: one } }
  ask: { needs: [before], approval: "Go on?" }
  write:
    needs: [ask]
    run: |
      for i in $(seq 20); do echo "line $i"; sleep 0.05; done
`

// TestClaimedAgainBeforeTheEngineHasEnded has a worker claim what it has just parked, while the engine that parked it waits for the
// answer. There is one engine at a time, whatever the answer says.
func TestClaimedAgainBeforeTheEngineHasEnded(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{"late": nil, "lost": errs.E(errs.Unknown, "The answer is lost.")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var parked atomic.Bool
			b.hook = func(ctx context.Context, at string) failpoint.Answer {
				if at != "journal.commit.after" || parked.Load() { // and when it has, the test may end before the hook of a late commit
					return failpoint.Answer{}
				}
				asks := pgtest.Get[*uuid.UUID](t, b.pool, "SELECT (SELECT id FROM executions WHERE status = 'waiting' AND worker_id IS NULL)")
				if asks == nil || parked.Swap(true) {
					return failpoint.Answer{}
				}
				if err := b.decide(t.Context(), *asks, true); err != nil {
					t.Error(err)
				}
				for tick := time.Tick(time.Millisecond); ctx.Err() == nil; <-tick {
					if pgtest.Get[int64](t, b.pool, "SELECT claim FROM executions WHERE id = $1", *asks) >= 3 {
						break
					}
				}
				return failpoint.Answer{Err: answer}
			}
			b.startWorker(4)
			b.enqueue(b.push(gated), "") // is held too, so that the worker reads what it holds
			dir, _ := b.workspace(1)
			await(t, "its output", func() bool { return b.nodes(b.only())["wait"].StdoutBytes > 0 })
			x := b.enqueue(b.push(askThenWrite), "")
			if e := b.end(x); e.Status != execution.Completed || b.count(x, event.NodeAttached) > 0 || !parked.Load() {
				t.Errorf("status %s, %v", e.Status, b.types(x))
			}
			var want strings.Builder
			for i := range 20 {
				fmt.Fprintf(&want, "line %d\n", i+1)
			}
			if got := b.log(x, "write", event.Stdout); got != want.String() {
				t.Errorf("the output is %q", got)
			}
			openGate(t, dir)
		})
	}
}

// only is the id of the only execution there is.
func (b *testBundle) only() uuid.UUID {
	b.t.Helper()
	return pgtest.Get[uuid.UUID](b.t, b.pool, "SELECT id FROM executions")
}

// TestFailedReleaseIsRepeated has the release of an execution that a worker cannot drive fail, when it has nothing else to do.
func TestFailedReleaseIsRepeated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := secret.NewKey("a")
	w := b.push("name: locked\nnodes:\n  only:\n    run: 'test -n \"$ONE\"'\n")
	b.setSecret(keyring(t, key), w, "ONE", "value-of-one")
	var failed atomic.Bool
	b.hook = func(_ context.Context, at string) failpoint.Answer {
		if at == "queue.commit.before" && !failed.Swap(true) {
			return failpoint.Answer{Err: errs.E(errs.Unavailable, "The test says no.")}
		}
		return failpoint.Answer{}
	}
	id := b.enqueue(w, "")
	b.startWorkerWith(2, keyring(t, secret.NewKey("b")))
	await(t, "the release to fail", failed.Load)
	b.hook = nil
	b.startWorkerWith(2, keyring(t, key))
	if x := b.end(id); x.Status != execution.Completed {
		t.Errorf("status %s, %+v", x.Status, x.Failure)
	}
}
