package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"foundry/internal/auth"
	"foundry/internal/execution"
)

// Sweep is how many rows of one kind were deleted because their time had passed.
type Sweep struct {
	Kind string // such as "audit entries"
	Rows int64
}

// auditIDs is the age above which audit entries are looked at: a day less than they are kept, since an entry's id and its time are of two clocks.
const auditIDs = 399 * 24 * time.Hour

// sweep deletes rows that only time makes useless. It returns the kinds of which there were any.
func (s *store) sweep(ctx context.Context, now time.Time) ([]Sweep, error) {
	var swept []Sweep
	var failures []error
	for _, kind := range []struct {
		name  string
		batch func(ctx context.Context) (int64, error)
	}{
		{"audit entries", func(ctx context.Context) (int64, error) {
			return s.q.RetentionSweepAudit(ctx, execution.FirstID(now.Add(-auditIDs)))
		}},
		{"unfinished artifacts", s.q.RetentionSweepArtifacts},
		{"idempotency keys", s.q.RetentionSweepIdempotencyKeys},
		{"sign-in failures", s.q.RetentionSweepSignInFailures},
		{"sessions", func(ctx context.Context) (int64, error) {
			return s.q.RetentionSweepSessions(ctx, auth.SessionIdle.Seconds())
		}},
		{"sign-in links", s.q.RetentionSweepSignInLinks},
		{"invitations", s.q.RetentionSweepInvitations},
		{"tokens", s.q.RetentionSweepTokens},
		{"workers", s.q.RetentionSweepWorkers},
	} {
		rows, err := drain(ctx, kind.batch)
		if rows > 0 {
			swept = append(swept, Sweep{Kind: kind.name, Rows: rows})
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("sweeping %s: %w", kind.name, err))
		}
	}
	return swept, errors.Join(failures...)
}

// drain deletes until a batch is not full.
func drain(ctx context.Context, batch func(ctx context.Context) (int64, error)) (int64, error) {
	var rows int64
	for {
		n, err := batch(ctx)
		rows += n
		if err != nil || n < batchSize {
			return rows, err
		}
	}
}
