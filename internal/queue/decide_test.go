package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
)

// asking makes an execution that a worker holds and whose node "ask" waits, as the engine writes it.
func (b *testBundle) asking(worker uuid.UUID) uuid.UUID {
	b.t.Helper()
	id := b.enqueue()
	b.claim(worker, 1)
	b.ask(id, "ask", `{"message": "Sure?", "roles": ["admin"]}`)
	return id
}

// ask makes a node run that waits; an empty prompt is that of a wait node.
func (b *testBundle) ask(id uuid.UUID, node, prompt string) {
	b.t.Helper()
	pgtest.Exec(b.t, b.pool, `INSERT INTO node_runs (id, execution_id, node_key, status, started_at, prompt) VALUES ($1, $2, $3, 'waiting', now(), NULLIF($4, '')::jsonb)`,
		execution.NewID(), id, node, prompt)
}

// park gives a held execution back as the journal does, unless a signal has come; it reports whether it did.
func (b *testBundle) park(ctx context.Context, id uuid.UUID) (bool, error) {
	tag, err := b.pool.Exec(ctx, `WITH parked AS (
			UPDATE executions SET status = 'waiting', parked_at = now(), worker_id = NULL, claim = claim + 1, last_seq = last_seq + 1
			WHERE id = $1 AND worker_id IS NOT NULL AND signal = 0 RETURNING id, last_seq
		), timer AS (
			INSERT INTO execution_timers (execution_id, due_at, reason) SELECT id, now() + interval '1 hour', 'approval' FROM parked
		)
		INSERT INTO execution_events (day, execution_id, seq, type) SELECT execution_day(id), id, last_seq, 'execution.waiting' FROM parked`, id)
	return tag.RowsAffected() == 1, err
}

func (b *testBundle) decision(id uuid.UUID) queue.Decision {
	return queue.Decision{
		ExecutionID: id, Node: "ask", Approved: true, Comment: "fine",
		By: audit.Actor{OrganizationID: b.org, Kind: audit.User, Name: "ann"}, Permit: func([]string) error { return nil },
	}
}

// decided is what a decision leaves in the run of the node "ask".
type decided struct {
	Status, Outputs, Failure, Decision string
	Finished                           bool
}

