package queue_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"foundry/internal/audit"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

// crowd queues n executions of the bundle's workflow at once, as long ago as waited, as an enqueue leaves them.
func (b *testBundle) crowd(n int, waited time.Duration) {
	b.t.Helper()
	pgtest.Exec(b.t, b.pool, "ALTER TABLE executions DISABLE TRIGGER ALL") // foreign keys, which would take most of the time
	pgtest.Exec(b.t, b.pool, "ALTER TABLE execution_data DISABLE TRIGGER ALL")
	pgtest.Exec(b.t, b.pool, "ALTER TABLE execution_queue DISABLE TRIGGER ALL")
	const batch = 10_000 // far below the statement timeout
	for done := 0; done < n; done += batch {
		pgtest.Exec(b.t, b.pool, `
WITH x AS (
    INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, queued_at, queue_deadline_at, last_seq)
    SELECT (lpad(to_hex((EXTRACT(epoch FROM now()) * 1000)::bigint), 12, '0') || '7' || substr(md5(random()::text), 14))::uuid, $1, $2, 1, last_number + n, 'queued', 'api',
        now() - $4::interval, now() + interval '1 hour', 1 FROM workflows, generate_series(1, $3::int) AS n WHERE workflows.id = $2
    RETURNING id, queued_at
), data AS (
    INSERT INTO execution_data (execution_id, inputs) SELECT id, '{}' FROM x
), counted AS (
    UPDATE workflows SET last_number = last_number + $3 WHERE id = $2
), events AS (
    INSERT INTO execution_events (day, execution_id, seq, type) SELECT execution_day(id), id, 1, 'execution.queued' FROM x
)
INSERT INTO execution_queue (execution_id, run_order) SELECT id, queued_at FROM x`, b.org, b.workflow, min(batch, n-done), waited)
	}
	pgtest.Exec(b.t, b.pool, "ANALYZE")
}

// other makes a second workflow and returns what asks for its executions.
func (b *testBundle) other() func(*queue.Request) {
	b.t.Helper()
	org, id := pgtest.Workflow(b.t, b.pool)
	return func(r *queue.Request) { r.OrganizationID, r.WorkflowID = org, id }
}

func (b *testBundle) pause(paused bool) *workflow.Workflow {
	b.t.Helper()
	w, err := workflow.NewStore(b.pool).Update(b.t.Context(), workflow.ChangeParams{
		OrganizationID: b.org, WorkflowID: b.workflow, Actor: audit.Actor{OrganizationID: b.org, Kind: audit.System, Name: "ann"},
	}, workflow.Update{Paused: &paused})
	if err != nil {
		b.t.Fatal(err)
	}
	return w
}

// TestACrowdDelaysNobodyOfHigherPriority is a target of issue 5: 100,000 queued executions of one workflow delay another's of higher
// priority by not more than one claim.
func TestACrowdDelaysNobodyOfHigherPriority(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	b.crowd(100_000, 0)
	worker, other := b.join(), b.other()
	b.claim(worker, 5) // the claim that may be under way
	id := b.enqueue(other, priority(1))
	if place, ok, err := b.executions.QueuePosition(t.Context(), id); err != nil || !ok || place.Ahead != 0 {
		t.Errorf("place %+v, %t, %v", place, ok, err)
	}
	if claimed := b.claim(worker, 5); !slices.ContainsFunc(claimed, func(c queue.Claimed) bool { return c.ID == id }) {
		t.Errorf("the next claim takes %d others", len(claimed))
	}
	if id = b.enqueue(other, priority(0)); b.claim(worker, 1)[0].ID == id {
		t.Error("one of the same priority goes before those that wait longer")
	}
}

