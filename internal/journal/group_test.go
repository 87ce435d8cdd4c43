package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/journal"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

func (b *testBundle) enter(ctx context.Context, name string, limit int, onConflict workflow.OnConflict) uuid.UUID {
	b.t.Helper()
	q, err := b.queue.Enqueue(ctx, queue.Request{
		OrganizationID: b.org, WorkflowID: b.workflow, Version: 1, Source: execution.FromAPI, Inputs: json.RawMessage(`{}`), QueueTimeout: time.Hour,
		Group: &workflow.Group{Name: name, Limit: limit, OnConflict: onConflict},
	})
	if err != nil {
		b.t.Error(err)
	}
	return q.ID
}

// claimAll claims what is ready, which are to be n.
func (b *testBundle) claimAll(n int) []queue.Claimed {
	b.t.Helper()
	claimed, err := b.queue.Claim(b.t.Context(), b.worker, 100)
	if err != nil || len(claimed) != n {
		b.t.Fatalf("%d claims of %d, %v", len(claimed), n, err)
	}
	return claimed
}

// listen returns what waits for the first wake-up of workers from now on.
func (b *testBundle) listen() (woken func() error) {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(b.t.Context())) })
	if _, err := conn.Exec(b.t.Context(), "LISTEN "+postgres.ChannelWork); err != nil {
		b.t.Fatal(err)
	}
	return func() error {
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
		defer cancel()
		_, err := conn.WaitForNotification(ctx)
		return err
	}
}

// TestEndsAdmit: whatever ends executions, the journal gives their slots on in the same commit, and wakes the workers with it.
func TestEndsAdmit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	enter := func(name string) uuid.UUID { return b.enter(t.Context(), name, 1, workflow.ConflictQueue) }
	lost := execution.Failure{Code: "test", Message: "It is over."}
	for name, end := range map[string]func(j *running, id uuid.UUID) error{
		"End":  func(j *running, id uuid.UUID) error { _, err := j.Commit(t.Context(), completed(id)); return err },
		"Fail": func(j *running, id uuid.UUID) error { return j.Fail(t.Context(), id, 1, lost) },
		"Force": func(j *running, id uuid.UUID) error {
			return j.Force(t.Context(), id, 1, execution.Canceled, nil, lost)
		},
		"data that cannot be stored": func(j *running, id uuid.UUID) error {
			e := warning(id, 1)
			e.Records[0].Data = json.RawMessage(`{`)
			if _, err := j.Commit(t.Context(), e); !errs.Is(err, errs.Internal) {
				return fmt.Errorf("it was stored: %w", err)
			}
			return nil
		},
	} {
		first := enter(name)
		b.claimAll(1)
		second := enter(name)
		b.claimAll(0)
		j, woken := b.start(), b.listen() // one that has notified just now would not do it at once
		if err := end(j, first); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := woken(); err != nil {
			t.Errorf("%s wakes nobody: %v", name, err)
		}
		b.check()
		if claimed := b.claimAll(1); claimed[0].ID != second {
			t.Errorf("%s: claimed %s, want %s", name, claimed[0].ID, second)
		}
		if err := end(j, second); err != nil {
			t.Fatal(err)
		}
	}
	j := b.start()
	// One batch ends many, of one group and of several, and admits for all.
	var held []uuid.UUID
	for n := range 6 {
		b.enter(t.Context(), fmt.Sprint("many ", n%3), 2, workflow.ConflictQueue)
	}
	for _, x := range b.claimAll(6) {
		held = append(held, x.ID)
	}
	for n := range 9 {
		b.enter(t.Context(), fmt.Sprint("many ", n%3), 2, workflow.ConflictQueue)
	}
	release := b.hold(j)
	answers := make([]<-chan answer, 0, len(held))
	before := j.statements.Count("GroupAdmit")
	for _, id := range held {
		answers = append(answers, j.submit(t, completed(id)))
	}
	release()
	for _, a := range answers {
		if got := <-a; got.err != nil {
			t.Error(got.err)
		}
	}
	if n := j.statements.Count("GroupAdmit") - before; n != 1 {
		t.Errorf("admitted %d times", n)
	}
	b.check()
	b.claimAll(6)
	// Without a group nothing is asked.
	before = j.statements.Count("GroupLock") + j.statements.Count("GroupAdmit")
	for _, id := range b.claimed(2) {
		j.commit(t, completed(id))
	}
	if n := j.statements.Count("GroupLock") + j.statements.Count("GroupAdmit") - before; n != 0 {
		t.Errorf("%d statements about groups for executions of none", n)
	}
}

