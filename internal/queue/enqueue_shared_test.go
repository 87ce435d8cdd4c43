package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
)

// together has requests share a commit: they come while another, which waits for the workflow's lock, is under way. It returns what
// became of that one and then of each.
func (b *testBundle) together(ctx context.Context, requests ...queue.Request) (queued []queue.Queued, failed []error) {
	b.t.Helper()
	release := b.lock("SELECT FROM workflows WHERE id = $1 FOR UPDATE", b.workflow) //nolint:contextcheck // the lock is that of the test, not of the requests
	queued, failed = make([]queue.Queued, len(requests)+1), make([]error, len(requests)+1)
	var wg sync.WaitGroup
	for i, r := range slices.Concat([]queue.Request{b.request()}, requests) {
		before := b.statements.Count("ExecutionEnqueueMany")
		wg.Go(func() { queued[i], failed[i] = b.queue.Enqueue(ctx, r) })
		eventually(b.t, fmt.Sprintf("enqueue %d waits", i), func() bool {
			return i == 0 && b.statements.Count("ExecutionEnqueueMany") > before || i > 0 && b.queue.Sharing(b.org, b.workflow) == i
		})
	}
	release()
	wg.Wait()
	return queued, failed
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(time.Millisecond); !is(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it never came to that: %s", what)
		}
	}
}

func TestEnqueuesShareACommit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	var requests []queue.Request
	for i := range 12 {
		r := b.request()
		r.Inputs, r.Priority, r.Actor = json.RawMessage(fmt.Sprintf(`{"n": %d}`, i)), i-6, fmt.Sprint("actor ", i)
		r.Timeout, r.QueueTimeout = time.Duration(i)*time.Second, time.Duration(i+1)*time.Hour
		r.Source = []execution.Source{execution.FromAPI, execution.FromUI}[i%2]
		requests = append(requests, r)
	}
	queued, failed := b.together(t.Context(), requests...)
	if err := errors.Join(failed...); err != nil {
		t.Fatal(err)
	}
	if n := b.statements.Count("ExecutionEnqueueMany"); n != 2 {
		t.Errorf("%d statements for %d executions, want 2", n, len(queued))
	}
	for i, r := range requests {
		q := queued[i+1]
		x := b.get(q.ID)
		got := []any{q.Number, x.Number, string(x.Inputs), x.Priority, x.Actor, x.Source, x.QueuedAt}
		want := []any{int64(i + 2), int64(i + 2), fmt.Sprintf(`{"n": %d}`, i), r.Priority, r.Actor, r.Source, q.QueuedAt}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("execution %d: %s", i, diff)
		}
		const rest = `SELECT concat_ws(' ', COALESCE(timeout_ms, 0), queue_deadline_at - queued_at, q.run_order - queued_at, v.data->>'number', v.data->>'priority')
FROM executions e JOIN execution_queue q ON q.execution_id = e.id JOIN execution_events v ON v.execution_id = e.id AND v.seq = 1 WHERE e.id = $1`
		wantRest := pgtest.Get[string](t, b.pool, "SELECT concat_ws(' ', $1::int, $2::interval, $3::interval, $4::int, $5::int)",
			i*1000, r.QueueTimeout, -time.Duration(r.Priority)*5*time.Minute, i+2, r.Priority)
		if got := pgtest.Get[string](t, b.pool, rest, q.ID); got != wantRest {
			t.Errorf("execution %d has %s, want %s", i, got, wantRest)
		}
	}
}

func TestASharedCommitRefusesOnlyWhatIsTooMuch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	b.limited(4)
	_, failed := b.together(t.Context(), slices.Repeat([]queue.Request{b.request()}, 6)...)
	admitted := 0
	for _, err := range failed {
		if err == nil {
			admitted++
			continue
		}
		wantCode(t, err, queue.Full)
	}
	if admitted != 4 || pgtest.Get[int](t, b.pool, "SELECT count(*) FROM execution_queue") != 4 {
		t.Errorf("%d of 7 were admitted, want 4", admitted)
	}
}

func TestASharedCommitFailsOnlyWhatIsBad(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	broken, absent := b.request(), b.request()
	broken.Inputs, absent.Version = json.RawMessage(`{`), 99
	queued, failed := b.together(t.Context(), b.request(), broken, b.request(), absent, b.request())
	for i, err := range failed {
		if bad := i == 2 || i == 4; bad != (err != nil) {
			t.Errorf("enqueue %d: %v", i, err)
		} else if !bad {
			b.get(queued[i].ID)
		}
	}
}

func TestWhoLeavesBeforeTheCommitIsNotQueued(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	release := b.lock("SELECT FROM workflows WHERE id = $1 FOR UPDATE", b.workflow)
	var wg sync.WaitGroup
	wg.Go(func() { b.enqueue() })
	eventually(t, "the first is under way", func() bool { return b.statements.Count("ExecutionEnqueueMany") == 1 })
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := b.queue.Enqueue(ctx, b.request())
		left <- err
	}()
	eventually(t, "the second waits", func() bool { return b.queue.Sharing(b.org, b.workflow) == 1 })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	release()
	wg.Wait()
	b.enqueue()
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); n != 2 {
		t.Errorf("%d executions, want 2", n)
	}
}

// TestALostAnswerIsUnknownToAll holds that nothing is tried again after a commit that may have happened.
func TestALostAnswerIsUnknownToAll(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	ctx := failpoint.With(t.Context(), func(_ context.Context, name string) failpoint.Answer {
		if name == "queue.commit.after" {
			return failpoint.Answer{Err: errs.E(errs.Unknown, "Lost.").Because(&pgconn.PgError{Severity: "FATAL", Code: "57P01"})}
		}
		return failpoint.Answer{}
	})
	queued, failed := b.together(ctx, b.request(), b.request())
	for i, err := range failed {
		if !errs.Is(err, errs.Unknown) || queued[i].ID != uuid.Nil {
			t.Errorf("enqueue %d: %v", i, err)
		}
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); n != 3 {
		t.Errorf("%d executions, want 3: each was committed once", n)
	}
}
