-- name: ExecutionEnqueue :one
-- One statement: the number under the workflow's lock, the execution, its inputs, its place in the
-- queue or, with a group, whose lock the caller has, among those that wait for it, and event 1. No row: the organization has no such workflow, or as many of it may be queued as are allowed, for which
-- WorkflowLockQueue and WorkflowCountQueued know more. The condition holds for the row as it is once the lock is had, whatever
-- the statement's snapshot: a count in this statement would not see what the holder before has queued.
WITH workflow AS (
    UPDATE workflows SET last_number = last_number + 1
    WHERE workflows.id = @workflow_id AND workflows.deleted_at IS NULL AND workflows.organization_id = @organization_id
      AND last_number - dequeued < COALESCE(NULLIF(max_queued, 0), @queued_max::int)
    RETURNING workflows.id, organization_id, last_number, paused_at IS NOT NULL AS paused
), execution AS (
    INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, actor, priority, timeout_ms,
        last_seq, queued_at, queue_deadline_at, rerun_of, sandbox_from, concurrency_group, parent_execution_id, parent_node_run_id, depth)
    SELECT @id, w.organization_id, w.id, @workflow_version, w.last_number, 'queued', @source, @actor, @priority, sqlc.narg('timeout_ms'),
        1, now(), now() + make_interval(secs => @queue_timeout_seconds::float8), sqlc.narg('rerun_of'), sqlc.narg('sandbox_from'),
        sqlc.narg('concurrency_group'), sqlc.narg('parent_execution_id'), sqlc.narg('parent_node_run_id'), @depth
    FROM workflow w
    RETURNING id, number, priority, queued_at
), stored AS (
    INSERT INTO execution_data (execution_id, inputs) SELECT e.id, @inputs FROM execution e
), place AS (
    INSERT INTO execution_queue (execution_id, run_order, paused)
    SELECT e.id, e.queued_at - e.priority * interval '5 minutes', w.paused FROM execution e, workflow w
    WHERE sqlc.narg('group_id')::uuid IS NULL
), blocked AS (
    INSERT INTO concurrency_waiters (execution_id, group_id, run_order, paused, cancels)
    SELECT e.id, sqlc.narg('group_id'), e.queued_at - e.priority * interval '5 minutes', w.paused, @cancels::boolean FROM execution e, workflow w
    WHERE sqlc.narg('group_id')::uuid IS NOT NULL
), event AS (
    INSERT INTO execution_events (day, execution_id, seq, type, data)
    SELECT @day, e.id, 1, 'execution.queued', @event::jsonb || jsonb_build_object('number', e.number) FROM execution e
)
SELECT number, queued_at FROM execution;

-- name: ExecutionEnqueueMany :many
-- ExecutionEnqueue for several of one workflow, numbered in the order of the arrays: all of them, or no row. numbers counts from 1. What
-- is absent is 0, since arrays here hold no nulls.
WITH workflow AS (
    UPDATE workflows SET last_number = last_number + cardinality(@ids::uuid[])
    WHERE workflows.id = @workflow_id AND workflows.deleted_at IS NULL AND workflows.organization_id = @organization_id
      AND last_number + cardinality(@ids::uuid[]) - dequeued <= COALESCE(NULLIF(max_queued, 0), @queued_max::int)
    RETURNING workflows.id, organization_id, last_number - cardinality(@ids::uuid[]) AS number_before, paused_at IS NOT NULL AS paused
), request AS MATERIALIZED (
    SELECT unnest(@ids::uuid[]) AS id, unnest(@numbers::bigint[]) AS number, unnest(@versions::int[]) AS version, unnest(@sources::text[]) AS source,
        unnest(@actors::text[]) AS actor, unnest(@priorities::smallint[]) AS priority, unnest(@timeouts_ms::bigint[]) AS timeout_ms,
        unnest(@queue_timeouts_seconds::float8[]) AS queue_timeout_seconds, unnest(@inputs::text[]) AS inputs, unnest(@days::date[]) AS day,
        unnest(@events::text[]) AS event
), execution AS (
    INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, actor, priority, timeout_ms,
        last_seq, queued_at, queue_deadline_at)
    SELECT r.id, w.organization_id, w.id, r.version, w.number_before + r.number, 'queued', r.source, r.actor, r.priority, NULLIF(r.timeout_ms, 0),
        1, now(), now() + make_interval(secs => r.queue_timeout_seconds)
    FROM workflow w, request r
    RETURNING id, number, queued_at
), stored AS (
    INSERT INTO execution_data (execution_id, inputs) SELECT r.id, r.inputs::jsonb FROM request r, workflow
), place AS (
    INSERT INTO execution_queue (execution_id, run_order, paused)
    SELECT r.id, now() - r.priority * interval '5 minutes', w.paused FROM request r, workflow w
), event AS (
    INSERT INTO execution_events (day, execution_id, seq, type, data)
    SELECT r.day, r.id, 1, 'execution.queued', r.event::jsonb || jsonb_build_object('number', w.number_before + r.number) FROM request r, workflow w
)
SELECT id, number, queued_at FROM execution ORDER BY number;

