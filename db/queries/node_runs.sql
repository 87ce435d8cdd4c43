-- name: NodeRunList :many
-- Index: node_runs_pkey, executions_parent.
SELECT n.id, n.node_key, n.index, n.attempt, n.status, n.sandbox_id, n.shim_protocol, n.cursor, n.stdout_bytes, n.stderr_bytes, n.exit_code, n.error, n.outputs, n.summary,
    n.started_at, n.finished_at, n.prompt, n.due_at, n.retry_at, n.decision, n.reused_from, n.matrix, c.id AS child_id, clock_timestamp()::timestamptz AS read_at
FROM node_runs n LEFT JOIN executions c ON c.parent_execution_id = n.execution_id AND c.parent_node_run_id = n.id
WHERE n.execution_id = @execution_id ORDER BY n.node_key, n.index, n.attempt;

-- name: NodeRunListWaiting :many
-- What a parked execution waits for: decisions, times, executions that nodes run, and the pause before a node runs again.
-- Index: node_runs_pkey, executions_parent.
SELECT n.node_key, n.index, (n.status <> 'waiting')::bool AS retry, n.prompt, COALESCE(n.due_at, n.retry_at) AS due_at,
    c.id AS child_id, c.number AS child_number, w.slug AS child_workflow
FROM node_runs n LEFT JOIN executions c ON c.parent_execution_id = n.execution_id AND c.parent_node_run_id = n.id AND n.status = 'waiting'
LEFT JOIN workflows w ON w.id = c.workflow_id
WHERE n.execution_id = @execution_id AND (n.status = 'waiting' OR n.retry_at IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM node_runs later
    WHERE later.execution_id = n.execution_id AND later.node_key = n.node_key AND later.index = n.index AND later.attempt > n.attempt))
ORDER BY n.node_key, n.index;

-- name: NodeRunUpsertMany :exec
-- Written by the journal: the newest state of each node run, one row of the arrays a node run. What is
-- absent is '' or 0 or the zero uuid, and -1 for an exit code and for pauses from now, since arrays here hold no nulls. A
-- terminal row stays as it is.
INSERT INTO node_runs (id, execution_id, node_key, index, attempt, status, sandbox_id, shim_protocol, exit_code, error, outputs, summary,
    prompt, matrix, due_at, retry_at, started_at, finished_at)
SELECT u.id, u.execution_id, u.node_key, u.index, u.attempt, u.status, NULLIF(u.sandbox_id, '00000000-0000-0000-0000-000000000000'),
    NULLIF(u.shim_protocol, 0), NULLIF(u.exit_code, -1), NULLIF(u.error, '')::jsonb, NULLIF(u.outputs, '')::jsonb, NULLIF(u.summary, ''),
    NULLIF(u.prompt, '')::jsonb, NULLIF(u.matrix, '')::jsonb, CASE WHEN u.due_ms >= 0 THEN clock_timestamp() + u.due_ms * interval '1 millisecond' END,
    CASE WHEN u.retry_ms >= 0 THEN clock_timestamp() + u.retry_ms * interval '1 millisecond' END,
    CASE WHEN u.started THEN clock_timestamp() END, CASE WHEN u.finished THEN clock_timestamp() END
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@execution_ids::uuid[]) AS execution_id, unnest(@node_keys::text[]) AS node_key,
    unnest(@indexes::int[]) AS index, unnest(@attempts::int[]) AS attempt, unnest(@statuses::text[]) AS status,
    unnest(@sandbox_ids::uuid[]) AS sandbox_id, unnest(@shim_protocols::smallint[]) AS shim_protocol,
    unnest(@exit_codes::int[]) AS exit_code, unnest(@errors::text[]) AS error, unnest(@outputs::text[]) AS outputs,
    unnest(@summaries::text[]) AS summary, unnest(@prompts::text[]) AS prompt, unnest(@matrices::text[]) AS matrix,
    unnest(@due_ms::bigint[]) AS due_ms, unnest(@retry_ms::bigint[]) AS retry_ms, unnest(@started::bool[]) AS started, unnest(@finished::bool[]) AS finished) AS u
ON CONFLICT (execution_id, node_key, index, attempt) DO UPDATE SET
    status = EXCLUDED.status, sandbox_id = COALESCE(EXCLUDED.sandbox_id, node_runs.sandbox_id),
    shim_protocol = COALESCE(EXCLUDED.shim_protocol, node_runs.shim_protocol),
    exit_code = EXCLUDED.exit_code, error = EXCLUDED.error, outputs = EXCLUDED.outputs, summary = EXCLUDED.summary,
    prompt = COALESCE(node_runs.prompt, EXCLUDED.prompt), matrix = COALESCE(node_runs.matrix, EXCLUDED.matrix), due_at = COALESCE(node_runs.due_at, EXCLUDED.due_at), retry_at = EXCLUDED.retry_at,
    started_at = COALESCE(node_runs.started_at, EXCLUDED.started_at), finished_at = EXCLUDED.finished_at
WHERE node_runs.finished_at IS NULL;

-- name: NodeRunAdvanceMany :exec
-- Moves output cursors, in the transaction that inserts the chunks they have passed.
UPDATE node_runs n SET cursor = u.cursor::jsonb, stdout_bytes = u.stdout_bytes, stderr_bytes = u.stderr_bytes
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@cursors::text[]) AS cursor,
    unnest(@stdout_bytes::bigint[]) AS stdout_bytes, unnest(@stderr_bytes::bigint[]) AS stderr_bytes) AS u
WHERE n.id = u.id;
