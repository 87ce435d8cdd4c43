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
	"foundry/internal/failpoint"
	"foundry/internal/postgres"
	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/queue"
)

// A batch that fails for a passing reason is tried again for this long before its callers are told.
const (
	retryFor   = time.Minute
	retryFirst = 10 * time.Millisecond
	retryMost  = time.Second
)

// commit makes a batch durable and answers every caller in it.
func (j *Journal) commit(ctx context.Context, entries []*pending) {
	entries = j.refuseBroken(entries)
	if len(entries) == 0 {
		return
	}
	receipts, refused, err := j.persist(ctx, entries)
	if err != nil && isData(err) {
		j.commitOneByOne(ctx, entries)
		return
	}
	for _, p := range entries {
		switch {
		case err != nil:
			j.resolve(p, Receipt{}, err)
		case refused[p] != nil:
			j.resolve(p, Receipt{}, refused[p])
		default:
			j.resolve(p, receipts[p.entry.ExecutionID], nil)
		}
	}
}

// right is an execution under one claim: what ends alone when its data is refused.
type right struct {
	executionID uuid.UUID
	claim       int64
}

// refuseBroken answers the entries of sessions in which one has failed, and returns the others.
func (j *Journal) refuseBroken(entries []*pending) []*pending {
	whole := make([]*pending, 0, len(entries))
	for _, p := range entries {
		if session := p.entry.Session; session != nil && session.err != nil {
			j.resolve(p, Receipt{}, session.err)
			continue
		}
		whole = append(whole, p)
	}
	return whole
}

// commitOneByOne finds the execution whose data cannot be stored, and ends it alone.
func (j *Journal) commitOneByOne(ctx context.Context, entries []*pending) {
	var order []right
	own := map[right][]*pending{}
	for _, p := range entries {
		r := right{p.entry.ExecutionID, p.entry.Claim}
		if own[r] == nil {
			order = append(order, r)
		}
		own[r] = append(own[r], p)
	}
	for _, r := range order {
		receipts, refused, err := j.persist(ctx, own[r])
		if err != nil && isData(err) {
			j.log.Error().Err(err).Str("execution_id", r.executionID.String()).Msg("data of an execution cannot be stored; ending it")
			err = j.endInternal(ctx, r)
		}
		for _, p := range own[r] {
			switch {
			case err != nil:
				j.resolve(p, Receipt{}, err)
			case refused[p] != nil:
				j.resolve(p, Receipt{}, refused[p])
			default:
				j.resolve(p, receipts[r.executionID], nil)
			}
		}
	}
}

