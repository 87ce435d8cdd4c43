package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/postgres/dbsqlc"
)

// Copied is the code of what is refused because the database is a copy of another one.
const Copied errs.Code = "database_copied"

// Store reads and writes the rows of sandboxes for one place. Safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	q    *dbsqlc.Queries
}

// NewStore returns a store on the pool.
func NewStore(pool *pgxpool.Pool) *Store {
	return &Store{pool: pool, q: dbsqlc.New(pool)}
}

// Home returns the installation's id, which labels its sandboxes. In a copy of its database the error is Copied.
func (s *Store) Home(ctx context.Context) (uuid.UUID, error) {
	row, err := s.q.InstallationHome(ctx)
	if err == nil && row.Home == "" {
		if err = failpoint.Around(ctx, "reconcile.settle", func() error { return s.q.InstallationSettle(ctx) }); err == nil {
			row, err = s.q.InstallationHome(ctx)
		}
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("reading the installation: %w", err)
	}
	if row.Home != row.Here {
		return uuid.Nil, errs.E(Copied, "This database is a copy of the one that the installation lives in, so sandboxes are left alone: they may be the "+
			"original's. If the original is not in use any more, run `foundry doctor --adopt` on this one.")
	}
	return row.ID, nil
}

// Adopt makes this database the home of its installation. It reports false if it was already.
func (s *Store) Adopt(ctx context.Context) (bool, error) {
	n, err := failpoint.Call(ctx, "reconcile.adopt", func() (int64, error) { return s.q.InstallationAdopt(ctx) })
	if err != nil {
		return false, fmt.Errorf("adopting the database: %w", err)
	}
	return n > 0, nil
}

// Finish records that a sandbox was destroyed. Nothing changes if another process was first.
func (s *Store) Finish(ctx context.Context, id uuid.UUID) error {
	if _, err := failpoint.Call(ctx, "reconcile.finish", func() (int64, error) { return s.q.SandboxFinish(ctx, id) }); err != nil {
		return fmt.Errorf("recording the end of a sandbox: %w", err)
	}
	return nil
}

// intend writes the intents that follow from the time and from what executions have become.
func (s *Store) intend(ctx context.Context, provider, host string) error {
	_, kept := failpoint.Call(ctx, "reconcile.expire_kept", func() (int64, error) { return s.q.SandboxExpireKept(ctx, provider, host) })
	_, ended := failpoint.Call(ctx, "reconcile.abandon_ended", func() (int64, error) { return s.q.SandboxAbandonEnded(ctx, provider, host) })
	_, expired := failpoint.Call(ctx, "reconcile.expire_parked", func() (int64, error) {
		return s.q.SandboxExpireParked(ctx, ReasonExpired, provider, host, ExpireAfter.Seconds())
	})
	_, parked := failpoint.Call(ctx, "reconcile.stop_parked", func() (int64, error) { return s.q.SandboxStopParked(ctx, provider, host, StopAfter.Seconds()) })
	if err := errors.Join(kept, ended, expired, parked); err != nil {
		return fmt.Errorf("writing intents for sandboxes: %w", err)
	}
	return nil
}

// box is a row as a round needs it.
type box struct {
	id         uuid.UUID
	providerID string // empty when the provider never told one
	kept       bool
}

// destroying returns at most 100 sandboxes to destroy, by id, from the one after the id given.
func (s *Store) destroying(ctx context.Context, provider, host string, after uuid.UUID) ([]box, error) {
	rows, err := s.q.SandboxListDestroying(ctx, provider, host, after)
	if err != nil {
		return nil, fmt.Errorf("reading sandboxes to destroy: %w", err)
	}
	list := make([]box, 0, len(rows))
	for _, row := range rows {
		b := box{id: row.ID}
		if row.ProviderID != nil {
			b.providerID = *row.ProviderID
		}
		list = append(list, b)
	}
	return list, nil
}

// stopping is destroying for those to stop whose execution is still parked.
func (s *Store) stopping(ctx context.Context, provider, host string, after uuid.UUID) ([]box, error) {
	rows, err := s.q.SandboxListStopping(ctx, provider, host, after)
	if err != nil {
		return nil, fmt.Errorf("reading sandboxes to stop: %w", err)
	}
	list := make([]box, 0, len(rows))
	for _, row := range rows {
		list = append(list, box{id: row.ID, providerID: row.ProviderID})
	}
	return list, nil
}

// resting is destroying, by 500, for those that should exist and that no worker drives.
func (s *Store) resting(ctx context.Context, provider, host string, after uuid.UUID) ([]box, error) {
	rows, err := s.q.SandboxListResting(ctx, provider, host, after)
	if err != nil {
		return nil, fmt.Errorf("reading sandboxes: %w", err)
	}
	list := make([]box, 0, len(rows))
	for _, row := range rows {
		list = append(list, box{id: row.ID, providerID: row.ProviderID, kept: row.State == "kept"})
	}
	return list, nil
}

// mayStop reports whether nobody needs the sandbox up at this instant.
func (s *Store) mayStop(ctx context.Context, id uuid.UUID) (bool, error) {
	may, err := s.q.SandboxMayStop(ctx, id)
	if err != nil {
		return false, fmt.Errorf("reading a sandbox to stop: %w", err)
	}
	return may, nil
}

// stopped records the result of a stop, unless its execution was taken up meanwhile.
func (s *Store) stopped(ctx context.Context, id uuid.UUID) error {
	if _, err := failpoint.Call(ctx, "reconcile.stopped", func() (int64, error) { return s.q.SandboxStopped(ctx, id) }); err != nil {
		return fmt.Errorf("recording the stop of a sandbox: %w", err)
	}
	return nil
}

// alive returns those of the sandboxes that may exist by their rows.
func (s *Store) alive(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	rows, err := s.q.SandboxListAlive(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("reading the rows of sandboxes: %w", err)
	}
	alive := make(map[uuid.UUID]bool, len(rows))
	for _, id := range rows {
		alive[id] = true
	}
	return alive, nil
}

// markGone records that a sandbox does not exist any more, with an event and a signal where its execution goes on. It reports false
// when a worker drives the execution: its engine will find out. Streams hear of it at their next look.
func (s *Store) markGone(ctx context.Context, id uuid.UUID) (marked bool, err error) {
	data, err := json.Marshal(map[string]any{"sandbox_id": id.String(), "stage": "rest", "reason": reasonGone})
	if err != nil {
		return false, fmt.Errorf("encoding an event: %w", err)
	}
	err = failpoint.Around(ctx, "reconcile.mark_gone", func() error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			q := dbsqlc.New(tx)
			executionID, err := q.SandboxLockExecution(ctx, id)
			if err != nil {
				return err
			}
			marked, err = q.SandboxMarkGone(ctx, dbsqlc.SandboxMarkGoneParams{
				Reason: reasonGone, ID: id, ExecutionID: executionID, Day: execution.Day(executionID), Event: data,
			})
			return err
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("recording that a sandbox is gone: %w", err)
	}
	return marked, nil
}

// Times of what rests.
const (
	// StopAfter is how long an execution is parked before its sandbox is stopped.
	StopAfter = 10 * time.Minute
	// ExpireAfter is how long it is parked before its sandbox is destroyed.
	ExpireAfter = 7 * 24 * time.Hour
)

// ReasonExpired is the reason on the row of a sandbox that was destroyed since its execution waited for days. The engine knows it by that.
const ReasonExpired = "The execution waited for too long to keep its sandbox."

const reasonGone = "The sandbox is gone."
