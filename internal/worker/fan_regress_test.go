package worker_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/pgtest"
	"foundry/internal/secret"
)

// TestWhatACombinationHoldsIsMaskedLater has the execution loaded again after a value of its matrix has become a secret: by a command that
// announces it, or by a rotation. What has run does not run again.
func TestWhatACombinationHoldsIsMaskedLater(t *testing.T) {
	t.Parallel()
	for name, rotate := range map[string]bool{"announced": false, "rotated": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, keys := setup(t), keyring(t, secret.NewKey("a"))
			mask := "echo \"::add-mask::$WHO\""
			if rotate {
				mask = "true"
			}
			w := b.push(`
name: masks
nodes:
  each: { matrix: { who: [customer-one, customer-two] }, env: { WHO: "${{ matrix.who }}" }, run: '` + mask + `' }
  ask: { needs: [each], approval: "x" }
`)
			b.setSecret(keys, w, "ONE", "value-of-one")
			b.startLoops()
			b.startWorkerWith(4, keys)
			id := b.enqueue(w, "")
			b.parked(id)
			if rotate {
				b.setSecret(keys, w, "ONE", "customer-two")
				if err := b.queue.SignalSecrets(t.Context(), w.ID); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.decide(t.Context(), id, true); err != nil {
				t.Fatal(err)
			}
			if x := b.end(id); x.Status != execution.Completed {
				t.Errorf("%s: %+v", x.Status, x.Failure)
			}
			if want := "ask[0]#1 completed\neach[0]#1 completed\neach[1]#1 completed\n"; b.lines(id) != want {
				t.Errorf("it ran again:\n%s", b.lines(id))
			}
		})
	}
}

// TestMaskedCombinationIsAttached replaces the worker while a command runs that has announced the value of its matrix.
func TestMaskedCombinationIsAttached(t *testing.T) {
	t.Parallel()
	b, keys := setup(t), keyring(t, secret.NewKey("a"))
	_, stop := b.startWorkerWith(1, keys)
	id := b.enqueue(b.push(`
name: once
nodes:
  each: { matrix: { who: [customer-one] }, env: { WHO: "${{ matrix.who }}" }, run: 'echo "::add-mask::$WHO"; touch held; while [ ! -e go ]; do sleep 0.05; done' }
`), "")
	b.left(id, "held")
	await(t, "the mask", func() bool {
		return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM execution_masks WHERE execution_id = $1", id) == 1
	})
	stop()
	b.startWorkerWith(1, keys)
	await(t, "the second worker", func() bool { return b.has(id, event.NodeAttached) || b.count(id, event.NodeStarted) > 1 })
	b.leave(id, "go", "")
	b.end(id)
	if want := "each[0]#1 completed\n"; b.lines(id) != want {
		t.Errorf("it was started again:\n%s", b.lines(id))
	}
}

// TestNodeRunLimit asks for 12,000 node runs.
func TestNodeRunLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	text := "name: many\ninputs: { list: { type: array } }\nnodes:\n"
	for _, key := range "abcdefghijkl" {
		text += "  " + string(key) + ": { matrix: { n: '${{ inputs.list }}' }, set: { x: 1 } }\n"
	}
	id := b.enqueue(b.push(text), `{"list":[`+strings.TrimSuffix(strings.Repeat("1,", 1000), ",")+`]}`)
	x := b.end(id)
	n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM node_runs WHERE execution_id = $1", id)
	if x.Status != execution.Failed || x.Failure.Code != "fan_out" || n < 9000 || n > 10_000 {
		t.Errorf("%s, %+v, with %d node runs", x.Status, x.Failure, n)
	}
}

// TestLargeCombinations are refused before anything is stored: each would be, with its node run.
func TestLargeCombinations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startWorker(4)
	list := strings.TrimSuffix(strings.Repeat("1,", 1000), ",")
	x := b.end(b.enqueue(b.push("name: big\nnodes: { each: { matrix: { n: ["+list+"], big: ["+strings.Repeat("y", 60_000)+"] }, set: { x: 1 } } }"), ""))
	if x.Status != execution.Failed || !strings.Contains(x.Failure.Message, "1048576") {
		t.Errorf("%s, %+v", x.Status, x.Failure)
	}
}

