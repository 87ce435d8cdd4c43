package queue_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
)

func TestClaim(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	id := b.enqueue(func(r *queue.Request) { r.Timeout = time.Minute })
	claimed := b.claim(worker, 5)
	if len(claimed) != 1 {
		t.Fatalf("%d claims of one execution", len(claimed))
	}
	c := claimed[0]
	want := queue.Claimed{
		ID: id, WorkerID: worker, OrganizationID: b.org, WorkflowID: b.workflow, WorkflowSlug: "w-" + b.workflow.String(), Version: 1, Number: 1,
		Source: execution.FromAPI, Claim: 1, QueuedAt: c.QueuedAt, ClaimedAt: c.ClaimedAt, Inputs: []byte(`{"n": 1}`), ReceivedAt: c.ReceivedAt,
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	x := b.get(id)
	if x.Status != execution.Running || *x.WorkerID != worker || x.LastSeq != 2 || x.StartedAt != nil {
		t.Errorf("execution %+v", x)
	}
	if !x.ClaimedAt.Equal(c.ClaimedAt) || x.DeadlineAt.Sub(*x.ClaimedAt) != time.Minute {
		t.Errorf("claimed at %v, deadline at %v", x.ClaimedAt, x.DeadlineAt)
	}
	if got := pgtest.Get[string](t, b.pool, "SELECT type || ' ' || (data->>'claim') FROM execution_events WHERE execution_id = $1 AND seq = 2", id); got != "execution.claimed 1" {
		t.Errorf("event 2 is %s", got)
	}
	if again := b.claim(b.join(), 5); len(again) != 0 {
		t.Errorf("claimed twice: %v", again)
	}

	// Given back, as a drain will do: the claim rises again and the deadline stays.
	pgtest.Exec(t, b.pool, `WITH freed AS (UPDATE executions SET worker_id = NULL, claim = claim + 1 WHERE id = $1 RETURNING id)
		INSERT INTO execution_queue SELECT id, '-infinity' FROM freed`, id)
	b.check()
	again := b.claim(worker, 5)
	if len(again) != 1 || again[0].Claim != 3 {
		t.Fatalf("after a release: %+v", again)
	}
	if deadline := b.get(id).DeadlineAt; !deadline.Equal(*x.DeadlineAt) {
		t.Errorf("the deadline moved from %v to %v", x.DeadlineAt, deadline)
	}
}

func TestClaimOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	// Minutes that each has waited beyond the others, and its priority, which is worth five.
	kinds := []struct{ waited, priority int }{{0, 0}, {0, 10}, {0, -10}, {51, 0}, {4, 0}, {0, 1}, {6, 0}, {0, 0}}
	ids := map[uuid.UUID]int{}
	for i, k := range kinds {
		id := b.enqueue(priority(k.priority))
		ids[id] = i
		pgtest.Exec(t, b.pool, "UPDATE execution_queue SET run_order = run_order - $2 * interval '1 minute' WHERE execution_id = $1", id, k.waited)
		if got, ok, err := b.executions.QueuePosition(t.Context(), id); err != nil || !ok || got.Ahead > i {
			t.Errorf("position %+v, %t, %v", got, ok, err)
		}
	}
	var got []int
	for range kinds {
		for _, c := range b.claim(worker, 1) {
			got = append(got, ids[c.ID])
		}
	}
	if diff := cmp.Diff([]int{3, 1, 6, 5, 4, 0, 7, 2}, got); diff != "" {
		t.Error(diff)
	}
	if _, ok, err := b.executions.QueuePosition(t.Context(), b.enqueue()); err != nil || !ok {
		t.Errorf("a queued execution has no position: %v", err)
	}
	if _, ok, err := b.executions.QueuePosition(t.Context(), uuid.New()); err != nil || ok {
		t.Errorf("an unknown execution has a position: %v", err)
	}
}

func TestClaimNeverTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	const claimers, executions, limit = 8, 120, 7
	b.enqueueMany(executions)
	var mu sync.Mutex
	times := map[uuid.UUID]int{}
	seen := func(claimed []queue.Claimed) (all bool) {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range claimed {
			if times[c.ID]++; c.Claim != 1 {
				t.Errorf("claim %d of a new execution", c.Claim)
			}
		}
		return len(times) == executions
	}
	var group sync.WaitGroup
	for range claimers {
		worker := b.join()
		group.Go(func() {
			for !seen(nil) {
				claimed, err := b.queue.Claim(t.Context(), worker, limit)
				if err != nil || len(claimed) > limit {
					t.Errorf("%d claims, %v", len(claimed), err)
					return
				}
				seen(claimed)
			}
		})
	}
	group.Wait()
	for id, n := range times {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
	if rows := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM execution_queue"); rows != 0 {
		t.Errorf("%d rows are left in the queue", rows)
	}
}

func TestClaimNeverWaits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	ids := b.enqueueMany(4)
	for _, lock := range []struct {
		sql string
		id  uuid.UUID
	}{
		{"SELECT 1 FROM executions WHERE id = $1 FOR NO KEY UPDATE", ids[0]},
		{"SELECT 1 FROM execution_queue WHERE execution_id = $1 FOR UPDATE", ids[1]},
		{"SELECT 1 FROM workflows WHERE id = $1 FOR NO KEY UPDATE", b.workflow}, // as an enqueue holds it
	} {
		t.Cleanup(b.lock(lock.sql, lock.id))
	}
	// A claim that waited for a lock would fail.
	pool := pgtest.Open(t, b.url+"&lock_timeout=1", postgres.Options{})
	claimed, err := queue.NewStore(pool, nil).Claim(t.Context(), worker, 2) // the limit counts what is free
	if err != nil {
		t.Fatal(err)
	}
	got := map[uuid.UUID]bool{}
	for _, c := range claimed {
		got[c.ID] = true
	}
	if diff := cmp.Diff(map[uuid.UUID]bool{ids[2]: true, ids[3]: true}, got); diff != "" {
		t.Error(diff)
	}
}

func TestClaimIsForActiveWorkers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	id := b.enqueue()
	for name, end := range map[string]func(worker uuid.UUID) error{
		"draining": func(w uuid.UUID) error { return b.queue.Drain(t.Context(), w) },
		"gone":     func(w uuid.UUID) error { return b.queue.Leave(t.Context(), w) },
		"past its lease": func(w uuid.UUID) error {
			pgtest.Exec(t, b.pool, "UPDATE workers SET lease_until = now() WHERE id = $1", w)
			return nil
		},
		"unknown": func(w uuid.UUID) error { pgtest.Exec(t, b.pool, "DELETE FROM workers WHERE id = $1", w); return nil },
	} {
		worker := b.join()
		if err := end(worker); err != nil {
			t.Fatal(err)
		}
		if claimed := b.claim(worker, 1); len(claimed) != 0 {
			t.Errorf("a worker that is %s has claimed", name)
		}
	}
	if claimed := b.claim(b.join(), 1); len(claimed) != 1 || claimed[0].ID != id || claimed[0].Claim != 1 {
		t.Errorf("an active worker got %+v", claimed)
	}
}
