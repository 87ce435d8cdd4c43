-- name: ChildSignalParents :exec
-- Under the locks of parents, in the transaction that ends a child of each: the signal, and a place in the queue for what is parked.
-- Index: executions_pkey.
WITH signaled AS (
    UPDATE executions SET signal = signal + 1 WHERE id = ANY (@ids::uuid[]) AND finished_at IS NULL RETURNING id, status
), queued AS (
    INSERT INTO execution_queue (execution_id, run_order) SELECT id, '-infinity' FROM signaled WHERE status = 'waiting' ON CONFLICT DO NOTHING
)
DELETE FROM execution_timers t USING signaled s WHERE t.execution_id = s.id AND s.status = 'waiting';

-- name: ChildList :many
-- The children of an execution's node runs, and how they have ended. Index: executions_parent.
SELECT e.id, e.parent_node_run_id, e.number, w.slug AS workflow_slug, e.status, d.error,
    (CASE WHEN octet_length(d.outputs::text) <= @max_bytes::int THEN d.outputs END)::jsonb AS outputs, COALESCE(octet_length(d.outputs::text), 0)::int AS size
FROM executions e JOIN workflows w ON w.id = e.workflow_id JOIN execution_data d ON d.execution_id = e.id
WHERE e.parent_execution_id = @parent_id AND e.parent_node_run_id = ANY (@node_run_ids::uuid[])
ORDER BY e.id;

-- name: ChildListOrphaned :many
-- Executions that nobody has canceled although their parent has ended: it was ended by force. Index: executions_children_live.
SELECT c.id, c.organization_id FROM executions c JOIN executions p ON p.id = c.parent_execution_id
WHERE c.parent_execution_id IS NOT NULL AND c.finished_at IS NULL AND c.cancel_requested_at IS NULL AND p.finished_at IS NOT NULL
ORDER BY c.id LIMIT 100;

-- name: ChildLockParent :exec
SELECT e.id FROM executions e WHERE e.id = @id FOR NO KEY UPDATE;
