package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
)

// outbox records what goes out, through a transaction or by Run, with the time since the start.
type outbox struct {
	began time.Time

	mu    sync.Mutex
	sent  []string
	times []time.Duration
	err   error // what sending returns
}

func (o *outbox) add(channels, payloads []string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.times = append(o.times, time.Since(o.began))
	if o.err != nil {
		return o.err
	}
	var parts []string
	for i, channel := range channels {
		parts = append(parts, channel+"="+payloads[i])
	}
	o.sent = append(o.sent, strings.Join(parts, " "))
	return nil
}

func (o *outbox) send(_ context.Context, channels, payloads []string) error {
	return o.add(channels, payloads)
}

// Exec makes it a transaction.
func (o *outbox) Exec(_ context.Context, _ string, args ...any) (pgconn.CommandTag, error) {
	channels, _ := args[0].([]string)
	payloads, _ := args[1].([]string)
	return pgconn.CommandTag{}, o.add(channels, payloads)
}

type notifierBundle struct {
	n   *Notifier
	tx  *outbox // what travels in transactions
	run *outbox // what Run sends
}

// withNotifier runs a test in a bubble with a running notifier.
func withNotifier(t *testing.T, test func(t *testing.T, b notifierBundle)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		b := notifierBundle{tx: &outbox{began: now}, run: &outbox{began: now}}
		b.n = newNotifier(zerolog.Nop(), b.run.send)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.n.Run(ctx) }()
		test(t, b)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// pass lets time pass in a bubble.
func pass(d time.Duration) { <-time.After(d) }

// transaction is one that ends with err.
func (b notifierBundle) transaction(t *testing.T, err error, work bool, ids ...uuid.UUID) {
	t.Helper()
	claim := b.n.Claim(work, ids)
	if err := claim.Exec(t.Context(), b.tx); err != nil {
		t.Fatal(err)
	}
	claim.Done(err)
}

func testIDs(n int) (ids []uuid.UUID) {
	for i := range n {
		ids = append(ids, uuid.UUID{0: 1, 14: byte(i >> 8), 15: byte(i)})
	}
	return ids
}

