// Package batch lets callers that come while one is at work share the next turn.
//
// Calls with one key take turns. The first does its work at once, alone. Whoever comes meanwhile waits, and the next turn is for all of
// them: one of the callers takes it, and the others get what it brings. No timer holds anybody back: a lone caller pays nothing, and
// under load a turn is as large as what arrived during the one before.
//
//	caller 1   ──▶ turn {1} ─────────▶ result
//	caller 2        wait ─────────────▶ turn {2, 3} ───▶ result
//	caller 3           wait ────────────────────────────▶ result
//
// A turn begins after all of its callers have come, so one that reads sees whatever was true when they did.
//
// Failure cases:
//   - A caller's context ends while it waits for its turn: it leaves, and nothing of it is done.
//   - It ends while its turn is under way: the caller leaves, and the turn goes on for the others; once none is left, its context ends.
//   - The caller whose context has ended was to take the next turn: it takes it, for the others.
package batch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// Turns has callers with one key take turns. Set Do, and Most where it matters; then it is safe for concurrent use.
type Turns[K comparable, T, R any] struct {
	// Do is one turn: a result for each item, in their order, or an error for all. The context is that of the callers: it ends
	// with the last of theirs.
	Do func(ctx context.Context, key K, items []T) ([]R, error)
	// Most is how many share a turn at most; 0: 100.
	Most int

	mu    sync.Mutex
	lanes map[K][]*call[T, R] // who waits; a key is here exactly while a turn of it is under way
}

const defaultMost = 100

// call is a caller who waits.
type call[T, R any] struct {
	ctx   context.Context
	item  T
	event chan event[T, R] // one slot; written once
}

// event ends a wait: with the caller's own result, or with a turn to take.
type event[T, R any] struct {
	turn   []*call[T, R]
	result R
	err    error
}

// Run does the item's work in a turn and returns its result. When ctx ends first, it returns the cause, and the work may be done or not.
func (t *Turns[K, T, R]) Run(ctx context.Context, key K, item T) (R, error) {
	var none R
	c := &call[T, R]{ctx: ctx, item: item, event: make(chan event[T, R], 1)}
	if t.enter(key, c) {
		t.take(key, []*call[T, R]{c})
	}
	for {
		select {
		case e := <-c.event:
			if e.turn == nil {
				return e.result, e.err
			}
			t.take(key, e.turn)
			continue // its own result is in its event by now
		case <-ctx.Done():
		}
		if t.leave(key, c) {
			return none, context.Cause(ctx)
		}
		select { // it is in a turn, which it may have been told to take
		case e := <-c.event:
			if e.turn == nil {
				return e.result, e.err
			}
			t.take(key, e.turn)
		default:
			return none, context.Cause(ctx)
		}
	}
}

// Waiting returns how many callers wait for the next turn.
func (t *Turns[K, T, R]) Waiting(key K) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.lanes[key])
}

// enter reports whether the caller takes a turn at once; else it has joined those who wait.
func (t *Turns[K, T, R]) enter(key K, c *call[T, R]) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting, busy := t.lanes[key]
	if !busy {
		if t.lanes == nil {
			t.lanes = map[K][]*call[T, R]{}
		}
		t.lanes[key] = nil
		return true
	}
	t.lanes[key] = append(waiting, c)
	return false
}

// leave reports whether the caller still waited for a turn, and does no more.
func (t *Turns[K, T, R]) leave(key K, c *call[T, R]) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.lanes[key], c)
	if i < 0 {
		return false
	}
	t.lanes[key] = slices.Delete(t.lanes[key], i, i+1)
	return true
}

// take is one turn. The next one begins before the results of this are handed out. A panic of Do is its caller's; the others get an error.
func (t *Turns[K, T, R]) take(key K, turn []*call[T, R]) {
	var results []R
	err := errPanicked
	defer func() {
		t.pass(key)
		for i, c := range turn {
			e := event[T, R]{err: err}
			if err == nil {
				e.result = results[i]
			}
			c.event <- e
		}
	}()
	results, err = t.do(key, turn)
}

var errPanicked = errors.New("a shared turn has panicked")

// pass gives the next turn to the first of those who wait.
func (t *Turns[K, T, R]) pass(key K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := t.lanes[key]
	if len(waiting) == 0 {
		delete(t.lanes, key)
		return
	}
	most := t.Most
	if most == 0 {
		most = defaultMost
	}
	n := min(len(waiting), most)
	t.lanes[key] = slices.Clone(waiting[n:])
	waiting[0].event <- event[T, R]{turn: waiting[:n:n]}
}

// do runs a turn in a context that ends with the last of its callers'.
func (t *Turns[K, T, R]) do(key K, turn []*call[T, R]) ([]R, error) {
	first := turn[0].ctx
	if len(turn) == 1 {
		return t.Do(first, key, []T{turn[0].item})
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(first))
	defer cancel(nil)
	var left atomic.Int64
	left.Store(int64(len(turn)))
	items, stops := make([]T, len(turn)), make([]func() bool, len(turn))
	for i, c := range turn {
		items[i] = c.item
		stops[i] = context.AfterFunc(c.ctx, func() {
			if left.Add(-1) == 0 {
				cancel(context.Cause(c.ctx))
			}
		})
	}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	return t.Do(ctx, key, items)
}
