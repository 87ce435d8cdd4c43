-- name: GroupEnter :exec
-- Locks groups in the order of their ids: those that somebody enters, which are made where they are missing, and those that executions which
-- end in this transaction are in. Under the locks of the executions and workflows. A limit that a group has stays.
-- Index: concurrency_groups_pkey, concurrency_slots_pkey.
INSERT INTO concurrency_groups (id, organization_id, name, max_running)
SELECT l.id, l.organization_id, l.name, l.max_running FROM (
    SELECT unnest(@ids::uuid[]) AS id, unnest(@organization_ids::uuid[]) AS organization_id, unnest(@names::text[]) AS name, unnest(@limits::int[]) AS max_running
    UNION
    SELECT g.id, g.organization_id, g.name, g.max_running FROM concurrency_slots s JOIN concurrency_groups g ON g.id = s.group_id
    WHERE s.execution_id = ANY (@leaving::uuid[]) AND g.id <> ALL (@ids::uuid[])
) AS l ORDER BY l.id
ON CONFLICT (id) DO UPDATE SET max_running = concurrency_groups.max_running;

-- name: GroupLock :exec
-- The same for those that executions are in which leave, and for groups that are named. An execution that is blocked when the statement
-- begins may be admitted while it waits: the group stays the same. Index: concurrency_groups_pkey, concurrency_slots_pkey, concurrency_waiters_pkey.
SELECT g.id FROM concurrency_groups g
WHERE g.id = ANY (ARRAY(
    SELECT s.group_id FROM concurrency_slots s WHERE s.execution_id = ANY (@leaving::uuid[])
    UNION ALL SELECT w.group_id FROM concurrency_waiters w WHERE w.execution_id = ANY (@leaving::uuid[])
    UNION ALL SELECT unnest(@ids::uuid[])))
ORDER BY g.id FOR NO KEY UPDATE OF g;

-- name: GroupLockOfWorkflow :many
-- The same for those in which executions of a workflow wait, under the workflow's lock: none of it comes in meanwhile.
-- Index: executions_workflow_set, concurrency_waiters_pkey, concurrency_groups_pkey.
SELECT g.id FROM concurrency_groups g
WHERE g.id IN (
    SELECT w.group_id FROM executions e JOIN concurrency_waiters w ON w.execution_id = e.id
    WHERE e.workflow_id = @workflow_id AND e.status = 'queued' AND e.source = ANY ('{ui,api,schedule,webhook,execution,system}'::text[]))
ORDER BY g.id FOR NO KEY UPDATE OF g;

-- name: GroupSetLimit :exec
-- Under the group's lock.
UPDATE concurrency_groups SET max_running = @max_running WHERE id = @id AND max_running <> @max_running;

-- name: GroupAdmit :exec
-- Under the locks of the groups, in a statement after the one that has taken them, which sees what the holders before have left: executions
-- leave, and the next ones of their groups, and of those that are named, are admitted, in order and as many as there is room for. It touches
-- waiters, slots and the queue, never an execution. Whatever is wrong with who is admitted does no harm to who leaves: a row that is there
-- already stays (a release without groups takes what is blocked for misplaced, and puts it into the queue). Ids are collected in arrays, of which Postgres expects few, whatever it knows of limits.
-- Index: concurrency_groups_pkey, concurrency_slots_group, concurrency_waiters_order, concurrency_waiters_pkey.
WITH freed AS (
    DELETE FROM concurrency_slots WHERE execution_id = ANY (@leaving::uuid[]) RETURNING group_id
), given_up AS (
    DELETE FROM concurrency_waiters WHERE execution_id = ANY (@leaving::uuid[])
), room AS MATERIALIZED (
    -- The slots that are freed here are among those that are counted.
    SELECT g.id, g.max_running - (SELECT count(*) FROM concurrency_slots s WHERE s.group_id = g.id) + (SELECT count(*) FROM freed f WHERE f.group_id = g.id) AS free
    FROM concurrency_groups g WHERE g.id = ANY (ARRAY(SELECT f.group_id FROM freed f UNION ALL SELECT unnest(@ids::uuid[])))
), admitted AS MATERIALIZED (
    SELECT w.execution_id, w.group_id, w.run_order FROM room r CROSS JOIN LATERAL (
        SELECT x.execution_id, x.group_id, x.run_order FROM concurrency_waiters x
        WHERE x.group_id = r.id AND NOT x.paused AND x.execution_id <> ALL (@leaving::uuid[])
        ORDER BY x.run_order, x.execution_id LIMIT GREATEST(r.free, 0)
    ) AS w
), moved AS (
    DELETE FROM concurrency_waiters w WHERE w.execution_id = ANY (ARRAY(SELECT a.execution_id FROM admitted a))
), held AS (
    INSERT INTO concurrency_slots (execution_id, group_id) SELECT execution_id, group_id FROM admitted ON CONFLICT DO NOTHING
)
INSERT INTO execution_queue (execution_id, run_order) SELECT execution_id, run_order FROM admitted ON CONFLICT DO NOTHING;

