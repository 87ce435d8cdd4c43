package control

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

func (b *testBundle) enter(group string) uuid.UUID {
	b.t.Helper()
	q, err := b.queue.Enqueue(b.t.Context(), queue.Request{
		OrganizationID: b.org, WorkflowID: b.work, Version: 1, Source: execution.FromAPI, Inputs: []byte(`{}`), QueueTimeout: time.Hour,
		Group: &workflow.Group{Name: group, Limit: 1, OnConflict: workflow.ConflictQueue},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return q.ID
}

// searches has the reaper look at once, and again after each of the pauses.
func (b *testBundle) searches(pauses ...time.Duration) {
	b.t.Helper()
	now := time.Now()
	r := newReaper(b.one, now)
	for _, pause := range append([]time.Duration{0}, pauses...) {
		now = now.Add(pause + misplacedEvery + b.one.Lease)
		if err := r.round(b.t.Context(), now); err != nil {
			b.t.Fatal(err)
		}
	}
}

func wantCount(t *testing.T, what string, counter prometheus.Counter, want float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(counter)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if got := families[0].GetMetric()[0].GetCounter().GetValue(); got != want {
		t.Errorf("%s: %g, want %g", what, got, want)
	}
}

func TestReaperPutsBackWhatIsInNoPlace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	held, blocked := b.enter("a"), b.enter("a")
	b.searches(misplacedFor)
	wantCount(t, "misplaced while nothing is wrong", b.one.metrics.misplaced, 0)
	pgtest.Exec(t, b.pool, "DELETE FROM execution_queue WHERE execution_id = $1", held)
	pgtest.Exec(t, b.pool, "DELETE FROM concurrency_waiters WHERE execution_id = $1", blocked)
	b.searches()
	wantCount(t, "misplaced before a minute is over", b.one.metrics.misplaced, 0)
	b.searches(misplacedFor)
	wantCount(t, "misplaced", b.one.metrics.misplaced, 2)
	wantCount(t, "stuck", b.one.metrics.stuck, 0)
}

func TestReaperFreesStuckGroups(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	b.enter("a")
	b.enter("a")
	b.enter("b")
	b.searches(misplacedFor)
	wantCount(t, "stuck while nothing is wrong", b.one.metrics.stuck, 0)
	pgtest.Exec(t, b.pool, "UPDATE concurrency_groups SET max_running = 2 WHERE name = 'a'") // by nobody who would admit
	b.searches()
	wantCount(t, "stuck before a minute is over", b.one.metrics.stuck, 0)
	b.searches(misplacedFor)
	wantCount(t, "stuck", b.one.metrics.stuck, 1)
	pgtest.CheckInvariants(t, b.pool)

	// What ended where nobody knew of groups is seen at once, and its group is swept.
	pgtest.Exec(t, b.pool, `WITH ended AS (
		UPDATE executions SET status = 'failed', finished_at = now(), last_seq = last_seq + 1 WHERE concurrency_group = 'b' RETURNING id
	), dropped AS (DELETE FROM execution_queue USING ended WHERE execution_id = id
	) INSERT INTO execution_events (day, execution_id, seq, type) SELECT execution_day(id), id, 2, 'execution.failed' FROM ended`)
	b.searches()
	wantCount(t, "stuck", b.one.metrics.stuck, 2)
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM concurrency_groups"); n != 1 {
		t.Errorf("%d groups are left", n)
	}
}

func TestRoundCancelsWhatIsReplaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer pgtest.CheckInvariants(t, b.pool)
	first := b.enter("a")
	newer := b.enter("a")
	pgtest.Exec(t, b.pool, "UPDATE concurrency_waiters SET cancels = true") // queued by a process that was gone after its commit
	if err := b.one.round(t.Context(), newReaper(b.one, time.Now())); err != nil {
		t.Fatal(err)
	}
	wantCount(t, "superseded", b.one.metrics.superseded, 1)
	if status := pgtest.Get[string](t, b.pool, "SELECT status FROM executions WHERE id = $1", first); status != "canceled" {
		t.Errorf("the first is %s", status)
	}
	if id := pgtest.Get[uuid.UUID](t, b.pool, "SELECT execution_id FROM concurrency_slots"); id != newer {
		t.Errorf("%s has the slot", id)
	}
}
