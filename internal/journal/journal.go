package journal

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"foundry/internal/errs"
	"foundry/internal/postgres"
)

// Bounds of the queue, and of one commit.
const (
	maxQueuedBytes   = 16 << 20
	maxQueuedEntries = 10_000
	maxBatchBytes    = 8 << 20
	maxBatchChildren = 50                                                         // each is a round trip
	minWeight        = (maxQueuedBytes + maxQueuedEntries - 1) / maxQueuedEntries // so that one semaphore bounds both
)

// defaultFlushTimeout is enough for what is in flight: who leaves in good order has flushed before.
const defaultFlushTimeout = time.Second

// Config is what a journal needs.
type Config struct {
	Pool         *pgxpool.Pool
	Notifier     *postgres.Notifier
	Logger       zerolog.Logger
	Registerer   prometheus.Registerer // nil registers nothing
	QueuedMax    int                   // of the children's workflows, as of a queue.Store; 0 is its default
	FlushTimeout time.Duration         // of the last commits after Run's context has ended; 0 is a second
}

// Journal commits entries in groups. Safe for concurrent use.
type Journal struct {
	pool     *pgxpool.Pool
	notifier *postgres.Notifier
	log      zerolog.Logger
	metrics  metrics

	queuedMax    int
	flushTimeout time.Duration

	room *semaphore.Weighted // bytes
	wake chan struct{}       // one slot: there is something to take

	mu     sync.Mutex
	queue  []*pending
	closed bool
}

// pending is an entry on its way. done is called once.
type pending struct {
	entry  *Entry
	weight int64
	done   func(Receipt, error)
}

// New returns a journal. Nothing is committed until Run.
func New(c Config) *Journal {
	return &Journal{
		pool: c.Pool, notifier: c.Notifier, log: c.Logger, metrics: newMetrics(c.Registerer), queuedMax: c.QueuedMax,
		flushTimeout: cmp.Or(c.FlushTimeout, defaultFlushTimeout),
		room:         semaphore.NewWeighted(maxQueuedBytes), wake: make(chan struct{}, 1),
	}
}

// Submit hands over an entry, which the caller must not touch again, and returns as soon as there is
// room for it. done is called once, from the journal's goroutine, and must not block: with a
// receipt when the entry is durable, or with errs.StaleClaim, errs.Unknown, errs.Internal (the data
// cannot be stored and the execution has been ended) or errs.Unavailable. Entries of one execution are
// committed in the order of their Submits. An error of Submit itself means that done is never called.
func (j *Journal) Submit(ctx context.Context, e *Entry, done func(Receipt, error)) error {
	weight := min(max(int64(e.size()), minWeight), maxQueuedBytes)
	if err := j.room.Acquire(ctx, weight); err != nil {
		return context.Cause(ctx)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		j.room.Release(weight)
		return errs.E(errs.Unavailable, "The worker is stopping.")
	}
	j.queue = append(j.queue, &pending{entry: e, weight: weight, done: done})
	j.nudge()
	return nil
}

// Commit submits an entry and waits until it is durable. When ctx ends first, the entry may still
// become durable.
func (j *Journal) Commit(ctx context.Context, e *Entry) (Receipt, error) {
	type answer struct {
		receipt Receipt
		err     error
	}
	answers := make(chan answer, 1)
	if err := j.Submit(ctx, e, func(r Receipt, err error) { answers <- answer{r, err} }); err != nil {
		return Receipt{}, err
	}
	select {
	case a := <-answers:
		return a.receipt, a.err
	case <-ctx.Done():
		return Receipt{}, context.Cause(ctx)
	}
}

// Flush waits until everything that was submitted before is answered.
func (j *Journal) Flush(ctx context.Context) error {
	if err := j.room.Acquire(ctx, maxQueuedBytes); err != nil { // all room is free when nothing is queued or in flight
		return context.Cause(ctx)
	}
	j.room.Release(maxQueuedBytes)
	return nil
}

// Run commits until ctx ends; then it commits what is queued, for no longer than the flush timeout, and refuses
// the rest.
func (j *Journal) Run(ctx context.Context) error {
	// Commits outlive ctx: one that is in flight when it ends is neither lost nor left unknown.
	commits, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		j.close(commits, cancel)
	})
	defer func() {
		cancel(nil)
		if !stop() {
			<-ended
		}
	}()
	for {
		for batch := j.take(); len(batch) > 0; batch = j.take() {
			j.commit(commits, batch)
		}
		if j.isClosed() {
			return nil
		}
		<-j.wake
	}
}

// close refuses further entries, wakes Run for those that are queued, and ends its commits when
// they take longer than the flush timeout. It returns when commits ends.
func (j *Journal) close(commits context.Context, cancel context.CancelCauseFunc) {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.nudge()
	limit := time.NewTimer(j.flushTimeout)
	defer limit.Stop()
	select {
	case <-limit.C:
		cancel(errs.E(errs.Unavailable, "The worker has stopped before the database answered."))
	case <-commits.Done():
	}
}

func (j *Journal) isClosed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed && len(j.queue) == 0
}

// nudge makes Run look at the queue.
func (j *Journal) nudge() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// take removes the next batch from the queue: everything, up to the bound of one commit.
func (j *Journal) take() []*pending {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, bytes, children := 0, int64(0), 0
	for n < len(j.queue) && (n == 0 || bytes+j.queue[n].weight <= maxBatchBytes && children+len(j.queue[n].entry.Children) <= maxBatchChildren) {
		bytes += j.queue[n].weight
		children += len(j.queue[n].entry.Children)
		n++
	}
	batch := j.queue[:n:n]
	j.queue = j.queue[n:]
	if len(j.queue) == 0 {
		j.queue = nil
	}
	return batch
}

// resolve answers a caller and gives its room back.
func (j *Journal) resolve(p *pending, r Receipt, err error) {
	if errs.Is(err, errs.StaleClaim) {
		j.metrics.stale.Inc()
	}
	if session := p.entry.Session; session != nil && err != nil && session.err == nil {
		session.err = err
	}
	j.room.Release(p.weight)
	p.done(r, err)
}

// errStale is what callers get whose claim is gone.
var errStale error = errs.E(errs.StaleClaim, "Another worker has the right to this execution.")

// errSignaled is what callers get who end an execution without knowing the newest facts about it.
var errSignaled error = errs.E(errs.Conflict, "Somebody has changed a fact that the end depends on.")