// TestAPausedCrowdIsNotInTheWay holds what a pause is for: a claim costs the same, however many executions are paused, and
// however long they have waited. A claim that walked over them would read at least a page for every few of them.
func TestAPausedCrowdIsNotInTheWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	b.crowd(100_000, time.Hour)
	worker, other := b.join(), b.other()
	begun := time.Now()
	b.pause(true)
	t.Logf("pausing took %v", time.Since(begun))
	pgtest.Exec(t, b.pool, "VACUUM ANALYZE execution_queue")
	ids := map[uuid.UUID]bool{}
	for range 20 {
		ids[b.enqueue(other, priority(-10))] = true
	}
	begun = time.Now()
	for range 4 {
		for _, c := range b.claim(worker, 5) {
			if !ids[c.ID] {
				t.Error("claimed what is paused")
			}
			delete(ids, c.ID)
		}
	}
	t.Logf("a claim took %v", time.Since(begun)/4)
	if len(ids) > 0 {
		t.Errorf("%d of another workflow are left", len(ids))
	}
	scans := pgtest.Explain(t, b.pool, b.statements.Last(t, "QueueClaim"), false).Scans()
	if !slices.Contains(scans, "execution_queue execution_queue_order") {
		t.Errorf("a claim reads %q", scans)
	}
	b.limited(10_000)
	for range 3 {
		begun = time.Now()
		b.wantFull("10000")
		t.Logf("a refusal took %v", time.Since(begun))
	}
	begun = time.Now()
	b.pause(false)
	t.Logf("resuming took %v", time.Since(begun))
	if n := len(b.claim(worker, 5)); n != 5 {
		t.Errorf("%d claims after the pause", n)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	begun := b.enqueue()
	claimed := b.claim(worker, 1)[0]
	before := b.enqueue()
	w := b.pause(true)
	if w.PausedAt == nil || w.PausedBy == nil || *w.PausedBy != "ann" {
		t.Fatalf("paused %+v", w)
	}
	b.check()
	after := b.enqueue(priority(10))
	b.check()
	for _, id := range []uuid.UUID{before, after} {
		if place, ok, err := b.executions.QueuePosition(t.Context(), id); err != nil || !ok || place.PausedSince == nil || place.PausedBy != "ann" {
			t.Errorf("place %+v, %t, %v", place, ok, err)
		}
	}
	if again := b.pause(true); !again.PausedAt.Equal(*w.PausedAt) || again.Revision <= w.Revision {
		t.Errorf("paused once more: %+v", again)
	}

	// What has begun goes on, and what the reaper finds in no place is paused like the others.
	if err := b.queue.Release(t.Context(), claimed.ID, claimed.Claim, "Test."); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, b.pool, "DELETE FROM execution_queue WHERE execution_id = $1", before)
	if n, err := b.queue.Replace(t.Context(), before); err != nil || !n {
		t.Errorf("it is put back: %t, %v", n, err)
	}
	b.check()
	if got := b.claim(worker, 10); len(got) != 1 || got[0].ID != begun {
		t.Fatalf("claimed while paused: %+v", got)
	}
	if err := b.queue.Cancel(t.Context(), b.org, before, "ann"); err != nil {
		t.Error(err)
	}
	listening, err := b.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer listening.Release()
	if _, err := listening.Exec(t.Context(), "LISTEN "+postgres.ChannelWork); err != nil {
		t.Fatal(err)
	}
	if w := b.pause(false); w.PausedAt != nil || w.PausedBy != nil {
		t.Errorf("resumed %+v", w)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := listening.Conn().WaitForNotification(ctx); err != nil {
		t.Errorf("the end of a pause wakes nobody: %v", err)
	}
	if got := b.claim(worker, 10); len(got) != 1 || got[0].ID != after {
		t.Errorf("claimed after the pause: %+v", got)
	}
}

// TestPauseAndClaimRace holds that no claim which begins after a pause is committed takes anything.
func TestPauseAndClaimRace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	b.enqueueMany(60)
	release := b.lock("SELECT 1 FROM workflows WHERE id = $1 FOR NO KEY UPDATE", b.workflow) // the pause waits for an enqueue, claims do not
	paused := make(chan struct{})
	go func() {
		defer close(paused)
		b.pause(true)
	}()
	if n := len(b.claim(worker, 5)); n != 5 {
		t.Errorf("%d claims while the pause waits", n)
	}
	release()
	left := 55
	for ended := false; !ended; {
		select {
		case <-paused:
			ended = true
		default:
		}
		n := len(b.claim(worker, 1))
		if left -= n; ended && n > 0 {
			t.Error("claimed after the pause")
		}
	}
	b.check()
	b.pause(false)
	for n := 1; n > 0; left -= n {
		n = len(b.claim(worker, 10))
	}
	if left != 0 {
		t.Errorf("%d are lost", left)
	}
}

// TestOrderNeverChanges is the property that run_order is for: whatever is enqueued, claimed, paused or resumed in between, two rows
// that are in the queue stay in the order that they were in.
func TestOrderNeverChanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker, other := b.join(), b.other()
	orders := func(rt *rapid.T) map[uuid.UUID]time.Time {
		found := map[uuid.UUID]time.Time{}
		rows, err := b.pool.Query(t.Context(), "SELECT execution_id, run_order FROM execution_queue")
		if err != nil {
			rt.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id uuid.UUID
			var order time.Time
			if err := rows.Scan(&id, &order); err != nil {
				rt.Fatal(err)
			}
			found[id] = order
		}
		return found
	}
	rapid.Check(t, func(rt *rapid.T) {
		b.pause(false)
		for len(b.claim(worker, 100)) > 0 { // of the run before
		}
		known := map[uuid.UUID]time.Time{}
		paused := false
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0, 1:
				b.enqueue(priority(rapid.IntRange(-10, 10).Draw(rt, "priority")))
			case 2:
				b.enqueue(other, priority(rapid.IntRange(-10, 10).Draw(rt, "priority")))
			case 3:
				paused = !paused
				b.pause(paused)
			case 4:
				b.claim(worker, 1)
			}
			now := orders(rt)
			for id, order := range now {
				if before, ok := known[id]; ok && !before.Equal(order) {
					rt.Fatalf("%s moved from %v to %v", id, before, order)
				}
			}
			known = now
		}
		b.pause(false)
		want := slices.SortedFunc(maps.Keys(known), func(x, y uuid.UUID) int {
			if c := known[x].Compare(known[y]); c != 0 {
				return c
			}
			return slices.Compare(x[:], y[:])
		})
		var got []uuid.UUID
		for range want {
			for _, c := range b.claim(worker, 1) {
				got = append(got, c.ID)
			}
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(x, y uuid.UUID) bool { return x == y })); diff != "" {
			rt.Fatal(diff)
		}
	})
}
