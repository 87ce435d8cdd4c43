package event

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"foundry/internal/postgres/dbsqlc"
)

// DaysAhead is how many days of partitions are made ahead.
const DaysAhead = 30

// EnsurePartitions makes the partitions from yesterday to DaysAhead where they are missing. There is no
// default partition: an event of a day without one is an error, which /readyz announces days before.
func (s *Store) EnsurePartitions(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := dbsqlc.New(tx)
		if err := q.PartitionsLock(ctx); err != nil {
			return err
		}
		// Whoever waits for a lock keeps all after it waiting, too: better to come again.
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '500ms'"); err != nil {
			return err
		}
		return q.PartitionsEnsure(ctx, DaysAhead)
	})
	if err != nil {
		return fmt.Errorf("making partitions: %w", err)
	}
	return nil
}

// PartitionsAhead returns how many days after today have their partitions, up to the first that has
// not; 60 at most.
func (s *Store) PartitionsAhead(ctx context.Context) (int, error) {
	days, err := s.q.PartitionsAhead(ctx)
	if err != nil {
		return 0, fmt.Errorf("counting partitions: %w", err)
	}
	return int(days), nil
}
