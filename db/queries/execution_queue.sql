-- name: QueueClaim :many
-- Never waits: rows that others hold are passed over. The CTE is materialized, since a subquery with
-- LIMIT may run more than once and claim too many. Passed over are also workflows whose secrets this worker
-- could not open a moment ago, and executions whose sandbox it could not reach; what is paused is not in the index (QueuePause says why).
-- An execution of a workflow without secrets is decided here: it reads none, now or later.
-- It must not depend on statistics, which for a queue were mostly taken while it was empty, when all ways to join are equally cheap. So what was
-- picked is looked up one by one, by ANY (ARRAY …), LATERAL … OFFSET 0 and LIMIT 1, which are no joins. And what is in the queue is held by
-- nobody and has not ended: IS NULL is taken for rare, and would be looked for in all executions; COALESCE is believed to be often true.
-- Index: execution_queue_order, secrets_workflow, execution_secrets_pkey.
WITH picked AS MATERIALIZED (
    SELECT q.execution_id
    FROM execution_queue q
    JOIN executions e ON e.id = q.execution_id
    WHERE NOT q.paused AND COALESCE(e.worker_id IS NULL AND e.finished_at IS NULL, false) AND e.workflow_id <> ALL (@avoid::uuid[]) AND e.id <> ALL (@avoid::uuid[])
      AND EXISTS (SELECT 1 FROM workers w WHERE w.id = @worker_id AND w.state = 'active' AND w.lease_until > now())
    ORDER BY q.run_order, q.execution_id
    LIMIT @lim
    FOR UPDATE OF q SKIP LOCKED
    FOR NO KEY UPDATE OF e SKIP LOCKED
), taken AS (
    DELETE FROM execution_queue WHERE execution_id = ANY (ARRAY(SELECT p.execution_id FROM picked p))
), claimed AS (
    UPDATE executions e SET
        status = 'running', worker_id = @worker_id, claim = e.claim + 1, last_seq = e.last_seq + 1,
        claimed_at = now(), parked_at = NULL,
        secrets_read = e.secrets_read OR NOT EXISTS (SELECT 1 FROM secrets s WHERE s.workflow_id = e.workflow_id AND s.deleted_at IS NULL),
        deadline_at = COALESCE(e.deadline_at + COALESCE(now() - e.parked_at, interval '0'), now() + e.timeout_ms * interval '1 millisecond')
    WHERE e.id = ANY (ARRAY(SELECT p.execution_id FROM picked p))
    RETURNING e.*
), event AS (
    INSERT INTO execution_events (day, execution_id, seq, type, data)
    SELECT execution_day(c.id), c.id, c.last_seq, 'execution.claimed', jsonb_build_object('worker_id', c.worker_id, 'claim', c.claim)
    FROM claimed c
)
SELECT c.id, c.organization_id, c.workflow_id, w.slug AS workflow_slug, c.workflow_version, c.number, c.source, c.claim, c.signal,
    c.queued_at, c.claimed_at, c.started_at, (c.cancel_requested_at IS NOT NULL)::bool AS canceled,
    (c.cancel_forced_at IS NOT NULL)::bool AS cancel_forced, (c.deadline_passed_at IS NOT NULL)::bool AS deadline_passed, (c.rerun_of IS NOT NULL)::bool AS rerun, c.parent_execution_id, c.depth, d.inputs,
    (NOT c.secrets_read OR COALESCE((SELECT true FROM execution_secrets x WHERE x.execution_id = c.id LIMIT 1), false))::bool AS has_secrets
FROM claimed c
JOIN workflows w ON w.id = c.workflow_id
CROSS JOIN LATERAL (SELECT x.inputs FROM execution_data x WHERE x.execution_id = c.id OFFSET 0) d
ORDER BY c.id;

-- name: QueueHeld :many
-- What a worker holds and does not drive: the answer to its claim was lost, or its engines had stopped for want of a
-- lease. Index: executions_pkey.
SELECT c.id, c.organization_id, c.workflow_id, w.slug AS workflow_slug, c.workflow_version, c.number, c.source, c.claim, c.signal,
    c.queued_at, c.claimed_at, c.started_at, (c.cancel_requested_at IS NOT NULL)::bool AS canceled,
    (c.cancel_forced_at IS NOT NULL)::bool AS cancel_forced, (c.deadline_passed_at IS NOT NULL)::bool AS deadline_passed, (c.rerun_of IS NOT NULL)::bool AS rerun, c.parent_execution_id, c.depth, d.inputs,
    (NOT c.secrets_read OR EXISTS (SELECT 1 FROM execution_secrets x WHERE x.execution_id = c.id))::bool AS has_secrets
