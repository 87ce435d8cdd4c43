package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"foundry/internal/event"
	"foundry/internal/queue"
)

// Times of the loops.
const (
	roundEvery     = time.Second
	partitionEvery = time.Hour
	partitionRetry = time.Minute
	lockRetry      = time.Second
	pingTimeout    = 5 * time.Second
)

// lockKey is the advisory lock of the loops. The number is arbitrary and ours.
const lockKey = 7042025002

// Config is what the loops need.
type Config struct {
	DirectURL string // for the lock: not through a transaction pooler
	Queue     *queue.Store
	Events    *event.Store
	// Lease is how long the loops must have known the database before they declare a worker gone; the workers' own
	// lease, queue.DefaultLease unless set.
	Lease      time.Duration
	Sandboxes  *Sandboxes // nil: no sandbox can be reached from here
	Retention  *Retention // nil: nothing is taken away
	Logger     zerolog.Logger
	Registerer prometheus.Registerer // nil registers nothing
}

// Loops are the control loops of one process.
type Loops struct {
	Config
	metrics metrics
}

// New returns the loops.
func New(c Config) *Loops {
	c.Lease = cmp.Or(c.Lease, queue.DefaultLease)
	return &Loops{Config: c, metrics: newMetrics(c.Registerer)}
}

// Run leads whenever no other process does, until ctx ends.
func (l *Loops) Run(ctx context.Context) error {
	for {
		if err := l.lead(ctx); err != nil && ctx.Err() == nil {
			l.Logger.Warn().Err(err).Msg("control loops interrupted")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lockRetry):
		}
	}
}

// lead takes the lock, if it is free, and runs the loops while its connection lives.
func (l *Loops) lead(ctx context.Context) error {
	dialing, cancel := context.WithTimeout(ctx, pingTimeout)
	conn, err := pgx.Connect(dialing, l.DirectURL)
	cancel()
	if err != nil {
		return fmt.Errorf("connecting for the lock: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
		defer cancel()
		_ = conn.Close(closing) // gives the lock back
	}()
	// A leader whose machine has vanished must not keep the lock for as long as TCP would wait.
	if _, err := conn.Exec(ctx, "SET idle_session_timeout = '30s'"); err != nil {
		return fmt.Errorf("preparing the lock's connection: %w", err)
	}
	var leading bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(lockKey)).Scan(&leading); err != nil || !leading {
		return err
	}
	l.Logger.Debug().Msg("control loops lead")
	ctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer stop()
	if l.Sandboxes != nil { // calls to a provider take their time, and must not hold up the rounds
		beside.Go(func() { l.Sandboxes.run(ctx, l) })
	}
	if l.Retention != nil { // neither must a day with many executions
		beside.Go(func() { l.Retention.run(ctx, l) })
	}
	return l.tick(ctx, conn)
}

// ping asks the lock's connection for a sign of life, but not for as long as TCP would wait for one.
func ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return conn.Ping(ctx)
}

// tick runs each loop at its times. The lock's connection is asked before each round, and an error that says that the
// database does not answer ends the rounds: the reaper begins again as if the process had just started.
func (l *Loops) tick(ctx context.Context, conn *pgx.Conn) error {
	var partitionsDue time.Time
	reaper := newReaper(l, time.Now())
	ticker := time.NewTicker(roundEvery)
	defer ticker.Stop()
	for {
		if err := ping(ctx, conn); err != nil {
			return fmt.Errorf("losing the lock: %w", err)
		}
		// Partitions first: nothing can be recorded without them, not even the end by a deadline.
		if now := time.Now(); now.After(partitionsDue) {
			partitionsDue = now.Add(partitionEvery)
			if err := l.Events.EnsurePartitions(ctx); err != nil {
				// There are days ahead; deadlines cannot wait.
				l.Logger.Warn().Err(err).Msg("making partitions failed; trying again")
				partitionsDue = now.Add(partitionRetry)
			}
		}
		if err := l.round(ctx, reaper); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// round is what is due every second. What Postgres refuses in one loop holds up neither the others nor the next round; no
// answer at all is an error.
func (l *Loops) round(ctx context.Context, r *reaper) error {
	_, deadlines := l.Queue.PassDeadlines(ctx)
	_, timers := l.Queue.UnparkDue(ctx)
	superseded, groups := l.Queue.CancelSuperseded(ctx)
	l.metrics.superseded.Add(float64(superseded))
	_, orphans := l.Queue.CancelOrphans(ctx)
	reaper := r.round(ctx, time.Now())
	var lost error
	for name, err := range map[string]error{"deadlines": deadlines, "timers": timers, "groups": groups, "orphans": orphans, "reaper": reaper} {
		switch {
		case err == nil:
		case isRefusal(err):
			l.Logger.Error().Err(err).Str("loop", name).Msg("a control loop was refused something; the others go on")
		default:
			lost = errors.Join(lost, err)
		}
	}
	return lost
}

// isRefusal reports whether the database has answered, and is there for the next question: neither a lost connection (class 08)
// nor a server that ends (57P).
func isRefusal(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !strings.HasPrefix(pg.Code, "08") && !strings.HasPrefix(pg.Code, "57P")
}
