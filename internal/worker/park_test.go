package worker_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
)

// startLoops does what the control plane's loops do, more often.
func (b *testBundle) startLoops() {
	b.background("loops", func(ctx context.Context) error {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			if _, err := b.queue.UnparkDue(ctx); err != nil {
				return err
			}
			if _, err := b.queue.PassDeadlines(ctx); err != nil {
				return err
			}
			if _, err := b.queue.Reap(ctx); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
	})
}

// parked waits until an execution holds no worker.
func (b *testBundle) parked(id uuid.UUID) {
	b.t.Helper()
	await(b.t, "the park of "+id.String(), func() bool {
		x, err := b.executions.Get(b.t.Context(), b.org, id)
		if err != nil {
			b.t.Fatal(err)
		}
		return x.Status == execution.Waiting && x.WorkerID == nil
	})
}

// decide answers the approval of the node ask.
func (b *testBundle) decide(ctx context.Context, id uuid.UUID, approved bool) error {
	return b.decideOn(ctx, id, "ask", 0, approved)
}

func (b *testBundle) decideOn(ctx context.Context, id uuid.UUID, node string, index int, approved bool) error {
	return b.queue.Decide(ctx, queue.Decision{
		ExecutionID: id, Node: node, Index: index, Approved: approved, Comment: "seen",
		By:     audit.Actor{Kind: audit.User, Name: "ada", OrganizationID: b.org},
		Permit: func([]string) error { return nil },
	})
}

const approvalText = `
name: ask
inputs: { what: { type: string, default: it } }
nodes:
  before: { set: { a: one } }
  ask:
    needs: [before]
    approval: { message: "Publish ${{ inputs.what }}?", roles: [admin] }
    timeout: 1h
  after: { needs: [ask], set: { said: "${{ nodes.ask.outputs.by }}: ${{ nodes.ask.outputs.comment }}" } }
  always: { needs: [after], if: "${{ always() }}", set: { ran: "yes" } }
outputs: { said: "${{ nodes.after.outputs.said }}" }
`

func TestApproval(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		act    func(b *testBundle, id uuid.UUID) error
		status execution.Status
		ask    execution.NodeStatus
		code   string
	}{
		"approved": {func(b *testBundle, id uuid.UUID) error { return b.decide(t.Context(), id, true) }, execution.Completed, execution.NodeCompleted, ""},
		"rejected": {func(b *testBundle, id uuid.UUID) error { return b.decide(t.Context(), id, false) }, execution.Failed, execution.NodeFailed, "rejected"},
		"canceled": {func(b *testBundle, id uuid.UUID) error { return b.queue.Cancel(t.Context(), b.org, id, "test") }, execution.Canceled, execution.NodeCanceled, ""},
		"too late": {func(b *testBundle, id uuid.UUID) error {
			pgtest.Exec(t, b.pool, "UPDATE node_runs SET due_at = now() WHERE execution_id = $1 AND node_key = 'ask'", id)
			pgtest.Exec(t, b.pool, "UPDATE execution_timers SET due_at = now() WHERE execution_id = $1", id)
			return nil
		}, execution.Failed, execution.NodeTimedOut, "timed_out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			w := b.push(approvalText)
			b.startLoops()
			stop := b.startWorker(4)
			id := b.enqueue(w, `{"what": "that"}`)
			b.parked(id)
			pgtest.CheckInvariants(t, b.pool)
			ask := b.nodes(id)["ask"]
			if ask.Status != execution.NodeWaiting || string(ask.Prompt) != `{"roles": ["admin"], "message": "Publish that?"}` || ask.DueAt == nil {
				t.Errorf("it asks %s until %v and is %s", ask.Prompt, ask.DueAt, ask.Status)
			}
			stop() // nobody is needed while it waits
			if err := c.act(b, id); err != nil {
				t.Fatal(err)
			}
			b.startWorker(4)
			x := b.end(id)
			ask = b.nodes(id)["ask"]
			if x.Status != c.status || ask.Status != c.ask {
				t.Errorf("the execution is %s and the node %s, want %s and %s", x.Status, ask.Status, c.status, c.ask)
			}
			if c.code != "" && (x.Failure == nil || x.Failure.Code != c.code || x.Failure.Node != "ask") {
				t.Errorf("failure %+v, want the code %s", x.Failure, c.code)
			}
			if want := `{"said": "ada: seen"}`; x.Status == execution.Completed && string(x.Outputs) != want {
				t.Errorf("outputs %s, want %s", x.Outputs, want)
			}
			if b.nodes(id)["always"].Status != execution.NodeCompleted {
				t.Errorf("the node that always runs is %s", b.nodes(id)["always"].Status)
			}
			ends := 0
			for _, e := range b.history(id) {
				if e.Node == "ask" && strings.HasPrefix(string(e.Type), "node.") && e.Type != event.NodeStarted && e.Type != event.NodeWaiting {
					ends++
				}
			}
			if ends != 1 {
				t.Errorf("the approval has %d ends in %v", ends, b.types(id))
			}
			pgtest.CheckInvariants(t, b.pool)
		})
	}
}

