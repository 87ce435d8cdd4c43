package pgtest

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// CheckInvariants fails the test for every execution that breaks a rule which holds between any two
// transactions. It is for the end of a scenario, and for its middle.
func CheckInvariants(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	violations, err := Violations(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range violations {
		t.Error(v)
	}
}

// Violations lists what CheckInvariants complains about: places of executions (protocols.md, 1) and gaps in
// their histories (design.md, 4). It reads one snapshot.
func Violations(ctx context.Context, pool *pgxpool.Pool) ([]string, error) {
	var violations []string
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// Everything is read, with statistics that may never have been gathered.
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = '60s'; SET LOCAL enable_nestloop = off;
SET LOCAL enable_seqscan = on`); err != nil {
			return err
		}
		for _, query := range []string{placesSQL, timersSQL, historiesSQL, endsSQL, pausesSQL, queuedSQL, slotsSQL, groupsSQL, contentsSQL, chunksSQL, filesSQL} {
			rows, err := tx.Query(ctx, query)
			if err != nil {
				return err
			}
			found, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			violations = append(violations, found...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the invariants: %w", err)
	}
	return violations, nil
}

const (
	// A parked execution is one that waits without a queue row.
	placesSQL = `
SELECT format('execution %s (%s, worker %s, queue row: %s, blocked: %s) is %s', id, status, COALESCE(worker_id::text, 'none'), queued, blocked,
    CASE WHEN finished THEN 'terminal and still somewhere' ELSE format('in %s places', places) END)
FROM (
    SELECT e.id, e.status, e.worker_id, q.execution_id IS NOT NULL AS queued, b.execution_id IS NOT NULL AS blocked, e.finished_at IS NOT NULL AS finished,
        (q.execution_id IS NOT NULL AND e.worker_id IS NULL)::int        -- ready
        + (q.execution_id IS NOT NULL AND e.worker_id IS NOT NULL)::int * 2 -- ready and held
        + (q.execution_id IS NULL AND e.worker_id IS NOT NULL AND e.status = 'running')::int -- held
        + (q.execution_id IS NULL AND e.worker_id IS NULL AND e.status = 'waiting')::int -- parked
        + (b.execution_id IS NOT NULL)::int + (b.execution_id IS NOT NULL AND e.status <> 'queued')::int * 2 -- blocked, and blocked after it has begun
        AS places
    FROM executions e LEFT JOIN execution_queue q ON q.execution_id = e.id LEFT JOIN concurrency_waiters b ON b.execution_id = e.id
) AS x
WHERE (NOT finished AND places <> 1) OR (finished AND (queued OR blocked OR worker_id IS NOT NULL))`

	// A slot is held from admission to the end, and of nothing else.
	slotsSQL = `
SELECT format('execution %s (%s) of the group %s has a slot: %s, and is blocked: %s', e.id, e.status, COALESCE(e.concurrency_group, 'none'),
    s.execution_id IS NOT NULL, b.execution_id IS NOT NULL)
FROM executions e LEFT JOIN concurrency_slots s ON s.execution_id = e.id LEFT JOIN concurrency_waiters b ON b.execution_id = e.id
WHERE (s.execution_id IS NOT NULL) <> (e.concurrency_group IS NOT NULL AND e.finished_at IS NULL AND b.execution_id IS NULL)
   OR b.execution_id IS NOT NULL AND e.concurrency_group IS NULL
UNION ALL
SELECT format('execution %s of the group %s is in the group %s', e.id, e.concurrency_group, g.name)
FROM (SELECT execution_id, group_id FROM concurrency_slots UNION ALL SELECT execution_id, group_id FROM concurrency_waiters) AS i
JOIN executions e ON e.id = i.execution_id JOIN concurrency_groups g ON g.id = i.group_id
WHERE (g.organization_id, g.name) IS DISTINCT FROM (e.organization_id, e.concurrency_group)`

	// Nobody waits for a group that has room, unless his workflow is paused.
	groupsSQL = `
SELECT format('the group %s has room for %s, %s have a slot and %s wait', g.name, g.max_running, COALESCE(s.held, 0), w.waiting)
FROM concurrency_groups g
JOIN (SELECT group_id, count(*) AS waiting FROM concurrency_waiters WHERE NOT paused GROUP BY group_id) AS w ON w.group_id = g.id
LEFT JOIN (SELECT group_id, count(*) AS held FROM concurrency_slots GROUP BY group_id) AS s ON s.group_id = g.id
WHERE COALESCE(s.held, 0) < g.max_running`

	timersSQL = `
SELECT format('execution %s (%s) has a timer and is not parked', e.id, e.status)
FROM execution_timers t JOIN executions e ON e.id = t.execution_id
WHERE e.status <> 'waiting' OR EXISTS (SELECT 1 FROM execution_queue q WHERE q.execution_id = e.id)`

	pausesSQL = `
SELECT format('execution %s (%s) has a queue row that is paused: %s, and its workflow is: %s', e.id, e.status, q.paused, w.paused_at IS NOT NULL)
FROM execution_queue q JOIN executions e ON e.id = q.execution_id JOIN workflows w ON w.id = e.workflow_id
WHERE q.paused <> (e.status = 'queued' AND w.paused_at IS NOT NULL)
UNION ALL
SELECT format('execution %s waits for its group, which is paused: %s, and its workflow is: %s', e.id, b.paused, w.paused_at IS NOT NULL)
FROM concurrency_waiters b JOIN executions e ON e.id = b.execution_id JOIN workflows w ON w.id = e.workflow_id
WHERE b.paused <> (w.paused_at IS NOT NULL)`

	queuedSQL = `
SELECT format('workflow %s counts %s queued executions at most and has %s', w.id, w.last_number - w.dequeued, count(*))
FROM workflows w JOIN executions e ON e.workflow_id = w.id AND e.status = 'queued'
GROUP BY w.id HAVING count(*) > w.last_number - w.dequeued`

	historiesSQL = `
WITH records AS (
    SELECT execution_id, count(*) AS records, min(seq) AS first, max(seq) AS last, count(DISTINCT seq) AS numbers FROM (
        SELECT execution_id, seq FROM execution_events UNION ALL SELECT execution_id, seq FROM execution_logs) AS s
    GROUP BY execution_id
)
SELECT format('execution %s has %s records, numbered %s to %s, and last_seq %s', e.id, COALESCE(h.records, 0), h.first, h.last, e.last_seq)
FROM executions e LEFT JOIN records h ON h.execution_id = e.id
WHERE COALESCE(h.records, 0) <> e.last_seq OR h.last <> e.last_seq OR h.numbers <> h.records OR h.first > 1`

	endsSQL = `
SELECT format('execution %s is %s and its record %s of %s is %s', e.id, e.status, v.seq, e.last_seq, v.type)
FROM executions e
JOIN execution_events v ON v.execution_id = e.id
WHERE v.type IN ('execution.completed', 'execution.failed', 'execution.canceled', 'execution.timed_out')
    AND (v.seq <> e.last_seq OR v.type <> 'execution.' || e.status)
UNION ALL
SELECT format('execution %s is %s without the event', e.id, e.status)
FROM executions e
WHERE e.finished_at IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM execution_events v WHERE v.execution_id = e.id AND v.type = 'execution.' || e.status)`
)
