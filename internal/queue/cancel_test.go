package queue_test

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/queue"
)

// types lists an execution's events.
func (b *testBundle) types(id uuid.UUID) []event.Type {
	b.t.Helper()
	page, err := event.NewStore(b.pool).Page(b.t.Context(), id, 0, event.PageMax, event.LogFilter{})
	if err != nil {
		b.t.Fatal(err)
	}
	var types []event.Type
	for _, e := range page {
		types = append(types, e.Type)
	}
	return types
}

func TestCancel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()

	t.Run("queued", func(t *testing.T) {
		id := b.enqueue()
		if err := b.queue.Cancel(t.Context(), b.org, id, "me"); err != nil {
			t.Fatal(err)
		}
		if x := b.get(id); x.Status != execution.Canceled || x.FinishedAt == nil || x.CancelRequestedAt == nil {
			t.Errorf("execution %+v", x)
		}
		if r := b.row(id); r.Claim != 1 {
			t.Errorf("claim %d: whoever held an older one may write", r.Claim)
		}
		if diff := cmp.Diff([]event.Type{event.ExecutionQueued, event.ExecutionCanceled}, b.types(id)); diff != "" {
			t.Error(diff)
		}
		if claimed := b.claim(worker, 1); len(claimed) != 0 {
			t.Error("a canceled execution was claimed")
		}
		wantCode(t, b.queue.Cancel(t.Context(), b.org, id, "me"), errs.Finished)
	})

	t.Run("held, and again", func(t *testing.T) {
		id := b.enqueue()
		b.claim(worker, 1)
		want := []row{{Claim: 1, Signal: 1, Canceled: true}, {Claim: 1, Signal: 2, Canceled: true, Forced: true}, {Claim: 1, Signal: 3, Canceled: true, Forced: true}}
		types := []event.Type{event.ExecutionQueued, event.ExecutionClaimed}
		for _, want := range want {
			if err := b.queue.Cancel(t.Context(), b.org, id, "me"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, b.row(id)); diff != "" {
				t.Error(diff)
			}
			types = append(types, event.ExecutionCancelRequested)
		}
		if x := b.get(id); x.Status != execution.Running || *x.WorkerID != worker {
			t.Errorf("a cancel took the execution from its worker: %+v", x)
		}
		if diff := cmp.Diff(types, b.types(id)); diff != "" {
			t.Error(diff)
		}
		held, err := b.queue.Held(t.Context(), worker)
		if diff := cmp.Diff([]queue.Held{{ID: id, Claim: 1, Facts: queue.Facts{Signal: 3, Canceled: true, CancelForced: true}}}, held); err != nil || diff != "" {
			t.Error(err, diff)
		}
	})

	t.Run("not there", func(t *testing.T) {
		id := b.enqueue()
		wantCode(t, b.queue.Cancel(t.Context(), b.org, uuid.New(), "me"), errs.NotFound)
		wantCode(t, b.queue.Cancel(t.Context(), uuid.New(), id, "me"), errs.NotFound)
		if x := b.get(id); x.Status != execution.Queued || x.LastSeq != 1 {
			t.Errorf("another organization canceled it: %+v", x)
		}
	})
}

// TestCancelRacesClaim lets both start at once: whoever is first, the execution is canceled for good, or
// held by a worker that is told.
func TestCancelRacesClaim(t *testing.T) {
	t.Parallel()
	b := setup(t)
	worker := b.join()
	ends := map[execution.Status]int{}
	defer b.check()
	for range 100 {
		id := b.enqueue()
		var claimed []queue.Claimed
		var claimErr, cancelErr error
		start := make(chan struct{})
		var group sync.WaitGroup
		group.Go(func() {
			<-start
			claimed, claimErr = b.queue.Claim(t.Context(), worker, 1)
		})
		group.Go(func() {
			<-start
			cancelErr = b.queue.Cancel(t.Context(), b.org, id, "me")
		})
		close(start)
		group.Wait()
		if claimErr != nil || cancelErr != nil {
			t.Fatal(claimErr, cancelErr)
		}
		x, r := b.get(id), b.row(id)
		ends[x.Status]++
		switch {
		case len(claimed) == 0 && x.Status == execution.Canceled && r.Signal == 0:
		case len(claimed) == 1 && x.Status == execution.Running && *x.WorkerID == worker && r.Canceled && r.Signal == 1:
		default:
			t.Fatalf("%d claims, execution %+v, row %+v", len(claimed), x, r)
		}
	}
	t.Logf("ends: %v", ends)
}