-- name: ExecutionGet :one
-- One whose history was dropped counts as gone, also before its row is. Index: executions_pkey; for what runs it, also node_runs_id.
SELECT e.id, e.workflow_id, w.slug AS workflow_slug, e.workflow_version, e.number, e.status, e.source, e.actor, e.priority, e.claim, e.last_seq,
    e.worker_id, e.queued_at, e.claimed_at, e.started_at, e.deadline_at, e.cancel_requested_at, e.finished_at, e.rerun_of,
    d.inputs, d.outputs, d.error,
    e.concurrency_group, (e.status = 'queued' AND EXISTS (SELECT 1 FROM concurrency_waiters b WHERE b.execution_id = e.id))::bool AS blocked,
    p.id AS parent_id, p.number AS parent_number, pw.slug AS parent_workflow, n.node_key AS parent_node, n.index AS parent_index
FROM executions e
JOIN workflows w ON w.id = e.workflow_id
JOIN execution_data d ON d.execution_id = e.id
LEFT JOIN executions p ON p.id = e.parent_execution_id
LEFT JOIN workflows pw ON pw.id = p.workflow_id
LEFT JOIN node_runs n ON n.id = e.parent_node_run_id
WHERE e.id = @id AND e.organization_id = @organization_id
  AND to_regclass('execution_events_' || to_char(execution_day(e.id), 'YYYYMMDD')) IS NOT NULL;

-- name: ExecutionExpired :one
-- Whether the day of an id is so long ago that it had its partition, and has it no more. Partitions are made for yesterday and later.
SELECT (@day::date < (now() AT TIME ZONE 'UTC')::date - 1
    AND to_regclass('execution_events_' || to_char(@day::date, 'YYYYMMDD')) IS NULL)::bool AS expired;

-- name: ExecutionList :many
-- The lists of executions: newest first, with ids from first to below (UUIDv7: ids are in order of time), at most 201. The page's
-- ids are found first, in one index, merged from one ordered run of ids per source and status (6 and 7, so 42 runs at most, without a filter),
-- so that a page costs the same whatever the filter leaves out; the number there is a constant and the ids are an array, so that Postgres
-- expects few rows whatever it knows of the arguments. Index: executions_organization_set. EXPLAIN (ANALYZE, BUFFERS), a page of 201 out of
-- 1,000,000, three statuses, 1.1 ms:
--   Nested Loop (rows=201)
--     InitPlan, the page: Limit (rows=201) hit=61 -> Sort (id DESC, top-N) -> Nested Loop (rows=603) -> Function Scan status (3), source (6)
--       -> Limit 201 (rows=34 loops=18) -> Index Only Scan executions_organization_set (organization_id = $1 AND source = … AND status = … AND id >= … AND id < …)
--     -> Index Scan Backward executions_pkey (id = ANY (page)) hit=817 -> Memoize -> workflows_pkey hit=6
--     -> Index Scan execution_data_pkey (execution_id = e.id) hit=804
SELECT e.id, e.workflow_id, w.slug AS workflow_slug, e.workflow_version, e.number, e.status, e.source, e.actor, e.priority, e.last_seq,
    e.worker_id, e.queued_at, e.claimed_at, e.started_at, e.finished_at, e.cancel_requested_at, d.error,
    e.concurrency_group, (e.status = 'queued' AND EXISTS (SELECT 1 FROM concurrency_waiters b WHERE b.execution_id = e.id))::bool AS blocked
FROM executions e
JOIN workflows w ON w.id = e.workflow_id
JOIN execution_data d ON d.execution_id = e.id
WHERE w.organization_id = @organization_id AND e.id = ANY (ARRAY(
    SELECT page.id FROM unnest(@sources::text[]) AS source (name), unnest(@statuses::text[]) AS status (name), LATERAL (
        SELECT x.id FROM executions x
        WHERE x.organization_id = @organization_id AND x.source = source.name AND x.status = status.name AND x.id >= @first::uuid AND x.id < @below::uuid
        ORDER BY x.id DESC LIMIT 201
    ) page
    ORDER BY page.id DESC LIMIT @lim))