func (b *testBundle) decided(id uuid.UUID) (d decided) {
	b.t.Helper()
	err := b.pool.QueryRow(b.t.Context(), `SELECT status, COALESCE(outputs::text, ''), COALESCE(error::text, ''), COALESCE(decision::text, ''), finished_at IS NOT NULL
		FROM node_runs WHERE execution_id = $1 AND node_key = 'ask'`, id).Scan(&d.Status, &d.Outputs, &d.Failure, &d.Decision, &d.Finished)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

func (b *testBundle) count(sql string, args ...any) (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM "+sql, args...).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func TestDecide(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()

	t.Run("held", func(t *testing.T) {
		id := b.asking(worker)
		if err := b.queue.Decide(t.Context(), b.decision(id)); err != nil {
			t.Fatal(err)
		}
		said := `{"by": "ann", "comment": "fine", "approved": true}`
		if diff := cmp.Diff(decided{Status: "completed", Outputs: said, Decision: said, Finished: true}, b.decided(id)); diff != "" {
			t.Error(diff)
		}
		if x, r := b.get(id), b.row(id); x.Status != execution.Running || *x.WorkerID != worker || r.Signal != 1 || r.Claim != 1 {
			t.Errorf("the worker does not learn of it: %+v, %+v", x, r)
		}
		if n := b.count("execution_queue WHERE execution_id = $1", id); n != 0 {
			t.Error("it is held and in the queue")
		}
		page, err := event.NewStore(b.pool).Page(t.Context(), id, 2, 10, event.LogFilter{})
		if err != nil || len(page) != 1 {
			t.Fatal(page, err)
		}
		var data struct{ Decision, Outputs struct{ Approved bool } }
		if err := json.Unmarshal(page[0].Data, &data); err != nil || page[0].Type != event.NodeCompleted || page[0].Node != "ask" || !data.Decision.Approved || !data.Outputs.Approved {
			t.Errorf("event %+v with %s (%v)", page[0], page[0].Data, err)
		}
		if n := b.count(`audit_log WHERE execution_id = $1 AND action = 'approval.decide' AND actor = 'ann' AND target = 'ask' AND data->>'approved' = 'true'`, id); n != 1 {
			t.Errorf("%d audit rows", n)
		}
	})

	t.Run("rejected, parked", func(t *testing.T) {
		id := b.asking(worker)
		if parked, err := b.park(t.Context(), id); !parked || err != nil {
			t.Fatal(parked, err)
		}
		d := b.decision(id)
		d.Approved, d.Comment = false, "not\x00yet"
		if err := b.queue.Decide(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		said := `{"by": "ann", "comment": "not` + "\uFFFD" + `yet", "approved": false}`
		want := decided{Status: "failed", Outputs: said, Failure: `{"code": "rejected", "message": "ann has rejected it."}`, Decision: said, Finished: true}
		if diff := cmp.Diff(want, b.decided(id)); diff != "" {
			t.Error(diff)
		}
		if x := b.get(id); x.Status != execution.Waiting {
			t.Errorf("before the claim it is %s", x.Status)
		}
		if n := b.count("execution_timers WHERE execution_id = $1", id); n != 0 {
			t.Error("its timer is still there")
		}
		claimed := b.claim(worker, 10)
		if len(claimed) != 1 || claimed[0].ID != id || claimed[0].Facts.Signal != 1 {
			t.Errorf("claimed %+v", claimed)
		}
		types := b.types(id)
		if !slices.Contains(types, event.NodeFailed) || types[len(types)-1] != event.ExecutionClaimed {
			t.Errorf("events %v", types)
		}
	})
}

// TestDecideRefuses holds that a refusal says why and changes nothing.
func TestDecideRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	forbidden := errs.E(errs.Forbidden, "No.")
	for name, c := range map[string]struct {
		prepare func(id uuid.UUID, d *queue.Decision)
		want    errs.Code
	}{
		"a long comment":       {func(_ uuid.UUID, d *queue.Decision) { d.Comment = strings.Repeat("é", queue.MaxComment/2) + "x" }, errs.Validation},
		"no execution":         {func(_ uuid.UUID, d *queue.Decision) { d.ExecutionID = uuid.New() }, errs.NotFound},
		"another organization": {func(_ uuid.UUID, d *queue.Decision) { d.By.OrganizationID = uuid.New() }, errs.NotFound},
		"no node":              {func(_ uuid.UUID, d *queue.Decision) { d.Node = "Ask" }, errs.NotFound},
		"another index":        {func(_ uuid.UUID, d *queue.Decision) { d.Index = 1 }, errs.NotFound},
		"a wait node":          {func(id uuid.UUID, d *queue.Decision) { b.ask(id, "pause", ""); d.Node = "pause" }, queue.NotWaiting},
		"another role": {func(_ uuid.UUID, d *queue.Decision) {
			d.Permit = func(roles []string) error {
				if !slices.Equal(roles, []string{"admin"}) {
					t.Errorf("asked with roles %q", roles)
				}
				return forbidden
			}
		}, errs.Forbidden},
		"canceling": {func(id uuid.UUID, _ *queue.Decision) {
			if err := b.queue.Cancel(t.Context(), b.org, id, "me"); err != nil {
				t.Error(err)
			}
		}, queue.CancelRequested},
		"ended": {func(id uuid.UUID, _ *queue.Decision) {
			b.end(id)
		}, errs.Finished},
		"timed out": {func(id uuid.UUID, _ *queue.Decision) {
			pgtest.Exec(t, b.pool, "UPDATE node_runs SET status = 'timed_out', finished_at = now() WHERE execution_id = $1", id)
		}, queue.NotWaiting},
		"overdue": {func(id uuid.UUID, _ *queue.Decision) {
			pgtest.Exec(t, b.pool, "UPDATE node_runs SET due_at = now() - interval '1 second' WHERE execution_id = $1", id)
		}, queue.NotWaiting},
		"again": {func(id uuid.UUID, _ *queue.Decision) {
			if err := b.queue.Decide(t.Context(), b.decision(id)); err != nil {
				t.Error(err)
			}
		}, queue.AlreadyDecided},
		"again, after the end": {func(id uuid.UUID, _ *queue.Decision) {
			if err := b.queue.Decide(t.Context(), b.decision(id)); err != nil {
				t.Error(err)
			}
			b.end(id)
		}, queue.AlreadyDecided},
	} {
		t.Run(name, func(t *testing.T) {
			id := b.asking(worker)
			d := b.decision(id)
			d.Approved = false
			c.prepare(id, &d)
			before, rows, audits := b.decided(id), b.row(id), b.count("audit_log")
			wantCode(t, b.queue.Decide(t.Context(), d), c.want)
			if diff := cmp.Diff(before, b.decided(id)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(rows, b.row(id)); diff != "" {
				t.Error(diff)
			}
			if n := b.count("audit_log"); n != audits {
				t.Errorf("%d audit rows more", n-audits)
			}
		})
	}
}

// end ends a held execution as the journal does.
func (b *testBundle) end(id uuid.UUID) {
	b.t.Helper()
	pgtest.Exec(b.t, b.pool, `WITH ended AS (
			UPDATE executions SET status = 'completed', finished_at = now(), worker_id = NULL, claim = claim + 1, last_seq = last_seq + 1
			WHERE id = $1 RETURNING id, last_seq
		)
		INSERT INTO execution_events (day, execution_id, seq, type) SELECT execution_day(id), id, last_seq, 'execution.completed' FROM ended`, id)
}

// together lets functions start at once and returns their errors.
func together(functions ...func() error) []error {
	all := make([]error, len(functions))
	start := make(chan struct{})
	var group sync.WaitGroup
	for i, f := range functions {
		group.Go(func() {
			<-start
			all[i] = f()
		})
	}
	close(start)
	group.Wait()
	return all
}

func TestTwoDecisionsRace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	wins := map[bool]int{}
	for range 50 {
		id := b.asking(worker)
		yes, no := b.decision(id), b.decision(id)
		no.Approved = false
		all := together(func() error { return b.queue.Decide(t.Context(), yes) }, func() error { return b.queue.Decide(t.Context(), no) })
		approved := all[0] == nil
		wins[approved]++
		if approved == (all[1] == nil) || !errs.Is(errors.Join(all...), queue.AlreadyDecided) {
			t.Fatalf("answers %v", all)
		}
		want := map[bool]string{true: "completed", false: "failed"}[approved]
		if d, r := b.decided(id), b.row(id); d.Status != want || r.Signal != 1 {
			t.Fatalf("approved %t, then %+v, signal %d", approved, d, r.Signal)
		}
		if n := b.count("audit_log WHERE execution_id = $1", id); n != 1 {
			t.Fatalf("%d audit rows", n)
		}
	}
	t.Logf("approved: %v", wins)
}

// TestDecisionRacesCancel lets both start at once, on held and on parked executions: the cancel always counts, and a decision
// that was acknowledged stands before it.
func TestDecisionRacesCancel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	wins := map[bool]int{}
	for i := range 50 {
		id := b.asking(worker)
		if i%2 == 0 {
			if parked, err := b.park(t.Context(), id); !parked || err != nil {
				t.Fatal(parked, err)
			}
		}
		all := together(func() error { return b.queue.Decide(t.Context(), b.decision(id)) }, func() error { return b.queue.Cancel(t.Context(), b.org, id, "me") })
		decided, r := b.decided(id), b.row(id)
		first := all[0] == nil
		wins[first]++
		signals := int64(1)
		if first {
			signals = 2
		}
		if all[1] != nil || !first && !errs.Is(all[0], queue.CancelRequested) || decided.Finished != first || !r.Canceled || r.Signal != signals {
			t.Fatalf("answers %v, node run %+v, row %+v", all, decided, r)
		}
		if i%2 == 0 {
			if claimed := b.claim(worker, 10); len(claimed) != 1 || claimed[0].ID != id || !claimed[0].Facts.Canceled {
				t.Fatalf("nobody goes on with it: %+v", claimed)
			}
		}
	}
	t.Logf("decided first: %v", wins)
}