// TestGroupKeepsOne has many come that each replace what runs: in the end the newest runs, alone.
func TestGroupKeepsOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	const newcomers = 12
	var all sync.WaitGroup
	for range newcomers {
		all.Go(func() { b.enter(t.Context(), "deploy", 1, workflow.ConflictCancelRunning) })
	}
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		all.Wait()
	}()
	newest := func() uuid.UUID {
		return pgtest.Get[uuid.UUID](t, b.pool, "SELECT id FROM executions ORDER BY queued_at DESC, id DESC LIMIT 1")
	}
	await(t, "only the newest to run", func() bool {
		claimed, err := b.queue.Claim(t.Context(), b.worker, 10)
		if err != nil {
			t.Fatal(err)
		}
		_ = claimed
		if _, err := b.queue.CancelSuperseded(t.Context()); err != nil {
			t.Fatal(err)
		}
		held, err := b.queue.Held(t.Context(), b.worker)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range held {
			if x.Facts.CancelForced {
				t.Fatal("a cancel was forced")
			}
			if !x.Facts.Canceled {
				continue
			}
			e := &journal.Entry{
				ExecutionID: x.ID, Claim: x.Claim, Signal: x.Facts.Signal, Records: []journal.Record{{Type: event.ExecutionCanceled}},
				End: &journal.End{Status: execution.Canceled},
			}
			if _, err := j.Commit(t.Context(), e); err != nil && !errs.Is(err, errs.Conflict) {
				t.Fatal(err)
			}
		}
		select {
		case <-settled:
		default:
			return false
		}
		return len(held) == 1 && held[0].ID == newest() && !held[0].Facts.Canceled &&
			pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE status = 'canceled'") == newcomers-1
	})
}

// TestGroupSurvivesACrash has a worker be gone right before and right after the commit that ends an execution.
func TestGroupSurvivesACrash(t *testing.T) {
	t.Parallel()
	boom := errors.New("the worker is gone")
	for _, point := range []string{"journal.commit" + failpoint.Before, "journal.commit" + failpoint.After} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			defer b.check()
			b.enter(t.Context(), "a", 1, workflow.ConflictQueue)
			first := b.claimAll(1)[0].ID
			second := b.enter(t.Context(), "a", 1, workflow.ConflictQueue)
			pool := pgtest.Open(t, b.url, postgres.Options{})
			j := journal.New(journal.Config{Pool: pool, Notifier: postgres.NewNotifier(pool, zerolog.Nop()), Logger: zerolog.Nop()})
			ctx, gone := context.WithCancel(failpoint.With(t.Context(), func(_ context.Context, name string) failpoint.Answer {
				if name == point {
					return failpoint.Answer{Err: errs.E(errs.Unknown, "The answer is lost.").Because(boom)}
				}
				return failpoint.Answer{}
			}))
			var run sync.WaitGroup
			run.Go(func() { _ = j.Run(ctx) })
			if _, err := j.Commit(t.Context(), completed(first)); !errors.Is(err, boom) {
				t.Fatal(err)
			}
			gone()
			run.Wait()
			b.check()
			if point == "journal.commit"+failpoint.After {
				if claimed := b.claimAll(1); claimed[0].ID != second {
					t.Errorf("claimed %s", claimed[0].ID)
				}
				return
			}
			// The slot stays with the execution until whoever takes it over has ended it.
			b.claimAll(0)
			pgtest.Exec(t, b.pool, "UPDATE workers SET lease_until = now() - interval '1 second'")
			if _, err := b.queue.Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.check()
			b.worker = execution.NewID()
			if err := b.queue.Join(t.Context(), queue.Worker{ID: b.worker, Host: "host", PID: 2, Version: "test", Slots: 10, Lease: time.Hour}); err != nil {
				t.Fatal(err)
			}
			again := b.claimAll(1)[0]
			end := completed(again.ID)
			end.Claim = again.Claim
			b.start().commit(t, end)
			if claimed := b.claimAll(1); again.ID != first || claimed[0].ID != second {
				t.Errorf("claimed %s and %s", again.ID, claimed[0].ID)
			}
		})
	}
}
