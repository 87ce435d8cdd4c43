-- name: QueueClaim :many
-- Never waits: rows that others hold are passed over. The CTE is materialized, since a subquery with
-- LIMIT may run more than once and claim too many. Passed over are also workflows whose secrets this worker
-- could not open a moment ago. An execution of a workflow without secrets is decided here: it reads none, now or later.
-- Index: execution_queue_order, secrets_workflow, execution_secrets_pkey.
WITH picked AS MATERIALIZED (
    SELECT q.execution_id
    FROM execution_queue q
    JOIN executions e ON e.id = q.execution_id
    WHERE e.worker_id IS NULL AND e.finished_at IS NULL AND e.workflow_id <> ALL (@avoid::uuid[])
      AND EXISTS (SELECT 1 FROM workers w WHERE w.id = @worker_id AND w.state = 'active' AND w.lease_until > now())
    ORDER BY q.run_order, q.execution_id
    LIMIT @lim
    FOR UPDATE OF q SKIP LOCKED
    FOR NO KEY UPDATE OF e SKIP LOCKED
), taken AS (
    DELETE FROM execution_queue q USING picked p WHERE q.execution_id = p.execution_id
), claimed AS (
    UPDATE executions e SET
        status = 'running', worker_id = @worker_id, claim = e.claim + 1, last_seq = e.last_seq + 1,
        claimed_at = now(),
        secrets_read = e.secrets_read OR NOT EXISTS (SELECT 1 FROM secrets s WHERE s.workflow_id = e.workflow_id AND s.deleted_at IS NULL),
        deadline_at = COALESCE(e.deadline_at, now() + e.timeout_ms * interval '1 millisecond')
    FROM picked p WHERE e.id = p.execution_id
    RETURNING e.*
), event AS (
    INSERT INTO execution_events (day, execution_id, seq, type, data)
    SELECT execution_day(c.id), c.id, c.last_seq, 'execution.claimed', jsonb_build_object('worker_id', c.worker_id, 'claim', c.claim)
    FROM claimed c
)
SELECT c.id, c.organization_id, c.workflow_id, w.slug AS workflow_slug, c.workflow_version, c.number, c.source, c.claim, c.signal,
    c.queued_at, c.claimed_at, c.started_at, (c.cancel_requested_at IS NOT NULL)::bool AS canceled,
    (c.cancel_forced_at IS NOT NULL)::bool AS cancel_forced, (c.deadline_passed_at IS NOT NULL)::bool AS deadline_passed, d.inputs,
    (NOT c.secrets_read OR EXISTS (SELECT 1 FROM execution_secrets x WHERE x.execution_id = c.id))::bool AS has_secrets
FROM claimed c
JOIN workflows w ON w.id = c.workflow_id
JOIN execution_data d ON d.execution_id = c.id
ORDER BY c.id;

-- name: QueueHeld :many
-- What a worker holds and does not drive: the answer to its claim was lost. Index: executions_pkey.
SELECT c.id, c.organization_id, c.workflow_id, w.slug AS workflow_slug, c.workflow_version, c.number, c.source, c.claim, c.signal,
    c.queued_at, c.claimed_at, c.started_at, (c.cancel_requested_at IS NOT NULL)::bool AS canceled,
    (c.cancel_forced_at IS NOT NULL)::bool AS cancel_forced, (c.deadline_passed_at IS NOT NULL)::bool AS deadline_passed, d.inputs,
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

-- name: QueueDepth :one
-- For /metrics. Index: execution_queue_order.
SELECT count(*) AS depth, COALESCE(EXTRACT(epoch FROM now() - min(e.queued_at)), 0)::float8 AS oldest_seconds
FROM execution_queue q JOIN executions e ON e.id = q.execution_id;