// TestOutputsBeyondTheLimit are seen by nobody, whether the execution is loaded again or not.
func TestOutputsBeyondTheLimit(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]string{"at once": "set: { x: 1 }", "after a park": "approval: x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.startLoops()
			b.startWorker(4)
			id := b.enqueue(b.push(fmt.Sprintf(`
name: large
nodes:
  each: { matrix: { n: [0, 1, 2, 3, 4, 5] }, max-parallel: 1, continue-on-error: true, run: 'echo "x=$(head -c 200000 /dev/zero | tr "\0" y)" >> "$FOUNDRY_OUTPUT"' }
  ask: { needs: [each], %s }
  join: { needs: [ask, each], if: always(), set: { fifth: "${{ nodes.each.outputs.x[4] != null }}", last: "${{ nodes.each.outputs.x[5] != null }}" } }
outputs: { seen: "${{ nodes.join.outputs.fifth }} ${{ nodes.join.outputs.last }}" }
`, ask)), "")
			if ask == "approval: x" {
				b.parked(id)
				if err := b.decide(t.Context(), id, true); err != nil {
					t.Fatal(err)
				}
			}
			if x := b.end(id); string(x.Outputs) != `{"seen": "true false"}` {
				t.Errorf("%s: %s", x.Status, x.Outputs)
			}
		})
	}
}

// TestCanceledParentQueuesNoChild loses the answer to the commit that asked for a child which was refused. Until the execution is loaded
// again it is canceled, and the group has room.
func TestCanceledParentQueuesNoChild(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLoops()
	shut := b.push("name: shut\nconcurrency: { group: shut, on-conflict: reject }\nnodes: { hold: { approval: x } }")
	holder := b.enqueue(shut, "")
	pgtest.Exec(t, b.pool, "DELETE FROM execution_queue WHERE execution_id = $1", holder) // nobody claims it, so that a cancel ends it at once
	high := b.enqueue(b.push("name: high\nnodes: { call: { workflow: shut } }"), "")
	var once atomic.Bool
	waits := func() bool {
		return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM node_runs WHERE execution_id = $1 AND status = 'waiting'", high) > 0
	}
	b.hook = func(_ context.Context, at string) failpoint.Answer {
		if at != "journal.commit.after" || once.Load() || !waits() { // after that, the test may end before the hook of the last commit asks
			return failpoint.Answer{}
		}
		once.Store(true) // a journal makes one commit at a time
		for _, id := range []uuid.UUID{high, holder} {
			if err := b.queue.Cancel(context.Background(), b.org, id, "test"); err != nil {
				t.Error(err)
			}
		}
		return failpoint.Answer{Err: errs.E(errs.Unknown, "Cut off.")}
	}
	b.startWorker(2)
	if x := b.end(high); x.Status != execution.Canceled {
		t.Errorf("%s: %+v", x.Status, x.Failure)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE parent_execution_id = $1", high); n > 0 || !once.Load() {
		t.Errorf("%d children: %s", n, b.lines(high))
	}
}

// breaker has the nth call of a query fail.
type breaker struct {
	query string
	nth   atomic.Int32
	seen  atomic.Int32
}

func (i *breaker) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(d.SQL, "-- name: "+i.query+" ") && i.seen.Add(1) == i.nth.Load() {
		dead, cancel := context.WithDeadline(ctx, time.Unix(0, 0))
		cancel()
		return dead
	}
	return ctx
}

func (i *breaker) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestQuestionThatFailsAfterARefusal has a look-up fail while what follows a refused child is decided.
func TestQuestionThatFailsAfterARefusal(t *testing.T) {
	t.Parallel()
	cut := &breaker{query: "WorkflowGet"}
	b := open(t, pgtest.Database(t), cut)
	b.startLoops()
	b.push("name: fine\nnodes: { a: { set: { x: 1 } } }")
	b.enqueue(b.push("name: shut\nconcurrency: { group: shut, on-conflict: reject }\nnodes: { hold: { approval: x } }"), "")
	w := b.push("name: high\nnodes: { one: { workflow: shut, continue-on-error: true }, two: { needs: [one], if: always(), workflow: fine } }")
	cut.nth.Store(cut.seen.Load() + 2)
	b.startWorker(4)
	if x := b.end(b.enqueue(w, "")); x.Status != execution.Completed || cut.seen.Load() < cut.nth.Load() {
		t.Errorf("%s: %+v", x.Status, x.Failure)
	}
}
