package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/postgres"
	"foundry/internal/postgres/dbsqlc"
)

// A batch that fails for a passing reason is tried again for this long before its callers are told.
const (
	retryFor   = time.Minute
	retryFirst = 10 * time.Millisecond
	retryMost  = time.Second
)

// commit makes a batch durable and answers every caller in it.
func (j *Journal) commit(ctx context.Context, entries []*pending) {
	receipts, stale, err := j.persist(ctx, entries)
	if err != nil && isData(err) {
		j.commitOneByOne(ctx, entries)
		return
	}
	for _, p := range entries {
		switch {
		case err != nil:
			j.resolve(p, Receipt{}, err)
		case stale[p]:
			j.metrics.stale.Inc()
			j.resolve(p, Receipt{}, errStale)
		default:
			j.resolve(p, receipts[p.entry.ExecutionID], nil)
		}
	}
}

// commitOneByOne finds the execution whose data cannot be stored, and ends it alone.
func (j *Journal) commitOneByOne(ctx context.Context, entries []*pending) {
	for len(entries) > 0 {
		id := entries[0].entry.ExecutionID
		var own, others []*pending
		for _, p := range entries {
			if p.entry.ExecutionID == id {
				own = append(own, p)
			} else {
				others = append(others, p)
			}
		}
		entries = others
		receipts, stale, err := j.persist(ctx, own)
		if err != nil && isData(err) {
			j.log.Error().Err(err).Str("execution_id", id.String()).Msg("data of an execution cannot be stored; ending it")
			err = j.endInternal(ctx, own[0].entry)
		}
		for _, p := range own {
			switch {
			case err != nil:
				j.resolve(p, Receipt{}, err)
			case stale[p]:
				j.resolve(p, Receipt{}, errStale)
			default:
				j.resolve(p, receipts[id], nil)
			}
		}
	}
}

// endInternal ends an execution whose data was refused, and returns what its callers get.
func (j *Journal) endInternal(ctx context.Context, e *Entry) error {
	failure := &execution.Failure{Code: string(errs.Internal), Message: "Foundry could not store what the execution did."}
	raw, err := encode(failure)
	if err != nil {
		return err
	}
	end := &pending{entry: &Entry{
		ExecutionID: e.ExecutionID, Claim: e.Claim,
		Records: []Record{{Type: event.ExecutionFailed, Data: fmt.Appendf(nil, `{"error":%s}`, raw)}},
		End:     &End{Status: execution.Failed, Failure: failure},
	}}
	if _, _, err := j.persist(ctx, []*pending{end}); err != nil {
		return err
	}
	return errs.E(errs.Internal, "%s", failure.Message)
}

// persist writes entries, again and again while the reason passes.
func (j *Journal) persist(ctx context.Context, entries []*pending) (map[uuid.UUID]Receipt, map[*pending]bool, error) {
	giveUp := time.Now().Add(retryFor)
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		b, err := j.write(ctx, entries)
		if err == nil {
			return b.receipts, b.stale, nil
		}
		if !passes(err) || ctx.Err() != nil {
			return nil, nil, fmt.Errorf("writing the journal: %w", err)
		}
		if time.Now().After(giveUp) {
			return nil, nil, errs.E(errs.Unavailable, "The database cannot be reached.").Because(err)
		}
		j.metrics.retries.Inc()
		j.log.Warn().Err(err).Int("entries", len(entries)).Msg("journal commit failed; trying again")
		select {
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// write is one transaction in two round trips.
func (j *Journal) write(ctx context.Context, entries []*pending) (*batch, error) {
	begun := time.Now()
	ids := make([]uuid.UUID, 0, len(entries))
	for _, p := range entries {
		ids = append(ids, p.entry.ExecutionID)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)

	conn, err := j.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	tx := postgres.Begin(conn.Conn())
	defer tx.Rollback(ctx)
	q := dbsqlc.New(tx)
	rows, err := q.JournalLock(ctx, ids)
	if err != nil {
		return nil, err
	}
	b, err := newBatch(entries, rows)
	if err != nil {
		return nil, err
	}
	if err := b.queueWrites(ctx, q); err != nil {
		return nil, err
	}
	claim := j.notifier.Claim(false, ids)
	if err = claim.Exec(ctx, tx); err == nil {
		err = tx.Commit(ctx)
	}
	claim.Done(err)
	if err != nil {
		return nil, err
	}
	j.metrics.commitSeconds.Observe(time.Since(begun).Seconds())
	j.metrics.batchSize.Observe(float64(len(entries)))
	return b, nil
}

// queueWrites puts the statements of a commit into the pipeline; none is sent before the commit.
// The order is that of the locks: executions are held already, node runs come after them.
func (b *batch) queueWrites(ctx context.Context, q *dbsqlc.Queries) error {
	var all []error
	add := func(rows int, write func() error) {
		if rows > 0 {
			all = append(all, write())
		}
	}
	add(len(b.nodeRuns.Ids), func() error { return q.NodeRunUpsertMany(ctx, b.nodeRuns) })
	add(len(b.events.Seqs), func() error { return q.EventInsertMany(ctx, b.events) })
	add(len(b.logs.Seqs), func() error { return q.LogInsertMany(ctx, b.logs) })
	add(len(b.cursors.Ids), func() error {
		c := &b.cursors
		return q.NodeRunAdvanceMany(ctx, c.Ids, c.Cursors, c.StdoutBytes, c.StderrBytes)
	})
	add(len(b.sandboxes.Ids), func() error { return q.SandboxUpsertMany(ctx, b.sandboxes) })
	add(len(b.executions.Ids), func() error {
		x := &b.executions
		return q.JournalAdvanceExecutions(ctx, x.Ids, x.LastSeqs, x.Statuses, x.Started)
	})
	add(len(b.results.Ids), func() error { return q.JournalStoreResults(ctx, b.results.Ids, b.results.Outputs, b.results.Errors) })
	return errors.Join(all...)
}

// isData reports whether Postgres refused a value: class 22 (data exception) or 23 (integrity).
func isData(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code[:2] == "22" || pg.Code[:2] == "23")
}

// passes reports whether nothing happened and the same batch may succeed later.
func passes(err error) bool {
	if errs.Is(err, errs.Unknown) {
		return false
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return true // no connection, or it was lost before COMMIT
	}
	switch pg.Code[:2] {
	case "40", "08", "53", "55", "57", "58": // rollback, connection, resources, not in state, operator, system
		return true
	}
	return false
}