// TestDecisionWhileHeld has a command run beside the approval, so that a worker holds the execution all the time.
func TestDecisionWhileHeld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.push(gated + "  ask: { approval: \"Go on?\" }\n  after: { needs: [ask], set: { a: \"1\" } }\n")
	b.startWorker(1)
	id := b.enqueue(w, "")
	dir, _ := b.workspace(1)
	await(t, "the approval to wait", func() bool { return b.has(id, event.NodeWaiting) })
	if err := b.decide(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	await(t, "what follows the approval", func() bool { return b.nodes(id)["after"].Status == execution.NodeCompleted })
	openGate(t, dir)
	if x := b.end(id); x.Status != execution.Completed || b.has(id, event.ExecutionWaiting) {
		t.Errorf("status %s, %v", x.Status, b.types(id))
	}
}

// rests is for how long an execution is parked, by its timer.
func (b *testBundle) rests(id uuid.UUID) time.Duration {
	b.t.Helper()
	return time.Second * time.Duration(pgtest.Get[int](b.t, b.pool, `SELECT extract(epoch FROM t.due_at - e.parked_at)::int
		FROM executions e JOIN execution_timers t ON t.execution_id = e.id WHERE e.id = $1`, id))
}

// letPass puts all that happened to an execution which is parked, and all that is to happen, further into the past.
func (b *testBundle) letPass(id uuid.UUID, d time.Duration) {
	b.t.Helper()
	timers := pgtest.Exec(b.t, b.pool, `WITH x AS (UPDATE executions SET parked_at = parked_at - $2::interval, deadline_at = deadline_at - $2::interval WHERE id = $1),
		n AS (UPDATE node_runs SET due_at = due_at - $2::interval WHERE execution_id = $1)
		UPDATE execution_timers SET due_at = due_at - $2::interval WHERE execution_id = $1`, id, d)
	if timers != 1 {
		b.t.Fatalf("it has %d timers", timers)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wait  string
		parks bool
	}{
		"short":           {"1s", false},
		"long":            {"1h", true},
		"an expression":   {"{ for: \"${{ inputs.pause }}\" }", true},
		"until the past":  {"{ until: \"2020-01-01T00:00:00Z\" }", false},
		"until an output": {"{ until: \"${{ inputs.at }}\" }", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			w := b.push("name: pause\ntimeout: 10m\ninputs: { pause: { type: string, default: x }, at: { type: string, default: x } }\nnodes:\n  rest: { wait: " + c.wait + " }\n  after: { needs: [rest], set: { a: \"1\" } }\n")
			b.startLoops()
			b.startWorker(1)
			id := b.enqueue(w, fmt.Sprintf(`{"pause": "1h", "at": %q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
			if c.parks {
				b.parked(id)
				if d := b.rests(id); d < 50*time.Minute || d > 61*time.Minute {
					t.Errorf("it is to go on after %s", d)
				}
				b.letPass(id, 2*time.Hour)
			}
			// Its timeout of 10 min does not count while it is parked.
			if x := b.end(id); x.Status != execution.Completed {
				t.Errorf("status %s, %+v", x.Status, x.Failure)
			}
			if b.has(id, event.ExecutionWaiting) != c.parks {
				t.Errorf("parked: %t, want %t: %v", !c.parks, c.parks, b.types(id))
			}
			pgtest.CheckInvariants(t, b.pool)
		})
	}
}

func TestLongRetryParks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.push("name: again\nnodes:\n  only:\n    retries: { max: 1, initial: 10m, max-delay: 10m }\n    run: if test -e once; then echo again; else touch once; exit 3; fi\n")
	b.startLoops()
	b.startWorker(1)
	id := b.enqueue(w, "")
	b.parked(id)
	reason := pgtest.Get[string](t, b.pool, "SELECT reason || ' ' || (due_at > now() + interval '4 minutes') FROM execution_timers WHERE execution_id = $1", id)
	if reason != "retry true" {
		t.Errorf("the timer says %q", reason)
	}
	pgtest.Exec(t, b.pool, "UPDATE node_runs SET retry_at = now() WHERE execution_id = $1", id)
	pgtest.Exec(t, b.pool, "UPDATE execution_timers SET due_at = now() WHERE execution_id = $1", id)
	if x := b.end(id); x.Status != execution.Completed || b.log(id, "only", event.Stdout) != "again\n" {
		t.Errorf("status %s, %+v", x.Status, x.Failure)
	}
	if n := b.nodes(id)["only"]; n.Attempt != 2 {
		t.Errorf("attempt %d", n.Attempt)
	}
}

// TestNothingIsLostAroundThePark has a fact land at every instant of the commit that parks.
func TestNothingIsLostAroundThePark(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"journal.lock.before", "journal.lock.after", "journal.commit.before", "journal.commit.after"} {
		for name, act := range map[string]func(b *testBundle, id uuid.UUID) error{
			"approve": func(b *testBundle, id uuid.UUID) error { return b.decide(t.Context(), id, true) },
			"cancel":  func(b *testBundle, id uuid.UUID) error { return b.queue.Cancel(t.Context(), b.org, id, "test") },
		} {
			t.Run(point+" "+name, func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				w := b.push(approvalText)
				id := b.enqueue(w, "")
				done := make(chan error, 1)
				var commits atomic.Int32
				b.hook = func(_ context.Context, at string) failpoint.Answer {
					if at != point || commits.Add(1) != 2 { // the first makes the approval durable, the second parks
						return failpoint.Answer{}
					}
					go func() { done <- act(b, id) }()
					select { // it is blocked while the journal holds the row
					case err := <-done:
						done <- err
					case <-time.After(100 * time.Millisecond):
					}
					return failpoint.Answer{}
				}
				b.startWorker(1)
				want := map[string]execution.Status{"approve": execution.Completed, "cancel": execution.Canceled}[name]
				if x := b.end(id); x.Status != want {
					t.Errorf("status %s, want %s: %v", x.Status, want, b.types(id))
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				pgtest.CheckInvariants(t, b.pool)
			})
		}
	}
}

// TestTenThousandWait has that many executions wait with no worker alive.
func TestTenThousandWait(t *testing.T) {
	t.Parallel()
	const all = 10_000
	b := setup(t)
	w := b.push("name: crowd\nnodes:\n  rest: { wait: 24h }\n  after: { needs: [rest], set: { a: \"1\" } }\n")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range all / 4 {
				b.enqueue(w, "")
			}
		})
	}
	stop := b.startWorker(200)
	group.Wait()
	count := func(where string) int {
		return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE "+where)
	}
	await(t, "all of them to wait", func() bool { return count("status = 'waiting' AND worker_id IS NULL") == all })
	stop()
	pgtest.CheckInvariants(t, b.pool)
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM workers WHERE state <> 'gone'"); n != 0 {
		t.Errorf("%d workers are there", n)
	}
	pgtest.Exec(t, b.pool, "UPDATE node_runs SET due_at = now() WHERE status = 'waiting'")
	pgtest.Exec(t, b.pool, "UPDATE execution_timers SET due_at = now()")
	if n, err := b.queue.UnparkDue(t.Context()); err != nil || n != all {
		t.Errorf("%d are ready again, %v", n, err)
	}
	b.startWorker(200)
	await(t, "all of them to end", func() bool { return count("status = 'completed'") == all })
	pgtest.CheckInvariants(t, b.pool)
}

// TestLeaseInDoubt cuts a worker's renewals for longer than the lease can be trusted: its engines stop without a signal to
// any command, and go on under the same claim when it can renew again.
func TestLeaseInDoubt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var cut atomic.Bool
	b.hook = func(_ context.Context, at string) failpoint.Answer {
		if at == "queue.renew.before" && cut.Load() {
			return failpoint.Answer{Err: errs.E(errs.Unavailable, "The test says no.")}
		}
		return failpoint.Answer{}
	}
	b.lease = time.Second
	w := b.push(gated)
	url, _ := b.startWorkerWith(2, nil)
	id := b.enqueue(w, "")
	dir, pid := b.workspace(1)
	for range 2 {
		cut.Store(true)
		// The answer to a renewal that was sent before may still come.
		await(t, "the worker to say that its lease is in doubt", func() bool {
			status, why := get(t, url+"/readyz")
			return status == http.StatusServiceUnavailable && strings.Contains(why, "lease")
		})
		b.holdsNone(url)
		taken := b.count(id, event.NodeAttached)
		late := b.enqueue(w, "")
		cut.Store(false)
		await(t, "the worker to go on", func() bool { return b.count(id, event.NodeAttached) > taken })
		if err := b.queue.Cancel(t.Context(), b.org, late, "test"); err != nil {
			t.Fatal(err)
		}
	}
	openGate(t, dir)
	if x := b.end(id); x.Status != execution.Completed || !strings.HasPrefix(b.log(id, "wait", event.Stdout), "attempt 1\n") {
		t.Errorf("status %s, %+v, process %d", x.Status, x.Failure, pid)
	}
	if claims := b.count(id, event.ExecutionClaimed); claims != 1 {
		t.Errorf("%d claims", claims)
	}
	pgtest.CheckInvariants(t, b.pool)
}

func (b *testBundle) count(id uuid.UUID, want event.Type) int {
	b.t.Helper()
	types := b.types(id)
	return len(slices.DeleteFunc(types, func(t event.Type) bool { return t != want }))
}

// TestLostWorkerIsReplaced has a worker vanish without a word.
func TestLostWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.push(gated)
	b.lease = time.Second
	var dead atomic.Bool
	awake := make(chan struct{})
	b.hook = func(ctx context.Context, at string) failpoint.Answer {
		if dead.Load() && (strings.HasPrefix(at, "queue.") || strings.HasPrefix(at, "journal.")) {
			select { // as if it had no network
			case <-awake:
			case <-ctx.Done():
				return failpoint.Answer{Err: context.Cause(ctx)}
			}
		}
		return failpoint.Answer{}
	}
	b.startWorker(1)
	id := b.enqueue(w, "")
	dir, _ := b.workspace(1)
	dead.Store(true)
	b.hook, b.lease = nil, 0
	b.startLoops()
	b.startWorker(1)
	await(t, "the takeover", func() bool { return b.has(id, event.NodeAttached) })
	close(awake) // and finds that it is gone
	openGate(t, dir)
	if x := b.end(id); x.Status != execution.Completed || b.count(id, event.ExecutionReleased) != 1 {
		t.Errorf("status %s, %v", x.Status, b.types(id))
	}
	if n := b.nodes(id)["wait"]; n.Attempt != 1 {
		t.Errorf("attempt %d", n.Attempt)
	}
	pgtest.CheckInvariants(t, b.pool)
}