// persist writes entries, again and again while the reason passes.
func (j *Journal) persist(ctx context.Context, entries []*pending) (map[uuid.UUID]Receipt, map[*pending]error, error) {
	var b *batch
	err := j.untilDone(ctx, func() (err error) {
		b, err = j.write(ctx, entries)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return b.receipts, b.refused, nil
}

// untilDone calls f again while its error passes, for a minute. It returns why ctx ended, if f failed by that.
func (j *Journal) untilDone(ctx context.Context, f func() error) error {
	giveUp := time.Now().Add(retryFor)
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		err := f()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil && !errs.Is(err, errs.Unknown):
			return context.Cause(ctx)
		case !passes(err):
			return fmt.Errorf("writing the journal: %w", err)
		case time.Now().After(giveUp):
			return errs.E(errs.Unavailable, "The database cannot be reached.").Because(err)
		}
		j.metrics.retries.Inc()
		j.log.Warn().Err(err).Msg("journal commit failed; trying again")
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
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
		if p.entry.End != nil && p.entry.Parent != nil {
			ids = append(ids, *p.entry.Parent)
		}
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
	var rows []dbsqlc.JournalLockRow
	err = failpoint.Around(ctx, "journal.lock", func() (err error) {
		rows, err = q.JournalLock(ctx, ids)
		return err
	})
	if err != nil {
		return nil, err
	}
	b, err := newBatch(entries, rows)
	if err != nil {
		return nil, err
	}
	if err := j.admitChildren(ctx, tx, b); err != nil {
		return nil, err
	}
	if err := b.queueWrites(ctx, q); err != nil {
		return nil, err
	}
	for _, c := range b.children {
		ids = append(ids, c.ID)
	}
	claim := j.notifier.Claim(len(b.leaving)+len(b.children)+len(b.parents) > 0, ids)
	if err = claim.Exec(ctx, tx); err == nil {
		err = failpoint.Around(ctx, "journal.commit", func() error { return tx.Commit(ctx) })
	}
	claim.Done(err)
	if err != nil {
		return nil, err
	}
	j.metrics.commitSeconds.Observe(time.Since(begun).Seconds())
	j.metrics.batchSize.Observe(float64(len(entries)))
	return b, nil
}

// admitChildren puts the children of the batch's executions where they wait for their turn. One that is refused is the affair of the engine
// that has asked for it.
func (j *Journal) admitChildren(ctx context.Context, tx dbsqlc.DBTX, b *batch) error {
	if len(b.children) == 0 {
		return nil
	}
	admitted, err := queue.Admit(ctx, tx, queue.Admission{Requests: b.children, QueuedMax: j.queuedMax, Leaving: b.leaving})
	if err != nil {
		return err
	}
	for i, a := range admitted {
		if a.Refused == nil {
			continue
		}
		parent := b.children[i].Parent.ExecutionID
		receipt := b.receipts[parent]
		if receipt.Refused == nil {
			receipt.Refused = map[uuid.UUID]*errs.Error{}
		}
		receipt.Refused[b.children[i].ID] = a.Refused
		b.receipts[parent] = receipt
	}
	return nil
}

// queueWrites puts the statements of a commit into the pipeline; none is sent before the commit.
// The order is that of the locks: executions are held already, then come concurrency groups, then node runs and the queue.
func (b *batch) queueWrites(ctx context.Context, q *dbsqlc.Queries) error {
	var all []error
	add := func(rows int, write func() error) {
		if rows > 0 {
			all = append(all, write())
		}
	}
	add(len(b.leaving), func() error { return q.GroupLock(ctx, b.leaving, []uuid.UUID{}) })
	add(len(b.nodeRuns.Ids), func() error { return q.NodeRunUpsertMany(ctx, b.nodeRuns) })
	add(len(b.events.Seqs), func() error { return q.EventInsertMany(ctx, b.events) })
	add(len(b.logs.Seqs), func() error { return q.LogInsertMany(ctx, b.logs) })
	add(len(b.cursors.Ids), func() error {
		c := &b.cursors
		return q.NodeRunAdvanceMany(ctx, c.Ids, c.Cursors, c.StdoutBytes, c.StderrBytes)
	})
	add(len(b.masks.Numbers), func() error { return q.MaskInsertMany(ctx, b.masks) })
	add(len(b.sandboxes.Ids), func() error { return q.SandboxUpsertMany(ctx, b.sandboxes) })
	add(len(b.artifacts), func() error { return q.ArtifactCompleteMany(ctx, b.artifacts) })
	add(len(b.dropped), func() error { return q.ArtifactDropMany(ctx, b.dropped) })
	add(len(b.executions.Ids), func() error {
		x := &b.executions
		return q.JournalAdvanceExecutions(ctx, x.Ids, x.LastSeqs, x.Statuses, x.Started)
	})
	add(len(b.timers.Ids), func() error { return q.JournalSetTimers(ctx, b.timers.Ids, b.timers.DueMs, b.timers.Reasons) })
	add(len(b.results.Ids), func() error { return q.JournalStoreResults(ctx, b.results.Ids, b.results.Outputs, b.results.Errors) })
	add(len(b.leaving), func() error { return q.GroupAdmit(ctx, b.leaving, []uuid.UUID{}) })
	add(len(b.parents), func() error { return q.ChildSignalParents(ctx, b.parents) })
	return errors.Join(all...)
}

// isData reports whether Postgres refused what is in the batch: class 21 (one row twice), 22 (data
// exception), 23 (integrity) or 54 (a key too long, JSON too deep). All of it repeats.
func isData(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch pg.Code[:2] {
	case "21", "22", "23", "54":
		return true
	}
	return false
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
	case "08", "25", "40", "53", "55", "57", "58": // connection, transaction state (a server that became read-only), rollback, resources, not in state, operator, system
		return true
	}
	return false
}