ORDER BY e.id DESC;

-- name: ExecutionListOfWorkflow :many
-- As ExecutionList. Index: executions_workflow_set. EXPLAIN: as there, with Index Only Scan executions_workflow_set (workflow_id = $1 AND
-- source = … AND status = … AND id >= … AND id < …) hit=20 for one status in all sources; 0.6 ms.
SELECT e.id, e.workflow_id, w.slug AS workflow_slug, e.workflow_version, e.number, e.status, e.source, e.actor, e.priority, e.last_seq,
    e.worker_id, e.queued_at, e.claimed_at, e.started_at, e.finished_at, e.cancel_requested_at, d.error,
    e.concurrency_group, (e.status = 'queued' AND EXISTS (SELECT 1 FROM concurrency_waiters b WHERE b.execution_id = e.id))::bool AS blocked
FROM executions e
JOIN workflows w ON w.id = e.workflow_id
JOIN execution_data d ON d.execution_id = e.id
WHERE w.organization_id = @organization_id AND e.id = ANY (ARRAY(
    SELECT page.id FROM unnest(@sources::text[]) AS source (name), unnest(@statuses::text[]) AS status (name), LATERAL (
        SELECT x.id FROM executions x
        WHERE x.workflow_id = @workflow_id AND x.source = source.name AND x.status = status.name AND x.id >= @first::uuid AND x.id < @below::uuid
        ORDER BY x.id DESC LIMIT 201
    ) page
    ORDER BY page.id DESC LIMIT @lim))
ORDER BY e.id DESC;

-- name: ExecutionListByActor :many
-- As ExecutionList. Index: executions_actor_set. EXPLAIN: as there, with Limit 201 (rows=32 loops=42) -> Index Only Scan
-- executions_actor_set (organization_id = $1 AND actor = $2 AND source = … AND status = … AND id >= … AND id < …) hit=181; 1.5 ms.
SELECT e.id, e.workflow_id, w.slug AS workflow_slug, e.workflow_version, e.number, e.status, e.source, e.actor, e.priority, e.last_seq,
    e.worker_id, e.queued_at, e.claimed_at, e.started_at, e.finished_at, e.cancel_requested_at, d.error,
    e.concurrency_group, (e.status = 'queued' AND EXISTS (SELECT 1 FROM concurrency_waiters b WHERE b.execution_id = e.id))::bool AS blocked
FROM executions e
JOIN workflows w ON w.id = e.workflow_id
JOIN execution_data d ON d.execution_id = e.id
WHERE w.organization_id = @organization_id AND e.id = ANY (ARRAY(
    SELECT page.id FROM unnest(@sources::text[]) AS source (name), unnest(@statuses::text[]) AS status (name), LATERAL (
        SELECT x.id FROM executions x
        WHERE x.organization_id = @organization_id AND x.actor = @actor AND x.source = source.name AND x.status = status.name AND x.id >= @first::uuid AND x.id < @below::uuid
        ORDER BY x.id DESC LIMIT 201
    ) page
    ORDER BY page.id DESC LIMIT @lim))
ORDER BY e.id DESC;

-- name: ExecutionListOfWorkflowByActor :many
-- As ExecutionList. Index: executions_workflow_actor_set. EXPLAIN: as there, with Limit 201 (rows=21 loops=42) -> Index Only Scan
-- executions_workflow_actor_set (workflow_id = $1 AND actor = $2 AND source = … AND status = … AND id >= … AND id < …) hit=177; 1.3 ms.
SELECT e.id, e.workflow_id, w.slug AS workflow_slug, e.workflow_version, e.number, e.status, e.source, e.actor, e.priority, e.last_seq,
    e.worker_id, e.queued_at, e.claimed_at, e.started_at, e.finished_at, e.cancel_requested_at, d.error,
    e.concurrency_group, (e.status = 'queued' AND EXISTS (SELECT 1 FROM concurrency_waiters b WHERE b.execution_id = e.id))::bool AS blocked
FROM executions e
JOIN workflows w ON w.id = e.workflow_id
JOIN execution_data d ON d.execution_id = e.id
WHERE w.organization_id = @organization_id AND e.id = ANY (ARRAY(
    SELECT page.id FROM unnest(@sources::text[]) AS source (name), unnest(@statuses::text[]) AS status (name), LATERAL (
        SELECT x.id FROM executions x
        WHERE x.workflow_id = @workflow_id AND x.actor = @actor AND x.source = source.name AND x.status = status.name AND x.id >= @first::uuid AND x.id < @below::uuid
        ORDER BY x.id DESC LIMIT 201
    ) page
    ORDER BY page.id DESC LIMIT @lim))