func wantSent(t *testing.T, o *outbox, want ...string) {
	t.Helper()
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	if diff := cmp.Diff(want, o.sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

// events is the payload of some ids, as wantSent shows it.
func events(ids ...uuid.UUID) string { return ChannelEvents + "=" + FormatEvents(ids) }

func TestNotifier(t *testing.T) {
	t.Parallel()
	ids := testIDs(4)
	const work = ChannelWork + "="
	broken := errors.New("broken")

	t.Run("an idle notification travels in its transaction", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			for range 3 {
				b.transaction(t, nil, true, ids[0])
				pass(notifyWindow)
			}
			one := work + " " + events(ids[0])
			wantSent(t, b.tx, one, one, one)
			wantSent(t, b.run)
		})
	})

	t.Run("what comes within the window is merged when it ends", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			b.transaction(t, nil, true, ids[0])
			pass(notifyWindow / 2)
			b.transaction(t, nil, true, ids[1])
			b.transaction(t, nil, true, ids[1])
			wantSent(t, b.run)
			pass(notifyWindow / 2)
			wantSent(t, b.tx, work+" "+events(ids[0]))
			wantSent(t, b.run, work+" "+events(ids[1]))
			if b.run.times[0] != notifyWindow {
				t.Errorf("sent after %s", b.run.times[0])
			}
		})
	})

	t.Run("nothing is sent before its commit", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			b.transaction(t, nil, false, ids[0])
			claim := b.n.Claim(false, ids[1:2])
			if err := claim.Exec(t.Context(), b.tx); err != nil {
				t.Fatal(err)
			}
			pass(time.Second)
			wantSent(t, b.run)
			claim.Done(nil)
			wantSent(t, b.run, events(ids[1]))
		})
	})

	t.Run("channels have windows of their own", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			b.transaction(t, nil, false, ids[0])
			b.transaction(t, nil, true, ids[1])
			wantSent(t, b.tx, events(ids[0]), work)
			pass(notifyWindow)
			wantSent(t, b.run, events(ids[1]))
		})
	})

	t.Run("a failed transaction gives its window back and tells nothing", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			b.transaction(t, broken, true, ids[0])
			b.transaction(t, nil, true, ids[1])
			pass(time.Second)
			wantSent(t, b.tx, work+" "+events(ids[0]), work+" "+events(ids[1]))
			wantSent(t, b.run)
		})
	})

	t.Run("a late failure gives back no window that another has taken", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			slow := b.n.Claim(false, ids[:1])
			pass(notifyWindow)
			b.transaction(t, nil, false, ids[1])
			slow.Done(broken)
			b.transaction(t, nil, false, ids[2])
			wantSent(t, b.tx, events(ids[1]))
			pass(notifyWindow)
			wantSent(t, b.run, events(ids[2]))
		})
	})

	t.Run("an unknown outcome is told again", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			b.transaction(t, errs.E(errs.Unknown, "Lost."), true, ids[0])
			wantSent(t, b.run, work+" "+events(ids[0]))
		})
	})

	t.Run("a claim whose Exec was not reached is told after the commit", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			b.n.Claim(true, ids[:1]).Done(nil)
			wantSent(t, b.run, work+" "+events(ids[0]))
		})
	})

	t.Run("Done counts once", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			claim := b.n.Claim(false, ids[:1])
			claim.Done(broken)
			claim.Done(nil)
			pass(time.Second)
			wantSent(t, b.run)
		})
	})

	t.Run("more than 300 ids stand for all", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			b.transaction(t, nil, false, testIDs(301)...)
			wantSent(t, b.tx, ChannelEvents+"=*")
			b.transaction(t, nil, false, testIDs(200)...)
			b.transaction(t, nil, false, testIDs(301)[100:]...)
			pass(notifyWindow)
			wantSent(t, b.run, ChannelEvents+"=*")
			b.transaction(t, nil, false, ids[0])
			pass(notifyWindow)
			wantSent(t, b.run, ChannelEvents+"=*", events(ids[0]))
		})
	})

	t.Run("what could not be sent is sent later, merged", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			b.transaction(t, nil, false, ids[0])
			b.run.err = broken
			b.transaction(t, nil, true, ids[1])
			b.transaction(t, nil, true, ids[1])
			pass(notifyRetry / 2)
			wantSent(t, b.run)
			b.run.err = nil
			b.transaction(t, nil, false, ids[1])
			pass(notifyRetry)
			wantSent(t, b.run, work+" "+events(ids[1]))
			if len(b.run.times) != 2 {
				t.Errorf("%d attempts", len(b.run.times))
			}
		})
	})

	t.Run("a constant load sends one per window", func(t *testing.T) {
		withNotifier(t, func(t *testing.T, b notifierBundle) {
			for range 1000 {
				b.transaction(t, nil, false, ids[0])
				pass(notifyWindow / 10)
			}
			synctest.Wait()
			if n := len(b.tx.sent) + len(b.run.sent); n > 101 {
				t.Errorf("%d notifications in 100 windows", n)
			}
			both := slices.Sorted(slices.Values(append(slices.Clone(b.tx.times), b.run.times...)))
			for i := 1; i < len(both); i++ {
				if gap := both[i] - both[i-1]; gap < notifyWindow {
					t.Fatalf("a gap of %s", gap)
				}
			}
		})
	})
}

func TestNotifierSendsTheRestAtItsEnd(t *testing.T) {
	t.Parallel()
	out := &outbox{}
	n := newNotifier(zerolog.Nop(), out.send)
	n.Claim(true, nil).Done(nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Run(ctx); err != nil || !slices.Equal(out.sent, []string{ChannelWork + "="}) {
		t.Errorf("sent %q, %v", out.sent, err)
	}
}

func TestEventsPayload(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 300} {
		payload := FormatEvents(testIDs(n))
		if len(payload) >= 8000 {
			t.Errorf("%d bytes for %d ids", len(payload), n)
		}
		if got, all := ParseEvents(payload); all || !slices.Equal(got, testIDs(n)) {
			t.Errorf("%d ids came back as %v, %t", n, got, all)
		}
	}
	for _, payload := range []string{"*", "", "?", "AAAA", FormatEvents(testIDs(1)) + ","} {
		if _, all := ParseEvents(payload); !all {
			t.Errorf("%q does not stand for all", payload)
		}
	}
}
