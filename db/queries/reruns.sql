-- name: RerunSource :one
-- All that decides about a rerun but the node runs: the execution, the newest version of its workflow, and its newest sandbox that it
-- still has, or else the execution that has gone on in it. Index: executions_pkey, sandboxes_execution, executions_sandbox_from.
SELECT e.id, e.workflow_id, w.slug AS workflow_slug, e.workflow_version, w.latest_version, e.status, e.priority, d.inputs,
    COALESCE(b.id, '00000000-0000-0000-0000-000000000000')::uuid AS sandbox_id, COALESCE(b.state, '')::text AS sandbox_state, COALESCE(h.number, 0)::bigint AS heir_number
FROM executions e
JOIN workflows w ON w.id = e.workflow_id
JOIN execution_data d ON d.execution_id = e.id
LEFT JOIN LATERAL (SELECT s.id, s.state FROM sandboxes s WHERE s.execution_id = e.id ORDER BY s.id DESC LIMIT 1) b ON true
LEFT JOIN LATERAL (SELECT x.number FROM executions x WHERE x.sandbox_from = e.id ORDER BY x.id DESC LIMIT 1) h ON true
WHERE e.id = @id AND e.organization_id = @organization_id AND w.deleted_at IS NULL;

-- name: RerunNodeRunList :many
-- How each node, index by index, has ended. Index: node_runs_pkey.
SELECT DISTINCT ON (node_key, index) id, node_key, index, status
FROM node_runs WHERE execution_id = @execution_id ORDER BY node_key, index, attempt DESC;

-- name: RerunTakeSandbox :many
-- Moves a kept sandbox to the execution that goes on in it. No row: it is not kept any more, or another rerun was first. keep_until
-- stays: should the execution be canceled before it begins, the sandbox is kept as before.
UPDATE sandboxes SET execution_id = @execution_id, state = 'ready', claim = 0
WHERE id = @id AND execution_id = @rerun_of AND state = 'kept' RETURNING id;

-- name: RerunReuseNodeRuns :many
-- Node runs that the new execution does not repeat: it has them as they were, under ids of its own. Output stays where it is. One that was
-- itself reused names the run that really ran. Index: node_runs_pkey.
INSERT INTO node_runs (id, execution_id, node_key, index, attempt, status, sandbox_id, exit_code, outputs, summary, prompt, decision, matrix,
    due_at, started_at, finished_at, reused_from)
SELECT u.id, @execution_id::uuid, n.node_key, n.index, n.attempt, n.status, n.sandbox_id, n.exit_code, n.outputs, n.summary, n.prompt, n.decision, n.matrix,
    n.due_at, n.started_at, n.finished_at, COALESCE(n.reused_from, n.id)
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@reused::uuid[]) AS reused) AS u
JOIN node_runs n ON n.execution_id = @rerun_of AND n.id = u.reused AND n.status = 'completed'
RETURNING id;

-- name: RerunFilesOld :one
-- Whether the sandbox that the execution goes on in has the files of another version yet: those of whatever was the last to be ready in it, and
-- of these executions any number may have ended before. Never after the first command. Index: executions_pkey, sandboxes_execution, node_runs_pkey.
SELECT EXISTS (
    SELECT 1 FROM executions e JOIN sandboxes b ON b.execution_id = e.id
    WHERE e.id = @id AND e.sandbox_from IS NOT NULL AND b.state NOT IN ('destroying', 'destroyed', 'failed')
      AND b.files_version IS DISTINCT FROM e.workflow_version AND NOT EXISTS (
        SELECT 1 FROM node_runs n WHERE n.execution_id = e.id AND n.sandbox_id IS NOT NULL AND n.reused_from IS NULL))::bool AS old;
