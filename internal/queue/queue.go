package queue

import (
	"cmp"
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/batch"
	"foundry/internal/failpoint"
	"foundry/internal/postgres"
	"foundry/internal/postgres/dbsqlc"
)

// Store admits, claims, cancels and times out executions, and keeps the workers' leases. Safe for
// concurrent use.
type Store struct {
	pool     *pgxpool.Pool
	q        *dbsqlc.Queries
	notifier *postgres.Notifier
	// queuedMax is how many executions of a workflow may be queued where the workflow does not say.
	queuedMax int
	enqueues  batch.Turns[lane, *newcomer, share]
}

// DefaultQueuedMax is how many executions of a workflow may be queued, where neither it nor the store says.
const DefaultQueuedMax = 10_000

// Option changes a new store.
type Option func(*Store)

// QueuedMax makes n the number of executions of a workflow that may be queued, where the workflow does not say; 0 is DefaultQueuedMax.
func QueuedMax(n int) Option {
	return func(s *Store) { s.queuedMax = cmp.Or(n, DefaultQueuedMax) }
}

// NewStore returns a store on the pool. Wake-ups go out through the notifier.
func NewStore(pool *pgxpool.Pool, notifier *postgres.Notifier, options ...Option) *Store {
	s := &Store{pool: pool, q: dbsqlc.New(pool), notifier: notifier, queuedMax: DefaultQueuedMax}
	for _, option := range options {
		option(s)
	}
	s.enqueues.Do = s.enqueueShared
	return s
}

// wake says who is to be woken by a change: workers, and readers of executions.
type wake struct {
	work bool
	ids  []uuid.UUID
}

// change is transact with queries.
func (s *Store) change(ctx context.Context, w wake, f func(q *dbsqlc.Queries) error) error {
	return s.transact(ctx, w, func(tx dbsqlc.DBTX) error { return f(dbsqlc.New(tx)) })
}

// transact is announce for who knows beforehand whom it wakes.
func (s *Store) transact(ctx context.Context, w wake, f func(tx dbsqlc.DBTX) error) error {
	return s.announce(ctx, func(tx dbsqlc.DBTX) (wake, error) { return w, f(tx) })
}

// announce is one transaction of two round trips, with its wake-up in it where the window allows.
func (s *Store) announce(ctx context.Context, f func(tx dbsqlc.DBTX) (wake, error)) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx := postgres.Begin(conn.Conn())
	defer tx.Rollback(ctx)
	w, err := f(tx)
	if err != nil {
		return err
	}
	claim := s.notifier.Claim(w.work, w.ids)
	if err = claim.Exec(ctx, tx); err == nil {
		err = failpoint.Around(ctx, "queue.commit", func() error { return tx.Commit(ctx) })
	}
	claim.Done(err)
	return err
}