FROM executions c
JOIN workflows w ON w.id = c.workflow_id
JOIN execution_data d ON d.execution_id = c.id
WHERE c.worker_id = @worker_id AND c.id = ANY (@ids::uuid[]) AND c.finished_at IS NULL
ORDER BY c.id;

-- name: QueueRelease :many
-- A worker gives an execution back, first in order. No row: the claim was not its any more.
WITH released AS (
    UPDATE executions SET worker_id = NULL, claim = claim + 1, last_seq = last_seq + 1
    WHERE id = @id AND claim = @claim AND worker_id IS NOT NULL AND finished_at IS NULL
    RETURNING id, last_seq
), queued AS (
    INSERT INTO execution_queue (execution_id, run_order) SELECT id, '-infinity' FROM released
), event AS (
    INSERT INTO execution_events (day, execution_id, seq, type, data)
    SELECT @day::date, id, last_seq, 'execution.released', @event::jsonb FROM released
)
SELECT id FROM released;

-- name: QueueFreeLost :many
-- The reaper frees what workers hold that are gone, first in order again. What is locked is left to the next
-- round: it is being written, or freed by somebody else. Index: executions_held.
WITH lost AS MATERIALIZED (
    -- A join, so that a row which was claimed meanwhile is compared with its new worker.
    SELECT e.id, e.worker_id FROM executions e JOIN workers w ON w.id = e.worker_id AND w.state = 'gone'
    WHERE e.worker_id IS NOT NULL
    ORDER BY e.id LIMIT 100
    FOR NO KEY UPDATE OF e SKIP LOCKED
), freed AS (
    UPDATE executions e SET worker_id = NULL, claim = e.claim + 1, last_seq = e.last_seq + 1
    FROM lost l WHERE e.id = l.id
    RETURNING e.id, e.last_seq, l.worker_id AS lost_by
), queued AS (
    INSERT INTO execution_queue (execution_id, run_order) SELECT id, '-infinity' FROM freed
), event AS (
    INSERT INTO execution_events (day, execution_id, seq, type, data)
    SELECT execution_day(id), id, last_seq, 'execution.released', jsonb_build_object('reason', @reason::text, 'worker_id', lost_by) FROM freed
)
SELECT id FROM freed ORDER BY id;

-- name: QueueFreeAll :many
-- A worker that leaves gives back what it holds, at most 100 a call. Index: executions_held.
WITH mine AS MATERIALIZED (
    SELECT e.id FROM executions e WHERE e.worker_id = @worker_id ORDER BY e.id LIMIT 100 FOR NO KEY UPDATE OF e
), freed AS (
    UPDATE executions e SET worker_id = NULL, claim = e.claim + 1, last_seq = e.last_seq + 1
    FROM mine m WHERE e.id = m.id
    RETURNING e.id, e.last_seq
), queued AS (
    INSERT INTO execution_queue (execution_id, run_order) SELECT id, '-infinity' FROM freed
), event AS (
    INSERT INTO execution_events (day, execution_id, seq, type, data)
    SELECT execution_day(id), id, last_seq, 'execution.released', jsonb_build_object('reason', @reason::text, 'worker_id', @worker_id::uuid) FROM freed
)
SELECT id FROM freed ORDER BY id;

-- name: QueueUnpark :exec
-- Under the execution's lock: if it is parked, it is ready again, first in order. Of one that is not parked nothing changes.
WITH parked AS (
    SELECT e.id FROM executions e WHERE e.id = @id AND e.status = 'waiting'
), queued AS (
    INSERT INTO execution_queue (execution_id, run_order) SELECT id, '-infinity' FROM parked ON CONFLICT DO NOTHING
)
DELETE FROM execution_timers t USING parked p WHERE t.execution_id = p.id;