-- name: GroupState :one
-- Under the group's lock: how many have a slot, and how many wait for one. Index: concurrency_slots_group, concurrency_waiters_order.
SELECT (SELECT count(*) FROM concurrency_slots s WHERE s.group_id = @id)::int AS held,
    (SELECT count(*) FROM concurrency_waiters w WHERE w.group_id = @id AND NOT w.paused)::int AS waiting;

-- name: GroupHolders :many
-- Who has a slot, the oldest first. Index: concurrency_slots_group, executions_pkey.
SELECT e.id, e.number, wf.slug AS workflow_slug FROM concurrency_slots s JOIN executions e ON e.id = s.execution_id JOIN workflows wf ON wf.id = e.workflow_id
WHERE s.group_id = @id ORDER BY e.id LIMIT @lim;

-- name: GroupHeldByParent :one
-- Under the group's lock: the nearest execution above, parent or higher, that has a slot. No row: none has.
-- Index: executions_pkey, concurrency_slots_pkey.
WITH RECURSIVE above AS (
    SELECT e.id, e.parent_execution_id, 1 AS height FROM executions e WHERE e.id = @parent_execution_id
    UNION ALL
    SELECT e.id, e.parent_execution_id, a.height + 1 FROM above a JOIN executions e ON e.id = a.parent_execution_id
)
SELECT e.id, e.number, wf.slug AS workflow_slug
FROM above a JOIN concurrency_slots s ON s.execution_id = a.id JOIN executions e ON e.id = a.id JOIN workflows wf ON wf.id = e.workflow_id
WHERE s.group_id = @group_id ORDER BY a.height LIMIT 1;

-- name: GroupOfWaiter :one
-- What a blocked execution waits for, and how many of those that are not paused go first, counted to 1,001. No row: it is not blocked.
-- Index: concurrency_waiters_pkey, concurrency_waiters_order.
SELECT g.id, g.name, g.max_running, w.paused, wf.paused_at, COALESCE(wf.paused_by, '')::text AS paused_by,
    (SELECT count(*) FROM concurrency_slots s WHERE s.group_id = g.id)::int AS held,
    (SELECT count(*) FROM (
        SELECT 1 FROM concurrency_waiters o
        WHERE o.group_id = w.group_id AND NOT o.paused AND (o.run_order, o.execution_id) < (w.run_order, w.execution_id)
        ORDER BY o.run_order, o.execution_id LIMIT 1001) AS ahead)::int AS ahead
FROM concurrency_waiters w JOIN concurrency_groups g ON g.id = w.group_id JOIN executions e ON e.id = w.execution_id JOIN workflows wf ON wf.id = e.workflow_id
WHERE w.execution_id = @execution_id;

-- name: GroupPause :exec
-- Under the locks of the workflow and of the groups in which its executions wait.
UPDATE concurrency_waiters w SET paused = @paused
FROM executions e
WHERE e.id = w.execution_id AND e.workflow_id = @workflow_id AND e.status = 'queued' AND w.paused <> @paused
  AND e.source = ANY ('{ui,api,schedule,webhook,execution,system}'::text[]);

