package postgres

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
)

// The channels on which processes wake each other. A notification carries no fact: rows do.
const (
	// ChannelWork: the queue has a new row. No payload.
	ChannelWork = "foundry_work"
	// ChannelEvents: executions have new events. The payload is for ParseEvents.
	ChannelEvents = "foundry_events"
	// ChannelAccounts: rights may have been taken away from somebody. No payload.
	ChannelAccounts = "foundry_accounts"
)

const (
	// notifyWindow is the least time between two NOTIFYs of a process on a channel: the
	// commits of transactions that notify are serialised by PostgreSQL.
	notifyWindow  = 5 * time.Millisecond
	notifyTimeout = 5 * time.Second
	notifyRetry   = time.Second
	// maxEventIDs keeps a payload (22 bytes an id and a comma) below PostgreSQL's 8,000 bytes.
	maxEventIDs = 300
	allEvents   = "*"

	notifySQL = "SELECT pg_notify(channel, payload) FROM unnest($1::text[], $2::text[]) AS n (channel, payload)"
)

// Notifier limits how often a process notifies. A transaction that changes executions makes a claim:
//
//	claim := notifier.Claim(true, ids)
//	err := claim.Exec(ctx, tx)   // when the window is open, queues pg_notify into tx
//	…commit…
//	claim.Done(err)              // always, with the transaction's outcome
//
// When nothing was sent for 5 ms, the notification travels in the transaction itself and costs no
// further commit. Else it is remembered at Done, after the commit, so that whoever it wakes finds
// the rows; Run sends all that is remembered in one statement when the window ends. A failed transaction
// gives the window back. What is lost by a crash is at most a wake-up, for which
// everybody who listens also polls.
//
// Methods may be called concurrently.
type Notifier struct {
	send  func(ctx context.Context, channels, payloads []string) error
	log   zerolog.Logger
	ready chan struct{} // capacity 1: something is remembered

	mu     sync.Mutex
	work   window
	events window
	// What is remembered: workDue, eventIDs, or allDue when they are too many.
	workDue  bool
	allDue   bool
	eventIDs map[uuid.UUID]struct{}
}

// window is when a channel was last used; used counts, so that only the last use is given back.
type window struct {
	last time.Time
	used uint64
}

func (w *window) open(now time.Time) bool { return now.Sub(w.last) >= notifyWindow }

func (w *window) use(now time.Time) (number uint64) {
	w.last = now
	w.used++
	return w.used
}

// giveBack opens the window again, if that use was the last.
func (w *window) giveBack(number uint64) {
	if number == w.used {
		w.last = time.Time{}
	}
}

// NewNotifier returns a notifier that sends through the pool. Without Run, what is
// remembered is not sent.
func NewNotifier(pool *pgxpool.Pool, log zerolog.Logger) *Notifier {
	return newNotifier(log, func(ctx context.Context, channels, payloads []string) error {
		_, err := pool.Exec(ctx, notifySQL, channels, payloads)
		return err
	})
}

func newNotifier(log zerolog.Logger, send func(context.Context, []string, []string) error) *Notifier {
	return &Notifier{send: send, log: log, ready: make(chan struct{}, 1), eventIDs: map[uuid.UUID]struct{}{}}
}

// Claim is what one transaction has to tell. It belongs to one goroutine.
type Claim struct {
	notifier   *Notifier
	work       bool
	ids        []uuid.UUID
	workUse    uint64 // the use of the window; 0: it is closed
	eventsUse  uint64
	wasWritten bool
	isDone     bool
}

// Execer is a transaction: pgx.Tx, *Pipeline, or a pool for a transaction of its own.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Claim announces that a transaction inserts into the queue (work) or events of the executions.
// Call it as late as possible before the commit. Every claim needs Done.
func (n *Notifier) Claim(work bool, ids []uuid.UUID) *Claim {
	c := &Claim{notifier: n, work: work, ids: ids}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	// While something is remembered, Run has the next turn: else it might never get one.
	if work && !n.workDue && n.work.open(now) {
		c.workUse = n.work.use(now)
	}
	if len(ids) > 0 && !n.eventsDue() && n.events.open(now) {
		c.eventsUse = n.events.use(now)
	}
	return c
}

// Exec puts the notification into the transaction if the window is open; else it does nothing.
func (c *Claim) Exec(ctx context.Context, tx Execer) error {
	var channels, payloads []string
	if c.workUse != 0 {
		channels, payloads = append(channels, ChannelWork), append(payloads, "")
	}
	if c.eventsUse != 0 {
		channels, payloads = append(channels, ChannelEvents), append(payloads, FormatEvents(c.ids))
	}
	if len(channels) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, notifySQL, channels, payloads); err != nil {
		return fmt.Errorf("notifying: %w", err)
	}
	c.wasWritten = true
	return nil
}

