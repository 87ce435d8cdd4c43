package queue_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
)

// limited makes n the installation's limit.
func (b *testBundle) limited(n int) {
	b.queue = queue.NewStore(b.pool, postgres.NewNotifier(b.pool, zerolog.Nop()), queue.QueuedMax(n))
}

// wantFull fails unless the queue refuses an execution with a sentence that has all the words.
func (b *testBundle) wantFull(words ...string) {
	b.t.Helper()
	_, err := b.queue.Enqueue(b.t.Context(), b.request())
	wantCode(b.t, err, queue.Full)
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			b.t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestQueuedLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	b.limited(3)
	worker := b.join()
	first := b.enqueueMany(3)
	if n := b.statements.Count("WorkflowCountQueued"); n != 0 {
		t.Errorf("%d counts while there had to be room", n)
	}
	b.wantFull("3 executions", "FOUNDRY_QUEUED_MAX")
	if n := b.get(first[2]).Number; n != 3 {
		t.Errorf("the third has number %d", n)
	}

	// Every way out of the queue makes room, and one that has begun and is back in it takes none.
	claimed := b.claim(worker, 1)
	if err := b.queue.Release(t.Context(), claimed[0].ID, claimed[0].Claim, "Test."); err != nil {
		t.Fatal(err)
	}
	if n := b.get(b.enqueue()).Number; n != 4 {
		t.Errorf("after a refusal comes number %d, want 4", n)
	}
	b.wantFull()
	if err := b.queue.Cancel(t.Context(), b.org, first[1], "ann"); err != nil {
		t.Fatal(err)
	}
	b.enqueue()
	b.wantFull()

	// The workflow's own limit goes before that of the installation, in both directions and at once.
	pgtest.Exec(t, b.pool, "UPDATE workflows SET max_queued = 5")
	b.enqueueMany(2)
	b.wantFull("5 executions", "its max_queued")
	pgtest.Exec(t, b.pool, "UPDATE workflows SET max_queued = 2")
	b.wantFull("2 executions")
	pgtest.Exec(t, b.pool, "UPDATE workflows SET max_queued = 0")
	b.wantFull("3 executions")

	r := b.request()
	r.WorkflowID = uuid.New()
	_, err := b.queue.Enqueue(t.Context(), r)
	wantCode(t, err, errs.NotFound)
}

// TestQueuedLimitIsCountedSeldom holds that what has left the queue buys as many executions without a count.
func TestQueuedLimitIsCountedSeldom(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	b.limited(20)
	worker := b.join()
	for range 10 {
		b.enqueueMany(20)
		if n := len(b.claim(worker, 20)); n != 20 {
			t.Fatalf("%d claims", n)
		}
	}
	if n := b.statements.Count("WorkflowCountQueued"); n != 9 {
		t.Errorf("%d counts for 200 executions, want one for every 20 but the first", n)
	}
}

// TestQueuedLimitIsExact races callers and a worker: whenever the limit is looked at, it holds, and it is reached.
func TestQueuedLimitIsExact(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	const limit, callers, each = 7, 6, 40
	b.limited(limit)
	worker := b.join()
	var callersDone, claims sync.WaitGroup
	done := make(chan struct{})
	for range callers {
		callersDone.Go(func() {
			for range each {
				if _, err := b.queue.Enqueue(t.Context(), b.request()); err != nil && !errs.Is(err, queue.Full) {
					t.Error(err)
				}
			}
		})
	}
	claims.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := b.queue.Claim(t.Context(), worker, 2); err != nil {
				t.Error(err)
				return
			}
			var queued int
			if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM executions WHERE status = 'queued'").Scan(&queued); err != nil || queued > limit {
				t.Errorf("%d are queued, %v; at most %d may be", queued, err, limit)
			}
		}
	})
	callersDone.Wait()
	close(done)
	claims.Wait()
	for {
		_, err := b.queue.Enqueue(t.Context(), b.request())
		if errs.Is(err, queue.Full) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE status = 'queued'"); n != limit {
		t.Errorf("refused with %d queued, want %d", n, limit)
	}
}
