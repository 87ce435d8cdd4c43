package stream

import (
	"time"

	"github.com/google/uuid"
)

const (
	// summaryEvery is the least time between two summaries of one execution.
	summaryEvery = 250 * time.Millisecond
	// summaryGap is the least time between two queries for summaries, whatever their executions.
	summaryGap = 20 * time.Millisecond
	// resetEvery is the least time between two resets: clients spread their reading over 2 s.
	resetEvery = 2 * time.Second
)

// throttle decides when which summaries are read. The first change of an execution is due at once, the
// changes within the time after it together at its end. Not safe for concurrent use.
type throttle struct {
	dirty map[uuid.UUID]struct{}
	read  map[uuid.UUID]time.Time // of the last summaryEvery
	last  time.Time               // when anything was due

	reset     bool
	lastReset time.Time
}

func newThrottle() throttle {
	return throttle{dirty: make(map[uuid.UUID]struct{}), read: make(map[uuid.UUID]time.Time)}
}

func (t *throttle) add(ids []uuid.UUID) {
	for _, id := range ids {
		t.dirty[id] = struct{}{}
	}
}

func (t *throttle) resetAll() { t.reset = true }

// clear forgets everything: nobody is interested.
func (t *throttle) clear() { *t = newThrottle() }

// due returns what to do now, and after how long to ask again; 0: not before something is added.
func (t *throttle) due(now time.Time) (ids []uuid.UUID, reset bool, wait time.Duration) {
	if t.reset {
		if left := resetEvery - now.Sub(t.lastReset); left > 0 {
			wait = left
		} else {
			t.reset, t.lastReset, reset = false, now, true
		}
	}
	if len(t.dirty) == 0 {
		return nil, reset, wait
	}
	if left := summaryGap - now.Sub(t.last); left > 0 {
		return nil, reset, soonest(wait, left)
	}
	for id, at := range t.read {
		if now.Sub(at) >= summaryEvery {
			delete(t.read, id)
		}
	}
	for id := range t.dirty {
		if at, ok := t.read[id]; ok {
			wait = soonest(wait, summaryEvery-now.Sub(at))
			continue
		}
		ids = append(ids, id)
		t.read[id] = now
		delete(t.dirty, id)
	}
	if len(ids) > 0 {
		t.last = now
	}
	return ids, reset, wait
}

// soonest returns the smaller of two waits, of which 0 is none.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}
