package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/postgres"
)

const (
	// concurrentReads and concurrentReplays keep a burst of streams from taking every connection of
	// the pool. They are apart, so that history never delays what is live.
	concurrentReads   = 4
	concurrentReplays = 4

	defaultCheckEvery = 5 * time.Second
)

// What ends a watch that the execution did not end.
var (
	// ErrLagged says that the watch was too slow. What it has missed is in the database.
	ErrLagged = errors.New("the stream fell too far behind")
	// ErrStopped says that the hub has stopped.
	ErrStopped = errors.New("streams have stopped")
)

// Config is what a hub needs. Events and Executions are required.
type Config struct {
	Events     *event.Store
	Executions *execution.Store
	Log        zerolog.Logger
	Registry   prometheus.Registerer // nil: metrics are counted and shown nowhere
	CheckEvery time.Duration         // between two looks at the table that need no notification; default 5 s
}

// Hub reads what happens once and gives it to all who watch. One a process; safe for concurrent use.
// It works from New on; Run adds the safety net, live summaries and the end.
type Hub struct {
	events     *event.Store
	executions *execution.Store
	log        zerolog.Logger
	metrics    *metrics
	checkEvery time.Duration
	quota      *quota
	reads      chan struct{}
	replays    chan struct{}

	ctx  context.Context // of the topics' goroutines
	stop context.CancelFunc
	wg   sync.WaitGroup // the topics' goroutines

	mu            sync.Mutex
	stopped       bool
	topics        map[uuid.UUID]*topic
	organizations map[uuid.UUID]*organization
	throttle      throttle
	summaryWake   chan struct{} // cap 1
}

// New returns a hub. Whoever makes one also runs it, else goroutines of its watches are left.
func New(c Config) (*Hub, error) {
	if c.Events == nil || c.Executions == nil {
		return nil, errs.E(errs.Internal, "A stream hub needs the stores of events and executions.")
	}
	h := &Hub{
		events: c.Events, executions: c.Executions, log: c.Log, metrics: newMetrics(c.Registry), quota: newQuota(perPrincipal),
		checkEvery: cmp.Or(c.CheckEvery, defaultCheckEvery),
		reads:      make(chan struct{}, concurrentReads), replays: make(chan struct{}, concurrentReplays),
		topics: make(map[uuid.UUID]*topic), organizations: make(map[uuid.UUID]*organization),
		throttle: newThrottle(), summaryWake: make(chan struct{}, 1),
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h, nil
}

// Run works until ctx ends, then ends every watch as End does and waits for what the hub has started.
func (h *Hub) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.runChecks(ctx) })
	g.Go(func() error { return h.runSummaries(ctx) })
	err := g.Wait()
	h.End()
	h.wg.Wait()
	return err
}

// End ends every watch with ErrStopped, which later ones get too, and returns how many streams are open. An HTTP server that drains
// its requests calls it when nobody can come back to it. It does not wait.
func (h *Hub) End() (streams int) {
	h.mu.Lock()
	h.stopped = true
	for _, o := range h.organizations {
		for w := range o.watches {
			w.stop()
		}
	}
	h.mu.Unlock()
	h.stop()
	return h.quota.total()
}

// Nudge says that these executions have changed. It is for commits of this process, which then need no
// round trip of a notification; call it after the commit. It never waits.
func (h *Hub) Nudge(ids ...uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		if t, ok := h.topics[id]; ok {
			t.mark()
		}
	}
	if len(h.organizations) > 0 {
		h.throttle.add(ids)
		h.wakeSummaries()
	}
}

// OnNotify is for postgres.ListenConfig. Channels other than postgres.ChannelEvents are ignored.
func (h *Hub) OnNotify(n postgres.Notification) {
	if n.Channel != postgres.ChannelEvents {
		return
	}
	ids, all := postgres.ParseEvents(n.Payload)
	if all {
		h.OnReset()
		return
	}
	h.Nudge(ids...)
}

// OnReset is for postgres.ListenConfig: notifications may have been lost. Every watched execution is read
// once, and streams of organizations are told to read their lists, at most every 2 s.
func (h *Hub) OnReset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.topics {
		t.mark()
	}
	if len(h.organizations) > 0 {
		h.throttle.resetAll()
		h.wakeSummaries()
	}
}

// wakeSummaries wakes runSummaries.
func (h *Hub) wakeSummaries() {
	select {
	case h.summaryWake <- struct{}{}:
	default:
	}
}

// join returns the execution's topic with one more reference, starting it where there is none.
func (h *Hub) join(id uuid.UUID, after int64) (*topic, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return nil, ErrStopped
	}
	t, ok := h.topics[id]
	if !ok {
		t = newTopic(id)
		h.topics[id] = t // from here on a notification marks it: listening comes before reading
		h.wg.Go(func() { t.run(h.ctx, h, after) })
	}
	t.refs++
	return t, nil
}

func (h *Hub) leave(t *topic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.refs--
	if t.refs == 0 {
		delete(h.topics, t.id)
		close(t.done)
	}
}

// page reads at most pageRows events, with a place in limit while the query runs.
func (h *Hub) page(ctx context.Context, limit chan struct{}, id uuid.UUID, after int64, filter event.LogFilter) ([]event.Event, error) {
	select {
	case limit <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to read events: %w", context.Cause(ctx))
	}
	defer func() { <-limit }()
	return h.events.Page(ctx, id, after, pageRows, filter)
}

// runChecks is the safety net: with it, everything works without a single notification.
func (h *Hub) runChecks(ctx context.Context) error {
	ticker := time.NewTicker(h.checkEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := h.checkOnce(ctx); err != nil && ctx.Err() == nil {
			h.log.Error().Err(err).Msg("looking for missed events failed; trying again")
		}
	}
}

func (h *Hub) checkOnce(ctx context.Context) error {
	return errors.Join(h.checkExecutions(ctx), h.checkOrganizations(ctx))
}

// checkExecutions compares every watched execution with the table, in one query; in none when nothing is watched.
func (h *Hub) checkExecutions(ctx context.Context) error {
	h.mu.Lock()
	watched := make([]*topic, 0, len(h.topics))
	ids := make([]uuid.UUID, 0, len(h.topics))
	for id, t := range h.topics {
		select {
		case <-t.started:
			watched, ids = append(watched, t), append(ids, id)
		default:
		}
	}
	h.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	heads, err := h.executions.Heads(ctx, ids)
	if err != nil {
		return err
	}
	for _, t := range watched {
		head, exists := heads[t.id]
		t.observe(head, exists)
		t.trim()
	}
	return nil
}
