package queue_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
)

func TestRenew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker, other := b.join(), b.join()
	b.enqueueMany(3)
	mine, theirs := b.claim(worker, 2), b.claim(other, 2)
	if len(mine) != 2 || len(theirs) != 1 {
		t.Fatalf("%d and %d claims", len(mine), len(theirs))
	}
	if err := b.queue.Cancel(t.Context(), b.org, mine[1].ID, "test"); err != nil {
		t.Fatal(err)
	}
	want := map[uuid.UUID]queue.Held{
		mine[0].ID: {ID: mine[0].ID, Claim: 1},
		mine[1].ID: {ID: mine[1].ID, Claim: 1, Facts: queue.Facts{Signal: 1, Canceled: true}},
	}
	for _, state := range []string{"active", "draining"} {
		pgtest.Exec(t, b.pool, "UPDATE workers SET lease_until = now() - interval '1 hour', state = $2 WHERE id = $1", worker, state)
		held, err := b.queue.Renew(t.Context(), worker, queue.DefaultLease)
		if err != nil {
			t.Fatal(err)
		}
		got := map[uuid.UUID]queue.Held{}
		for _, h := range held {
			got[h.ID] = h
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		left := pgtest.Get[float64](t, b.pool, "SELECT EXTRACT(epoch FROM lease_until - now())::float8 FROM workers WHERE id = $1", worker)
		if d := time.Duration(left * float64(time.Second)); d > queue.DefaultLease || d < 0 {
			t.Errorf("%s: the lease has %v left of %v", state, d, queue.DefaultLease)
		}
	}

	if err := b.queue.Leave(t.Context(), worker); err != nil {
		t.Fatal(err)
	}
	_, err := b.queue.Renew(t.Context(), worker, queue.DefaultLease)
	wantCode(t, err, errs.StaleClaim)
	_, err = b.queue.Renew(t.Context(), uuid.New(), queue.DefaultLease)
	wantCode(t, err, errs.StaleClaim)

	t.Run("gone is final", func(t *testing.T) {
		at := pgtest.Get[time.Time](t, b.pool, "SELECT gone_at FROM workers WHERE id = $1", worker)
		for name, f := range map[string]func() error{
			"leave": func() error { return b.queue.Leave(t.Context(), worker) },
			"drain": func() error { return b.queue.Drain(t.Context(), worker) },
		} {
			if err := f(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got := pgtest.Get[string](t, b.pool, "SELECT state FROM workers WHERE id = $1", worker); got != "gone" {
				t.Errorf("after %s it is %s", name, got)
			}
		}
		if again := pgtest.Get[time.Time](t, b.pool, "SELECT gone_at FROM workers WHERE id = $1", worker); !again.Equal(at) {
			t.Errorf("it left at %v and again at %v", at, again)
		}
	})
}