ORDER BY e.id DESC;

-- name: ExecutionListOfParent :many
-- As ExecutionList, of the executions that nodes of another run. There are at most 10,000 of these, so what other filters leave out is read
-- and passed over. Index: executions_children.
SELECT e.id, e.workflow_id, w.slug AS workflow_slug, e.workflow_version, e.number, e.status, e.source, e.actor, e.priority, e.last_seq,
    e.worker_id, e.queued_at, e.claimed_at, e.started_at, e.finished_at, e.cancel_requested_at, d.error,
    e.concurrency_group, (e.status = 'queued' AND EXISTS (SELECT 1 FROM concurrency_waiters b WHERE b.execution_id = e.id))::bool AS blocked
FROM executions e
JOIN workflows w ON w.id = e.workflow_id
JOIN execution_data d ON d.execution_id = e.id
WHERE w.organization_id = @organization_id AND e.id = ANY (ARRAY(
    SELECT page.id FROM (
        SELECT x.id FROM executions x
        WHERE x.parent_execution_id = @parent_id::uuid AND x.id >= @first::uuid AND x.id < @below::uuid
          AND x.workflow_id = COALESCE(sqlc.narg('workflow_id')::uuid, x.workflow_id) AND x.actor = COALESCE(NULLIF(@actor::text, ''), x.actor)
          AND x.source = ANY (@sources::text[]) AND x.status = ANY (@statuses::text[])
        ORDER BY x.id DESC LIMIT 201
    ) page
    ORDER BY page.id DESC LIMIT @lim))
ORDER BY e.id DESC;

-- name: ExecutionSummaries :many
-- For list screens and for waking streams: the few facts that change. Index: executions_pkey.
SELECT e.id, e.organization_id, w.slug AS workflow_slug, e.workflow_version, e.number, e.status, e.source, e.last_seq,
    e.queued_at, e.started_at, e.finished_at
FROM executions e JOIN workflows w ON w.id = e.workflow_id
WHERE e.id = ANY (@ids::uuid[]);

-- name: ExecutionHeads :many
-- Safety net of the streams: what has moved. Index: executions_pkey.
SELECT id, last_seq, (finished_at IS NOT NULL)::bool AS finished FROM executions WHERE id = ANY (@ids::uuid[]);

-- name: ExecutionSettle :one
-- Waits until no transaction is under way that might still write the execution: after a lost answer, one
-- may be committing yet. No row: the claim is gone.
SELECT started_at, signal, cancel_requested_at, cancel_forced_at, deadline_passed_at
FROM executions WHERE id = @id AND claim = @claim AND finished_at IS NULL FOR NO KEY UPDATE;

-- name: ExecutionLockFamily :exec
-- Locks an execution and its parent, which is signaled when it ends, in the order of their ids. Index: executions_pkey.
SELECT e.id FROM executions e
WHERE e.id = @id OR e.id = (SELECT c.parent_execution_id FROM executions c WHERE c.id = @id)
ORDER BY e.id FOR NO KEY UPDATE;

-- name: ExecutionLock :one
SELECT id, status, claim, last_seq, worker_id, cancel_requested_at, cancel_forced_at, (concurrency_group IS NOT NULL)::bool AS grouped, parent_execution_id
FROM executions WHERE id = @id AND organization_id = @organization_id FOR NO KEY UPDATE;

-- name: ExecutionCancelQueued :exec
-- For an execution that was never claimed, under its lock: terminal at once. A sandbox that it was to go on in is kept as before.
WITH ended AS (
    UPDATE executions SET status = 'canceled', cancel_requested_at = now(), finished_at = now(), claim = claim + 1, last_seq = last_seq + 1
    WHERE executions.id = @id AND status = 'queued' AND worker_id IS NULL
    RETURNING executions.id, last_seq
), place AS (
    DELETE FROM execution_queue WHERE execution_id = @id
), kept AS (
    UPDATE sandboxes b SET state = 'kept' FROM ended e WHERE b.execution_id = e.id AND b.state = 'ready'
)
INSERT INTO execution_events (day, execution_id, seq, type, data)
SELECT @day, e.id, e.last_seq, 'execution.canceled', @event FROM ended e;