-- name: QueueUnparkDue :many
-- What a time moves on is ready again, at most 500 a call. What is locked is left to the next round. Index: execution_timers_due.
WITH due AS MATERIALIZED (
    SELECT t.execution_id, e.status FROM execution_timers t JOIN executions e ON e.id = t.execution_id
    WHERE t.due_at <= now()
    ORDER BY t.due_at, t.execution_id LIMIT 500
    FOR NO KEY UPDATE OF e SKIP LOCKED
), queued AS (
    INSERT INTO execution_queue (execution_id, run_order) SELECT execution_id, '-infinity' FROM due WHERE status = 'waiting' ON CONFLICT DO NOTHING
)
DELETE FROM execution_timers t USING due d WHERE t.execution_id = d.execution_id RETURNING t.execution_id;

-- name: QueueSignalSecrets :many
-- After a secret of the workflow was set: who has read its secrets is to read what is newer. Who holds none yet, or is held by nobody, reads
-- it anyway at its next claim. Index: executions_held.
WITH readers AS MATERIALIZED (
    SELECT e.id FROM executions e WHERE e.workflow_id = @workflow_id AND e.worker_id IS NOT NULL AND e.secrets_read
    ORDER BY e.id FOR NO KEY UPDATE OF e
)
UPDATE executions e SET signal = e.signal + 1 FROM readers r WHERE e.id = r.id RETURNING e.id;

-- name: QueueMisplaced :many
-- Executions that are in no place. Between two transactions there are none, unless Foundry is wrong.
-- Index: executions_queue_deadline, executions_unheld, execution_queue_pkey, concurrency_waiters_pkey.
SELECT e.id FROM executions e
WHERE (e.status = 'queued' OR e.status = 'running' AND e.worker_id IS NULL)
  AND NOT EXISTS (SELECT 1 FROM execution_queue q WHERE q.execution_id = e.id)
  AND NOT EXISTS (SELECT 1 FROM concurrency_waiters b WHERE b.execution_id = e.id)
ORDER BY e.id LIMIT 100;

-- name: QueueReplace :many
-- Puts an execution that is in no place where it can be claimed. No row: it is in a place, or has no slot in its group (GroupLost).
WITH misplaced AS MATERIALIZED (
    SELECT e.id, CASE WHEN e.status = 'queued' THEN e.queued_at - e.priority * interval '5 minutes' ELSE '-infinity' END AS run_order,
        e.status = 'queued' AND w.paused_at IS NOT NULL AS paused
    FROM executions e JOIN workflows w ON w.id = e.workflow_id
    WHERE e.id = @id AND (e.status = 'queued' OR e.status = 'running' AND e.worker_id IS NULL)
      AND (e.status = 'running' OR e.concurrency_group IS NULL OR EXISTS (SELECT 1 FROM concurrency_slots s WHERE s.execution_id = e.id))
    FOR NO KEY UPDATE OF e FOR SHARE OF w
)
INSERT INTO execution_queue (execution_id, run_order, paused) SELECT id, run_order, paused FROM misplaced ON CONFLICT DO NOTHING RETURNING execution_id;

-- name: QueueDrop :exec
-- Of executions that have ended.
DELETE FROM execution_queue WHERE execution_id = ANY (@ids::uuid[]);

-- name: QueuePause :exec
-- Under the workflow's lock, which every enqueue takes: what of it was never claimed is left out of the order, or is in it again.
-- A claim that has a row already is waited for; one that comes later passes the row over.
-- Index: executions_workflow_set, execution_queue_pkey. 100,000 rows take 1.2 s, once; claims do not wait for it. EXPLAIN (ANALYZE) of a claim's
-- CTE behind 100,000 paused ones that have waited the longest: 0.35 ms, and 53 ms for the first one, which meets the entries that the
-- update has left in the index. A list of the paused workflows to pass over, compared with each row, took 28 to 37 ms in every claim.
UPDATE execution_queue q SET paused = @paused
FROM executions e
WHERE e.id = q.execution_id AND e.workflow_id = @workflow_id AND e.status = 'queued' AND q.paused <> @paused
  AND e.source = ANY ('{ui,api,schedule,webhook,execution,system}'::text[]);

-- name: QueueWake :exec
-- Wakes workers when the transaction commits.
SELECT pg_notify('foundry_work', '');

-- name: QueueDepth :one
-- For /metrics: what may be claimed. Index: execution_queue_order.
SELECT count(*) AS depth, COALESCE(EXTRACT(epoch FROM now() - min(e.queued_at)), 0)::float8 AS oldest_seconds
FROM execution_queue q JOIN executions e ON e.id = q.execution_id
WHERE NOT q.paused;
