package queue_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"foundry/internal/errs"
	"foundry/internal/failpoint"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

// groupModel is what a group should be, worked out in the simplest way there is.
type groupModel struct {
	limit   int
	held    map[uuid.UUID]bool
	waiting []modelWaiter
}

type modelWaiter struct {
	id     uuid.UUID
	order  time.Time
	pauses bool // it is of the workflow that is paused now and then
}

func (m *groupModel) admit(paused bool) {
	slices.SortFunc(m.waiting, func(x, y modelWaiter) int {
		if c := x.order.Compare(y.order); c != 0 {
			return c
		}
		return slices.Compare(x.id[:], y.id[:])
	})
	for {
		next := slices.IndexFunc(m.waiting, func(w modelWaiter) bool { return !w.pauses || !paused })
		if len(m.held) >= m.limit || next < 0 {
			return
		}
		m.held[m.waiting[next].id] = true
		m.waiting = slices.Delete(m.waiting, next, next+1)
	}
}

func (m *groupModel) leave(id uuid.UUID) {
	delete(m.held, id)
	m.waiting = slices.DeleteFunc(m.waiting, func(w modelWaiter) bool { return w.id == id })
}

// all returns everybody in the group, in an order that does not depend on the run.
func (m *groupModel) all() []uuid.UUID {
	ids := slices.Collect(maps.Keys(m.held))
	for _, w := range m.waiting {
		ids = append(ids, w.id)
	}
	slices.SortFunc(ids, func(x, y uuid.UUID) int { return slices.Compare(x[:], y[:]) })
	return ids
}

// TestGroupAdmitsInOrder is the property that groups are for: whoever comes, leaves, is paused or resumed, and whatever the limits, those
// who go first in order have the slots, and nobody else.
func TestGroupAdmitsInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	sibling, runs := b.sibling(), 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		models := map[string]*groupModel{}
		for n := range 2 {
			models[fmt.Sprintf("%d-%d", runs, n)] = &groupModel{limit: 1, held: map[uuid.UUID]bool{}}
		}
		names := slices.Sorted(maps.Keys(models))
		paused := false
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			name := rapid.SampledFrom(names).Draw(rt, "group")
			m := models[name]
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0, 1, 2:
				r := b.request()
				m.limit = rapid.IntRange(1, 3).Draw(rt, "limit")
				r.Priority = rapid.IntRange(-1, 1).Draw(rt, "priority")
				grouped(name, m.limit)(&r)
				pauses := rapid.Bool().Draw(rt, "pauses")
				if !pauses {
					sibling(&r)
				}
				q, err := b.queue.Enqueue(t.Context(), r)
				if err != nil {
					rt.Fatal(err)
				}
				m.waiting = append(m.waiting, modelWaiter{q.ID, q.QueuedAt.Add(-time.Duration(r.Priority) * 5 * time.Minute), pauses})
			case 3, 4:
				if all := m.all(); len(all) > 0 {
					id := rapid.SampledFrom(all).Draw(rt, "leaves")
					b.cancel(id)
					m.leave(id)
				}
			case 5:
				paused = !paused
				b.pause(paused)
			}
			for name, m := range models {
				m.admit(paused)
				held, _ := b.group(name)
				if want := slices.SortedFunc(maps.Keys(m.held), func(x, y uuid.UUID) int { return slices.Compare(x[:], y[:]) }); !slices.Equal(held, want) {
					rt.Fatalf("%v have the slots of %s, want %v", held, name, want)
				}
			}
		}
		b.pause(false)
		for _, m := range models {
			for _, id := range m.all() {
				b.cancel(id)
			}
		}
	})
}

