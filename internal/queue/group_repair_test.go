package queue_test

import (
	"io/fs"
	"slices"
	"testing"

	"github.com/google/uuid"

	"foundry/db"
	"foundry/internal/pgtest"
)

func TestStuckGroupsAreFreed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	want := func(groups, left int) ([]uuid.UUID, []uuid.UUID) {
		t.Helper()
		g, l, err := b.queue.StuckGroups(t.Context())
		if err != nil || len(g) != groups || len(l) != left {
			t.Fatalf("stuck %v, left %v, %v", g, l, err)
		}
		return g, l
	}
	first, second, third := b.enqueue(grouped("a", 1)), b.enqueue(grouped("a", 1)), b.enqueue(grouped("a", 1))
	want(0, 0)
	// A slot that has vanished.
	pgtest.Exec(t, b.pool, "DELETE FROM concurrency_slots")
	pgtest.Exec(t, b.pool, "DELETE FROM execution_queue")
	pgtest.Exec(t, b.pool, "DELETE FROM executions WHERE id = $1", first)
	pgtest.Exec(t, b.pool, "DELETE FROM execution_events WHERE execution_id = $1", first)
	groups, left := want(1, 0)
	if err := b.queue.FreeGroups(t.Context(), groups, left); err != nil {
		t.Fatal(err)
	}
	b.wantGroup("a", list{second}, list{third})
	// What a release without groups has ended: one with a slot, and one that waits.
	fourth := b.enqueue(grouped("a", 1))
	for _, id := range (list{second, third}) {
		pgtest.Exec(t, b.pool, "UPDATE executions SET status = 'canceled', finished_at = now(), last_seq = 2 WHERE id = $1", id)
		pgtest.Exec(t, b.pool, "INSERT INTO execution_events (day, execution_id, seq, type) VALUES (execution_day($1), $1, 2, 'execution.canceled')", id)
	}
	groups, left = want(0, 2)
	if err := b.queue.FreeGroups(t.Context(), groups, left); err != nil {
		t.Fatal(err)
	}
	b.wantGroup("a", list{fourth}, list{})
	want(0, 0)

	// One that is in no place waits again, with its own limit, even if the group has gone.
	fifth := b.enqueue(grouped("a", 1))
	pgtest.Exec(t, b.pool, "DELETE FROM concurrency_waiters")
	if ids, err := b.queue.Misplaced(t.Context()); err != nil || !slices.Equal(ids, list{fifth}) {
		t.Fatalf("misplaced %v, %v", ids, err)
	}
	for _, want := range []bool{true, false} {
		if replaced, err := b.queue.Replace(t.Context(), fifth); err != nil || replaced != want {
			t.Errorf("put back: %t, %v", replaced, err)
		}
	}
	b.wantGroup("a", list{fourth}, list{fifth})
	pgtest.Exec(t, b.pool, "DELETE FROM execution_queue")
	if replaced, err := b.queue.Replace(t.Context(), fourth); err != nil || !replaced {
		t.Errorf("put back: %t, %v", replaced, err)
	}
	b.wantGroup("a", list{fourth}, list{fifth})
	sixth := b.enqueue(grouped("b", 2))
	pgtest.Exec(t, b.pool, "DELETE FROM concurrency_slots WHERE execution_id = $1", sixth)
	pgtest.Exec(t, b.pool, "DELETE FROM execution_queue WHERE execution_id = $1", sixth)
	pgtest.Exec(t, b.pool, "DELETE FROM concurrency_groups WHERE name = 'b'")
	if replaced, err := b.queue.Replace(t.Context(), sixth); err != nil || !replaced {
		t.Errorf("put back: %t, %v", replaced, err)
	}
	b.wantGroup("b", list{sixth}, list{})
	if limit := pgtest.Get[int](t, b.pool, "SELECT max_running FROM concurrency_groups WHERE name = 'b'"); limit != 2 {
		t.Errorf("limit %d", limit)
	}
}

func TestUnusedGroupsAreSwept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	first := b.enqueue(grouped("a", 1))
	waits := b.enqueue(grouped("a", 1))
	b.cancel(b.enqueue(grouped("b", 1)))
	b.pause(true)
	paused := b.enqueue(grouped("c", 1))
	if n, err := b.queue.SweepGroups(t.Context()); n != 1 || err != nil {
		t.Errorf("%d swept, %v", n, err)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM concurrency_groups"); n != 2 {
		t.Errorf("%d groups are left", n)
	}
	b.pause(false)
	b.wantGroup("c", list{paused}, list{})
	b.wantGroup("a", list{first}, list{waits})
	// One who enters while it is swept finds it, or makes it again.
	b.cancel(paused)
	release := b.lock("SELECT 1 FROM concurrency_groups WHERE name = 'c' FOR UPDATE")
	entered := make(chan uuid.UUID)
	go func() { entered <- b.enqueue(grouped("c", 1)) }()
	if n, err := b.queue.SweepGroups(t.Context()); n != 0 || err != nil {
		t.Errorf("%d swept that somebody has locked, %v", n, err)
	}
	release()
	b.wantGroup("c", list{<-entered}, list{})
}

// TestAdmissionOfWhatIsInTheQueue: a release without groups takes what is blocked for misplaced. Who makes room for it ends all the same.
func TestAdmissionOfWhatIsInTheQueue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	first, second := b.enqueue(grouped("a", 1)), b.enqueue(grouped("a", 1))
	pgtest.Exec(t, b.pool, "INSERT INTO execution_queue (execution_id, run_order) VALUES ($1, now())", second)
	b.cancel(first)
	b.wantGroup("a", list{second}, list{})
}

// TestGoingDownUnblocks: without groups nothing waits for them.
func TestGoingDownUnblocks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sibling := b.sibling()
	first, second := b.enqueue(grouped("a", 1), sibling), b.enqueue(grouped("a", 1), sibling)
	paused := b.enqueue(grouped("a", 1))
	b.pause(true)
	down, err := fs.ReadFile(db.Migrations, "migrations/000008_groups.down.sql")
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, b.pool, string(down))
	got := b.ids("SELECT execution_id FROM execution_queue WHERE NOT paused ORDER BY run_order, execution_id")
	if !slices.Equal(got, list{first, second}) {
		t.Errorf("ready: %v, want %v", got, list{first, second})
	}
	if got := b.ids("SELECT execution_id FROM execution_queue WHERE paused"); !slices.Equal(got, list{paused}) {
		t.Errorf("paused: %v, want %v", got, paused)
	}
}
