package worker

import (
	"context"
	"sync"
	"time"

	"foundry/internal/errs"
)

// lease is what this process knows of its right to start side effects: it may for two thirds of a lease after the
// last acknowledged renewal was sent, by its own monotonic clock, so that it stops before anybody can
// think it gone (protocols.md, 2). A process that was frozen meanwhile finds that out by the same clock. Safe for concurrent use.
type lease struct {
	trust time.Duration

	mu      sync.Mutex
	sent    time.Time
	live    context.Context // ends when the trust does
	end     context.CancelCauseFunc
	expires *time.Timer
}

// errLeaseDoubt is why engines stop whose worker cannot be sure of its lease any more.
var errLeaseDoubt error = errs.E(errs.StaleClaim, "The worker can no longer be sure of its lease.")

func newLease(length time.Duration) *lease {
	l := &lease{trust: length * 2 / 3}
	l.live, l.end = context.WithCancelCause(context.Background())
	l.end(errLeaseDoubt)
	l.expires = time.AfterFunc(time.Hour, l.expire)
	return l
}

// renewed tells of an acknowledged renewal by the time at which it was sent.
func (l *lease) renewed(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = sent
	left := l.leftLocked()
	if left <= 0 {
		return
	}
	if l.live.Err() != nil {
		l.live, l.end = context.WithCancelCause(context.Background())
	}
	l.expires.Reset(left)
}

// expire ends what runs under the lease, unless it has been renewed since the timer was set.
func (l *lease) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := l.leftLocked(); left > 0 {
		l.expires.Reset(left)
		return
	}
	l.end(errLeaseDoubt)
}

// left is how long the lease can be trusted yet; zero or less is not at all.
func (l *lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leftLocked()
}

// last is when the last acknowledged renewal was sent; zero before the first.
func (l *lease) last() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

func (l *lease) leftLocked() time.Duration {
	return l.trust - time.Since(l.sent)
}

// permit is the sandbox.Permit of everything that engines do outside the database.
func (l *lease) permit(ctx context.Context) (context.Context, context.CancelFunc, error) {
	l.mu.Lock()
	left, live := l.leftLocked(), l.live
	l.mu.Unlock()
	if left <= 0 || live.Err() != nil {
		return nil, nil, errLeaseDoubt
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(live, func() { cancel(errLeaseDoubt) })
	return ctx, func() { stop(); cancel(nil) }, nil
}

// close ends the timer.
func (l *lease) close() { l.expires.Stop() }