// Done says how the transaction ended. After a commit, what it did not carry is
// remembered; after errs.Unknown everything is, since a needless wake-up does no harm; after a
// failure there is nothing to tell and the window is given back. Further calls do nothing, so
// that Done(err) can be deferred against an early return.
func (c *Claim) Done(err error) {
	if c.isDone {
		return
	}
	c.isDone = true
	n := c.notifier
	n.mu.Lock()
	defer n.mu.Unlock()
	sent := err == nil && c.wasWritten
	if !sent {
		// Numbers start at 1: a claim that has no use gives none back.
		n.work.giveBack(c.workUse)
		n.events.giveBack(c.eventsUse)
	}
	if err != nil && !errs.Is(err, errs.Unknown) {
		return
	}
	if c.work && (!sent || c.workUse == 0) {
		n.workDue = true
	}
	if !sent || c.eventsUse == 0 {
		n.remember(c.ids)
	}
	n.wake()
}

// eventsDue is called under the lock.
func (n *Notifier) eventsDue() bool { return n.allDue || len(n.eventIDs) > 0 }

// remember adds ids to what Run will send. It is called under the lock.
func (n *Notifier) remember(ids []uuid.UUID) {
	if n.allDue {
		clear(n.eventIDs) // they are among all
		return
	}
	for _, id := range ids {
		n.eventIDs[id] = struct{}{}
	}
	if len(n.eventIDs) > maxEventIDs {
		n.allDue = true
		clear(n.eventIDs)
	}
}

// wake is called under the lock.
func (n *Notifier) wake() {
	if !n.workDue && !n.eventsDue() {
		return
	}
	select {
	case n.ready <- struct{}{}:
	default:
	}
}

// Run sends what is remembered until ctx ends, and then once more.
func (n *Notifier) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		wait, isDue := n.next()
		switch {
		case !isDue:
			select {
			case <-ctx.Done():
			case <-n.ready:
			}
		case wait > 0:
			pause(ctx, wait)
		default:
			if err := n.flush(ctx, false); err != nil {
				n.log.Warn().Err(err).Msg("notifying failed, will be repeated")
				pause(ctx, notifyRetry)
			}
		}
	}
	return n.flush(context.WithoutCancel(ctx), true)
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// next returns how long until a channel with something to send may be used.
func (n *Notifier) next() (wait time.Duration, isDue bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	wait = notifyWindow
	if n.workDue {
		wait = min(wait, time.Until(n.work.last.Add(notifyWindow)))
	}
	if n.eventsDue() {
		wait = min(wait, time.Until(n.events.last.Add(notifyWindow)))
	}
	return wait, n.workDue || n.eventsDue()
}

// due is what was remembered for one statement.
type due struct {
	work, all bool
	ids       []uuid.UUID
}

// take removes what may be sent now: of channels whose window is open, or of all.
func (n *Notifier) take(evenIfClosed bool) (d due) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if n.workDue && (evenIfClosed || n.work.open(now)) {
		n.work.use(now)
		n.workDue, d.work = false, true
	}
	if n.eventsDue() && (evenIfClosed || n.events.open(now)) {
		n.events.use(now)
		d.ids = slices.Collect(maps.Keys(n.eventIDs))
		n.allDue, d.all = false, n.allDue
		clear(n.eventIDs)
	}
	return d
}

// putBack remembers again what could not be sent.
func (n *Notifier) putBack(d due) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.workDue = n.workDue || d.work
	n.allDue = n.allDue || d.all
	n.remember(d.ids)
}

// flush sends what may be sent, in one statement. On an error it is remembered still.
func (n *Notifier) flush(ctx context.Context, evenIfClosed bool) error {
	d := n.take(evenIfClosed)
	var channels, payloads []string
	if d.work {
		channels, payloads = append(channels, ChannelWork), append(payloads, "")
	}
	switch {
	case d.all:
		channels, payloads = append(channels, ChannelEvents), append(payloads, allEvents)
	case len(d.ids) > 0:
		channels, payloads = append(channels, ChannelEvents), append(payloads, FormatEvents(d.ids))
	}
	if len(channels) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	if err := n.send(ctx, channels, payloads); err != nil {
		n.putBack(d)
		return fmt.Errorf("notifying: %w", err)
	}
	return nil
}

// FormatEvents writes the payload of ChannelEvents: ids as base64url of their 16 bytes,
// separated by commas, or `*`, which stands for any, when they are more than 300.
func FormatEvents(ids []uuid.UUID) string {
	if len(ids) > maxEventIDs {
		return allEvents
	}
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(base64.RawURLEncoding.EncodeToString(id[:]))
	}
	return b.String()
}

// ParseEvents reads a payload of ChannelEvents. all means that any execution may have
// changed; so does a payload of a future release that this one cannot read.
func ParseEvents(payload string) (ids []uuid.UUID, all bool) {
	if payload == allEvents {
		return nil, true
	}
	for part := range strings.SplitSeq(payload, ",") {
		raw, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || len(raw) != len(uuid.UUID{}) {
			return nil, true
		}
		ids = append(ids, uuid.UUID(raw))
	}
	return ids, false
}
