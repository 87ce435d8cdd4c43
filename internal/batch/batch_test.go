package batch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"foundry/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// desk records the turns that were taken. Each waits until it is let go.
type desk struct {
	Turns[string, int, int]
	begun chan []int
	end   chan error

	mu    sync.Mutex
	turns [][]int
}

func newDesk() *desk {
	d := &desk{begun: make(chan []int), end: make(chan error)}
	d.Do = func(ctx context.Context, _ string, items []int) ([]int, error) {
		d.mu.Lock()
		d.turns = append(d.turns, slices.Clone(items))
		d.mu.Unlock()
		d.begun <- items
		select {
		case err := <-d.end:
			doubled := make([]int, len(items))
			for i, item := range items {
				doubled[i] = 2 * item
			}
			return doubled, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return d
}

// outcome is what a caller got.
type outcome struct {
	result int
	err    error
}

func (d *desk) call(ctx context.Context, key string, item int) <-chan outcome {
	got := make(chan outcome, 1)
	go func() {
		result, err := d.Run(ctx, key, item)
		got <- outcome{result, err}
	}()
	synctest.Wait() // it has begun, or waits
	return got
}

func TestWhoComesMeanwhileSharesTheNextTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		first := d.call(t.Context(), "a", 1)
		<-d.begun
		second, third := d.call(t.Context(), "a", 2), d.call(t.Context(), "a", 3)
		other := d.call(t.Context(), "b", 4)
		if items := <-d.begun; !slices.Equal(items, []int{4}) {
			t.Fatalf("another key waits: %v", items)
		}
		d.end <- nil
		d.end <- nil
		if items := <-d.begun; !slices.Equal(items, []int{2, 3}) {
			t.Errorf("the next turn is %v", items)
		}
		d.end <- nil
		for want, got := range map[int]<-chan outcome{2: first, 4: second, 6: third, 8: other} {
			if o := <-got; o.err != nil || o.result != want {
				t.Errorf("got %+v, want %d", o, want)
			}
		}
		if len(d.lanes) != 0 {
			t.Errorf("%d keys are remembered", len(d.lanes))
		}
	})
}

func TestAnErrorIsForAllOfItsTurnOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		d.Most = 2
		calls := []<-chan outcome{d.call(t.Context(), "a", 0)}
		<-d.begun
		for item := range 3 {
			calls = append(calls, d.call(t.Context(), "a", item+1))
		}
		errRefused := errors.New("refused")
		for i, err := range []error{nil, errRefused, nil} {
			d.end <- err
			if i < 2 {
				<-d.begun
			}
		}
		for i, want := range []error{nil, errRefused, errRefused, nil} {
			if o := <-calls[i]; !errors.Is(o.err, want) {
				t.Errorf("caller %d got %+v", i, o)
			}
		}
		if len(d.turns) != 3 || len(d.turns[1]) != 2 || len(d.turns[2]) != 1 {
			t.Errorf("turns were %v", d.turns)
		}
	})
}

func TestWhoLeavesWhileWaitingIsNotDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		errLeft := errors.New("left")
		ctx, leave := context.WithCancelCause(t.Context())
		first := d.call(t.Context(), "a", 1)
		<-d.begun
		gone, stays := d.call(ctx, "a", 2), d.call(t.Context(), "a", 3)
		leave(errLeft)
		if o := <-gone; !errors.Is(o.err, errLeft) {
			t.Errorf("who left got %+v", o)
		}
		d.end <- nil
		if items := <-d.begun; !slices.Equal(items, []int{3}) {
			t.Errorf("the next turn is %v", items)
		}
		d.end <- nil
		if o := <-stays; o.err != nil || o.result != 6 {
			t.Errorf("who stayed got %+v", o)
		}
		<-first
	})
}

func TestATurnGoesOnForThoseWhoStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		errLeft := errors.New("left")
		first := d.call(t.Context(), "a", 1)
		<-d.begun
		two, leaveTwo := context.WithCancelCause(t.Context())
		leader, follower := d.call(t.Context(), "a", 2), d.call(two, "a", 3)
		d.end <- nil
		<-first
		<-d.begun
		leaveTwo(errLeft) // which the leader's turn outlives
		if o := <-follower; !errors.Is(o.err, errLeft) {
			t.Errorf("who left got %+v", o)
		}
		d.end <- nil
		if o := <-leader; o.err != nil || o.result != 4 {
			t.Errorf("the leader got %+v", o)
		}

		again := d.call(t.Context(), "a", 1)
		<-d.begun
		one, leaveOne := context.WithCancelCause(t.Context())
		two, leaveTwo = context.WithCancelCause(t.Context())
		leader, follower = d.call(one, "a", 2), d.call(two, "a", 3)
		d.end <- nil
		<-again
		<-d.begun
		leaveOne(errors.New("the leader left"))
		synctest.Wait()
		leaveTwo(errLeft) // and now nobody is left
		if o := <-leader; !errors.Is(o.err, errLeft) {
			t.Errorf("the last turn ended with %+v", o)
		}
		<-follower
	})
}

func TestAPanicIsItsCallersAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun, end := make(chan struct{}), make(chan struct{})
		turns := Turns[string, int, int]{Do: func(_ context.Context, _ string, items []int) ([]int, error) {
			begun <- struct{}{}
			<-end
			if len(items) == 2 {
				panic("boom")
			}
			return items, nil
		}}
		var wg sync.WaitGroup
		errs, panics := make(chan error, 3), make(chan any, 3)
		for item := range 3 {
			wg.Go(func() {
				defer func() { panics <- recover() }()
				_, err := turns.Run(t.Context(), "a", item)
				errs <- err
			})
			synctest.Wait()
			if item == 0 {
				<-begun
			}
		}
		end <- struct{}{}
		<-begun
		end <- struct{}{}
		wg.Wait()
		close(errs)
		close(panics)
		var failed, panicked int
		for err := range errs {
			if errors.Is(err, errPanicked) {
				failed++
			}
		}
		for p := range panics {
			if p != nil {
				panicked++
			}
		}
		if failed != 1 || panicked != 1 || len(turns.lanes) != 0 {
			t.Errorf("%d failed, %d panicked, and %d keys are remembered", failed, panicked, len(turns.lanes))
		}
	})
}

// Contexts end at all moments; every caller comes back, every item is done at most once, and whoever got a result has it done.
func TestNobodyIsForgotten(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	done := map[int]int{}
	turns := Turns[int, int, int]{Most: 7, Do: func(ctx context.Context, _ int, items []int) ([]int, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, item := range items {
			done[item]++
		}
		return items, ctx.Err()
	}}
	var wg sync.WaitGroup
	for i := range 2000 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%50)*20*time.Microsecond)
			defer cancel()
			if got, err := turns.Run(ctx, i%3, i); err == nil && got != i {
				t.Errorf("caller %d got %d", i, got)
			} else if err == nil {
				mu.Lock()
				if done[i] != 1 {
					t.Errorf("caller %d was done %d times", i, done[i])
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for item, times := range done {
		if times > 1 {
			t.Errorf("item %d was done %d times", item, times)
		}
	}
	if len(turns.lanes) != 0 {
		t.Errorf("%d keys are remembered", len(turns.lanes))
	}
}
