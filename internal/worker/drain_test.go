package worker_test

import (
	"context"
	"testing"
	"time"

	"foundry/internal/failpoint"
	"foundry/internal/pgtest"
)

// TestRunWaitsForTheWordThatItDrains has the first statement of a drain come after the last: the worker is gone by then, and its process
// goes on to close the pools.
func TestRunWaitsForTheWordThatItDrains(t *testing.T) {
	t.Parallel()
	b := setup(t)
	late := make(chan struct{})
	b.hook = func(_ context.Context, at string) failpoint.Answer {
		if at == "queue.drain.before" {
			<-late
		}
		return failpoint.Answer{}
	}
	stop := b.startWorker(1)
	workers := func(state string) bool {
		return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM workers WHERE state = $1", state) == 1
	}
	await(t, "the worker", func() bool { return workers("active") })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	await(t, "the worker to leave", func() bool { return workers("gone") })
	select {
	case <-stopped:
		t.Error("a goroutine of the worker is left")
	case <-time.After(200 * time.Millisecond): // enough for one that does not wait
	}
	close(late)
	<-stopped
}