-- name: GroupListSuperseded :many
-- Executions with a slot that one which waits is to replace, and that nobody has canceled: those that were queued before it. waiter_id narrows
-- it to those of one. Index: concurrency_waiters_cancels, concurrency_slots_group, executions_pkey.
SELECT DISTINCT ON (h.id) h.id, h.organization_id, g.name, n.number
FROM concurrency_waiters w
JOIN executions n ON n.id = w.execution_id
JOIN concurrency_groups g ON g.id = w.group_id
JOIN concurrency_slots s ON s.group_id = w.group_id
JOIN executions h ON h.id = s.execution_id
WHERE w.cancels AND NOT w.paused AND (sqlc.narg('waiter_id')::uuid IS NULL OR w.execution_id = sqlc.narg('waiter_id'))
  AND h.cancel_requested_at IS NULL AND h.finished_at IS NULL AND (h.queued_at, h.id) < (n.queued_at, n.id)
ORDER BY h.id, n.queued_at, n.id LIMIT 100;

-- name: GroupListStuck :many
-- Groups that have room, and somebody who may have it. Between two transactions there are none, unless Foundry is wrong.
-- Index: concurrency_waiters_order, concurrency_slots_group.
SELECT g.id FROM concurrency_groups g
WHERE g.id IN (SELECT w.group_id FROM concurrency_waiters w WHERE NOT w.paused)
  AND (SELECT count(*) FROM concurrency_slots s WHERE s.group_id = g.id) < g.max_running
ORDER BY g.id LIMIT 100;

-- name: GroupListLeft :many
-- Executions that have ended and are in a group yet. There are none, but for those that were ended by a release which knows no groups.
SELECT e.id FROM executions e
WHERE e.finished_at IS NOT NULL AND e.id IN (SELECT s.execution_id FROM concurrency_slots s UNION ALL SELECT w.execution_id FROM concurrency_waiters w)
ORDER BY e.id LIMIT 100;

-- name: GroupLost :one
-- An execution that is queued, is of a group, and neither waits nor has a slot in it; locked. The limit is that which it has brought.
SELECT e.organization_id, e.concurrency_group::text AS name, (e.queued_at - e.priority * interval '5 minutes')::timestamptz AS run_order, (w.paused_at IS NOT NULL)::bool AS paused,
    COALESCE((SELECT (v.data -> 'group' ->> 'limit')::int FROM execution_events v WHERE v.day = @day AND v.execution_id = e.id AND v.seq = 1), 1)::int AS max_running
FROM executions e JOIN workflows w ON w.id = e.workflow_id
WHERE e.id = @id AND e.status = 'queued' AND e.concurrency_group IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM concurrency_slots s WHERE s.execution_id = e.id)
  AND NOT EXISTS (SELECT 1 FROM concurrency_waiters x WHERE x.execution_id = e.id)
FOR NO KEY UPDATE OF e FOR SHARE OF w;

-- name: GroupWait :exec
-- Under the group's lock.
INSERT INTO concurrency_waiters (execution_id, group_id, run_order, paused, cancels) VALUES (@execution_id, @group_id, @run_order, @paused, false)
ON CONFLICT DO NOTHING;

-- name: GroupLockUnused :many
-- Groups that nobody seems to be in. Whoever enters one waits for this, and makes it again if it is gone then.
SELECT g.id FROM concurrency_groups g
WHERE NOT EXISTS (SELECT 1 FROM concurrency_slots s WHERE s.group_id = g.id) AND NOT EXISTS (SELECT 1 FROM concurrency_waiters w WHERE w.group_id = g.id)
ORDER BY g.id LIMIT 1000 FOR UPDATE OF g SKIP LOCKED;

-- name: GroupDelete :exec
-- Under their locks, in a statement of its own, which sees who has entered before they were had.
DELETE FROM concurrency_groups g
WHERE g.id = ANY (@ids::uuid[])
  AND NOT EXISTS (SELECT 1 FROM concurrency_slots s WHERE s.group_id = g.id) AND NOT EXISTS (SELECT 1 FROM concurrency_waiters w WHERE w.group_id = g.id);

-- name: GroupCountBlocked :one
-- For /metrics.
SELECT count(*) AS blocked FROM concurrency_waiters;