// TestDecisionRacesPark lets a worker park what is decided at the same time. Either it learns of the decision in place of parking, or
// the parked execution is ready again.
func TestDecisionRacesPark(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	places := map[bool]int{}
	for range 100 {
		id := b.asking(worker)
		var parked bool
		all := together(func() error { return b.queue.Decide(t.Context(), b.decision(id)) }, func() (err error) {
			parked, err = b.park(t.Context(), id)
			return err
		})
		if err := errors.Join(all...); err != nil {
			t.Fatal(err)
		}
		places[parked]++
		x, r := b.get(id), b.row(id)
		queued, timers := b.count("execution_queue WHERE execution_id = $1", id), b.count("execution_timers WHERE execution_id = $1", id)
		if d := b.decided(id); d.Status != "completed" || r.Signal != 1 || timers != 0 {
			t.Fatalf("node run %+v, signal %d, %d timers", d, r.Signal, timers)
		}
		switch {
		case parked && x.Status == execution.Waiting && x.WorkerID == nil && queued == 1:
			b.claim(worker, 1)
		case !parked && x.Status == execution.Running && *x.WorkerID == worker && queued == 0:
		default:
			t.Fatalf("parked %t, then %+v, %d queue rows", parked, x, queued)
		}
	}
	t.Logf("parked first: %v", places)
}

// TestDecisionOfTheQueuedAgain holds that a second signal does no harm to an execution that is ready already.
func TestDecisionOfTheQueuedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	id := b.asking(worker)
	b.ask(id, "other", `{"message": "", "roles": []}`)
	if parked, err := b.park(t.Context(), id); !parked || err != nil {
		t.Fatal(parked, err)
	}
	other := b.decision(id)
	other.Node = "other"
	for _, d := range []queue.Decision{b.decision(id), other} {
		if err := b.queue.Decide(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if claimed := b.claim(worker, 10); len(claimed) != 1 || claimed[0].Facts.Signal != 2 {
		t.Errorf("claimed %+v", claimed)
	}
}