-- name: ExecutionRequestCancel :exec
-- For one that has started, under its lock: the fact, its event and the signal. A second request forces.
WITH signaled AS (
    UPDATE executions SET
        -- Not now(), which was before the wait for the lock: what a node's start is compared with.
        cancel_requested_at = COALESCE(cancel_requested_at, clock_timestamp()),
        cancel_forced_at = CASE WHEN cancel_requested_at IS NULL THEN NULL ELSE COALESCE(cancel_forced_at, clock_timestamp()) END,
        signal = signal + 1, last_seq = last_seq + 1
    WHERE executions.id = @id AND finished_at IS NULL
    RETURNING executions.id, last_seq
)
INSERT INTO execution_events (day, execution_id, seq, type, data)
SELECT @day, s.id, s.last_seq, 'execution.cancel_requested', @event FROM signaled s;

-- name: ExecutionDeadlinesDue :many
-- Index: executions_deadline.
SELECT id FROM executions
WHERE deadline_at <= now() AND deadline_at IS NOT NULL AND deadline_passed_at IS NULL AND finished_at IS NULL AND parked_at IS NULL
ORDER BY id LIMIT 100;

-- name: ExecutionPassDeadline :many
-- Turns a passed deadline into a signal. No row: somebody else did, it ended, or it is being written: then the next round does it.
UPDATE executions SET deadline_passed_at = clock_timestamp(), signal = signal + 1
WHERE id = (SELECT e.id FROM executions e
    WHERE e.id = @id AND e.deadline_at <= now() AND e.deadline_passed_at IS NULL AND e.finished_at IS NULL AND e.parked_at IS NULL
    FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id;

-- name: ExecutionQueueDeadlinesDue :many
-- Index: executions_queue_deadline.
SELECT id, (concurrency_group IS NOT NULL)::bool AS grouped, parent_execution_id, EXISTS (SELECT 1 FROM concurrency_waiters w WHERE w.execution_id = executions.id)::bool AS blocked
FROM executions WHERE queue_deadline_at <= now() AND status = 'queued' ORDER BY id LIMIT 100;

-- name: ExecutionTimeOutQueued :many
-- For an execution that waited too long and was never claimed. No row: a claim or a cancel was first, or is at work.
WITH due AS MATERIALIZED (
    SELECT e.id FROM executions e
    WHERE e.id = @id AND e.status = 'queued' AND e.worker_id IS NULL AND e.queue_deadline_at <= now()
    FOR NO KEY UPDATE SKIP LOCKED
), ended AS (
    UPDATE executions SET status = 'timed_out', finished_at = now(), claim = claim + 1, last_seq = last_seq + 1
    FROM due WHERE executions.id = due.id
    RETURNING executions.id, last_seq
), place AS (
    DELETE FROM execution_queue q USING ended e WHERE q.execution_id = e.id
), kept AS (
    UPDATE sandboxes b SET state = 'kept' FROM ended e WHERE b.execution_id = e.id AND b.state = 'ready'
), stored AS (
    UPDATE execution_data d SET error = @error FROM ended e WHERE d.execution_id = e.id
), event AS (
    INSERT INTO execution_events (day, execution_id, seq, type, data)
    SELECT @day, e.id, e.last_seq, 'execution.timed_out', @event FROM ended e
)
SELECT id FROM ended;

-- name: ExecutionQueuePosition :one
-- How many stand before it, counted to 1,000, and since when it is paused; no row when it is not in the queue. Index: execution_queue_order.
SELECT (SELECT count(*) FROM (
    SELECT 1 FROM execution_queue o WHERE (o.run_order, o.execution_id) < (q.run_order, q.execution_id) AND NOT o.paused LIMIT 1001) AS ahead)::bigint AS ahead,
    q.paused, w.paused_at, COALESCE(w.paused_by, '')::text AS paused_by
FROM execution_queue q JOIN executions e ON e.id = q.execution_id JOIN workflows w ON w.id = e.workflow_id
WHERE q.execution_id = @id;

-- name: ExecutionCountByStatus :many
-- For /metrics: what is alive, found without what has ended. Who is held is running, and who is parked waits.
-- Index: executions_queue_deadline, executions_held, executions_unheld, executions_parked.
SELECT 'queued'::text AS status, count(*) AS executions FROM executions WHERE status = 'queued'
UNION ALL
SELECT 'running', (SELECT count(*) FROM executions WHERE worker_id IS NOT NULL) + (SELECT count(*) FROM executions WHERE worker_id IS NULL AND status = 'running')
UNION ALL
SELECT 'waiting', count(*) FROM executions WHERE parked_at IS NOT NULL;
