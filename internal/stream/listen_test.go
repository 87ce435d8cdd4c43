package stream

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

func TestTwoHubsOnOneDatabase(t *testing.T) {
	t.Parallel()
	pgtest.NeedsNotify(t)
	b := setup(t)
	here, stopHere := b.stoppableHub(t, never)
	there := b.hub(t, never)
	b.listen(t, there)
	x := b.execution(t)

	w := b.watch(t, here, x.id, 0, Logs{})
	last := x.add(t, repeat(3)...)
	here.Nudge(x.id)
	if diff := cmp.Diff(rise(0, last), collect(t, w, last)); diff != "" {
		t.Error(diff)
	}
	remote := b.watch(t, there, x.id, w.Position(), Logs{})
	if batch, _, err := remote.Poll(t.Context()); err != nil || len(batch) > 0 {
		t.Errorf("the other hub repeats %d events, %v", len(batch), err)
	}
	stopHere()
	last = x.add(t, repeat(2)...)
	x.notify(t)
	if diff := cmp.Diff(rise(w.Position(), last), collect(t, remote, last)); diff != "" {
		t.Error(diff)
	}
}

func TestListenerIsLost(t *testing.T) {
	t.Parallel()
	pgtest.NeedsNotify(t)
	b := setup(t)
	h := b.hub(t, never)
	b.listen(t, h)
	organizationID, workflowID := b.organization(t)
	x := b.executionOf(t, workflowID)
	w := b.watch(t, h, x.id, 0, Logs{})
	collect(t, w, 1)
	list, err := h.WatchOrganization(t.Context(), organizationID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(list.Close)

	b.exec(t, `UPDATE pg_database SET datallowconn = false WHERE datname = current_database()`) // it stays away until we say
	waitFor(t, func() bool {                                                                    // until it has gone, however long that takes it
		return pgtest.Get[int](t, b.pool, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE application_name = 'listener' AND datname = current_database()`) == 0
	})
	last := x.add(t, repeat(2)...)
	x.notify(t) // nobody listens
	b.exec(t, `UPDATE pg_database SET datallowconn = true WHERE datname = current_database()`)
	if diff := cmp.Diff(rise(1, last), collect(t, w, last)); diff != "" {
		t.Error(diff)
	}
	if _, reset := nextSummaries(t, list); !reset {
		t.Error("the organization's stream was not reset")
	}
	last = x.add(t, repeat(1)...)
	x.notify(t)
	collect(t, w, last)
	if frames, reset := nextSummaries(t, list); reset || len(frames) != 1 {
		t.Errorf("after the reset came %q, %v", frames, reset)
	}
}

func TestOnNotify(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.hub(t, never)
	x := b.execution(t)
	w := b.watch(t, h, x.id, 0, Logs{})
	collect(t, w, 1)
	h.OnNotify(postgres.Notification{Channel: postgres.ChannelWork})
	for _, payload := range []string{"*", "not an id"} {
		last := x.add(t, repeat(1)...)
		h.OnNotify(postgres.Notification{Channel: postgres.ChannelEvents, Payload: payload})
		collect(t, w, last)
	}
}
