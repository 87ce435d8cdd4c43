package stream

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestThrottle(t *testing.T) {
	t.Parallel()
	a, b := uuid.New(), uuid.New()
	start := time.Now()
	th := newThrottle()
	step := func(at time.Duration, wantIDs int, wantReset bool, wantWait time.Duration) {
		t.Helper()
		ids, reset, wait := th.due(start.Add(at))
		if len(ids) != wantIDs || reset != wantReset || wait != wantWait {
			t.Errorf("at %s: %d due, reset %v, wait %s; want %d, %v, %s", at, len(ids), reset, wait, wantIDs, wantReset, wantWait)
		}
	}
	step(0, 0, false, 0)
	th.add([]uuid.UUID{a})
	step(0, 1, false, 0) // the first change at once
	th.add([]uuid.UUID{a, b})
	step(5*time.Millisecond, 0, false, summaryGap-5*time.Millisecond)
	step(summaryGap, 1, false, summaryEvery-summaryGap) // b at once, a at the end of its time
	th.add([]uuid.UUID{a})
	step(summaryEvery-1, 0, false, 1)
	step(summaryEvery, 1, false, 0) // both changes of a together
	step(2*summaryEvery, 0, false, 0)

	th.resetAll()
	step(time.Second, 0, true, 0)
	th.resetAll()
	th.resetAll()
	step(2*time.Second, 0, false, time.Second)
	th.add([]uuid.UUID{b})
	step(2*time.Second, 1, false, time.Second)
	step(3*time.Second, 0, true, 0)
	step(4*time.Second, 0, false, 0)
}

// Whenever changes come, nothing is due twice within its time and the last change is always followed by a read.
func TestThrottleNeverForgets(t *testing.T) {
	t.Parallel()
	th, now := newThrottle(), time.Now()
	id, other := uuid.New(), uuid.New()
	var lastRead, lastChange time.Time
	next := now
	for i := range 2000 {
		if i < 1900 && i%7 < 4 {
			th.add([]uuid.UUID{id, other})
			lastChange, next = now, now
		}
		if !next.IsZero() && !now.Before(next) {
			ids, _, wait := th.due(now)
			for _, due := range ids {
				if due != id {
					continue
				}
				if since := now.Sub(lastRead); since < summaryEvery {
					t.Fatalf("read again after %s", since)
				}
				lastRead = now
			}
			next = time.Time{}
			if wait > 0 {
				next = now.Add(wait)
			}
		}
		now = now.Add(3 * time.Millisecond)
	}
	if lastRead.Before(lastChange) {
		t.Error("the last change was not read")
	}
}