// TestGroupRaces has two things happen at once, again and again, to an execution with the only slot and one that waits. Whatever comes first:
// every execution is in one place, and the slot goes on to who waits.
func TestGroupRaces(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	late := func(r *queue.Request) { r.QueueTimeout = time.Nanosecond }
	cancel := func(id uuid.UUID) error {
		err := b.queue.Cancel(t.Context(), b.org, id, "ann")
		if errs.Is(err, errs.Finished) {
			return nil
		}
		return err
	}
	deadlines := func() error { _, err := b.queue.PassDeadlines(t.Context()); return err }
	claim := func() error { _, err := b.queue.Claim(t.Context(), worker, 1); return err }
	const rounds = 25
	for name, race := range map[string]func(group string, holder, waiter uuid.UUID) [2]func() error{
		"end and enqueue": func(group string, holder, _ uuid.UUID) [2]func() error {
			return [2]func() error{func() error { return cancel(holder) }, func() error { b.enqueue(grouped(group, 1)); return nil }}
		},
		"end and cancel of who waits": func(_ string, holder, waiter uuid.UUID) [2]func() error {
			return [2]func() error{func() error { return cancel(holder) }, func() error { return cancel(waiter) }}
		},
		"end and deadline of who waits": func(_ string, holder, _ uuid.UUID) [2]func() error {
			return [2]func() error{func() error { return cancel(holder) }, deadlines}
		},
		"deadline and claim": func(string, uuid.UUID, uuid.UUID) [2]func() error { return [2]func() error{deadlines, claim} },
		"two deadlines":      func(string, uuid.UUID, uuid.UUID) [2]func() error { return [2]func() error{deadlines, deadlines} },
		"pause and end": func(_ string, holder, _ uuid.UUID) [2]func() error {
			return [2]func() error{func() error { return cancel(holder) }, func() error { b.pause(true); b.pause(false); return nil }}
		},
		"sweep and enqueue": func(group string, holder, waiter uuid.UUID) [2]func() error {
			return [2]func() error{
				func() error {
					_, err := b.queue.SweepGroups(t.Context())
					return errors.Join(err, cancel(holder), cancel(waiter), func() error { _, err := b.queue.SweepGroups(t.Context()); return err }())
				},
				func() error { b.enqueue(grouped(group, 1)); b.enqueue(grouped(group+"!", 1)); return nil },
			}
		},
		"two repairs": func(group string, holder, _ uuid.UUID) [2]func() error {
			free := func() error { return b.queue.FreeGroups(t.Context(), []uuid.UUID{queue.GroupID(b.org, group)}, nil) }
			return [2]func() error{free, func() error { return errors.Join(cancel(holder), free()) }}
		},
	} {
		for round := range rounds {
			group := fmt.Sprintf("%s %d", name, round)
			holder := b.enqueue(grouped(group, 1), func(r *queue.Request) {
				if round%2 == 0 && name != "end and cancel of who waits" {
					late(r)
				}
			})
			waiter := b.enqueue(grouped(group, 1), late)
			var both sync.WaitGroup
			for _, f := range race(group, holder, waiter) {
				both.Go(func() {
					if err := f(); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			both.Wait()
		}
		b.check()
		for _, id := range b.ids("SELECT id FROM executions WHERE status = 'queued'") {
			b.cancel(id)
		}
		b.check()
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM concurrency_waiters"); n != 0 {
		t.Errorf("%d wait yet", n)
	}
}

// TestGroupCrashes has processes fail right before and right after the commits that move a group, and asks for the same once more.
func TestGroupCrashes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	boom := errors.New("the process is gone")
	at := func(point string) context.Context {
		return failpoint.With(t.Context(), func(_ context.Context, name string) failpoint.Answer {
			if name == point {
				return failpoint.Answer{Err: boom}
			}
			return failpoint.Answer{}
		})
	}
	for _, point := range []string{"queue.commit" + failpoint.Before, "queue.commit" + failpoint.After} {
		had := point == "queue.commit"+failpoint.After
		ctx := at(point)
		holder, waiter := b.enqueue(grouped(point, 1)), b.enqueue(grouped(point, 1))
		r := b.request()
		r.ID = uuid.Must(uuid.NewV7())
		grouped(point, 1, workflow.ConflictCancelRunning)(&r)
		if _, err := b.queue.Enqueue(ctx, r); !errors.Is(err, boom) {
			t.Fatalf("%s: %v", point, err)
		}
		b.check()
		want := list{waiter}
		if had {
			want = append(want, r.ID)
		}
		b.wantGroup(point, list{holder}, want)

		if err := b.queue.Cancel(ctx, b.org, holder, "ann"); !errors.Is(err, boom) {
			t.Fatalf("%s: %v", point, err)
		}
		if had {
			// It waits to replace what has the slot now, and the process that was to see to that is gone.
			b.wantGroup(point, list{waiter}, list{r.ID})
			if n, err := b.queue.CancelSuperseded(t.Context()); n != 1 || err != nil {
				t.Errorf("%d canceled, %v", n, err)
			}
			b.wantGroup(point, list{r.ID}, list{})
			continue
		}
		b.wantGroup(point, list{holder}, list{waiter})
		b.cancel(holder)
		b.wantGroup(point, list{waiter}, list{})
	}
}

// TestWhoWaitsIsAdmittedAndLeaves has an admission be committed right when the one that is admitted ends: its end waits for that, and leaves neither a
// slot nor a place in the queue.
func TestWhoWaitsIsAdmittedAndLeaves(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	for name, end := range map[string]func(waiter uuid.UUID) error{
		"cancel":   func(waiter uuid.UUID) error { return b.queue.Cancel(t.Context(), b.org, waiter, "ann") },
		"deadline": func(uuid.UUID) error { _, err := b.queue.PassDeadlines(t.Context()); return err },
		"pause":    func(uuid.UUID) error { b.pause(true); return nil },
	} {
		b.enqueue(grouped(name, 1))
		waiter := b.enqueue(grouped(name, 1), func(r *queue.Request) { r.QueueTimeout = time.Nanosecond })
		group := queue.GroupID(b.org, name)
		tx, err := b.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, move := range []string{
			"UPDATE concurrency_groups SET max_running = 2 WHERE id = $2 AND $1::uuid IS NOT NULL",
			"DELETE FROM concurrency_waiters WHERE execution_id = $1 AND group_id = $2",
			"INSERT INTO concurrency_slots (execution_id, group_id) VALUES ($1, $2)",
			"INSERT INTO execution_queue (execution_id, run_order) SELECT $1, now() WHERE $2::uuid IS NOT NULL",
		} {
			if _, err := tx.Exec(t.Context(), move, waiter, group); err != nil {
				t.Fatal(err)
			}
		}
		ended := make(chan error, 1)
		go func() { ended <- end(waiter) }()
		b.awaitLock()
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.check()
		if x := b.get(waiter); name != "pause" && !x.Status.Terminal() {
			t.Errorf("%s: it is %s", name, x.Status)
		}
		b.pause(false)
	}
}

// awaitLock waits until somebody waits for a row.
func (b *testBundle) awaitLock() {
	b.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for pgtest.Get[int](b.t, b.pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 0 {
		select {
		case <-deadline:
			b.t.Fatal("nobody waits for a lock")
		case <-tick.C:
		}
	}
}
