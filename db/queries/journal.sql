-- name: JournalLock :many
-- The first statement of every transaction of the journal: locks, fences and numbers (protocols.md, 3).
SELECT id, claim, signal, last_seq, (finished_at IS NOT NULL)::bool AS finished,
    (concurrency_group IS NOT NULL)::bool AS grouped
FROM executions WHERE id = ANY (@ids::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: JournalFacts :many
-- The signal of an execution, and its parent. Index: executions_pkey.
SELECT signal, parent_execution_id FROM executions WHERE id = @id;

-- name: JournalAdvanceExecutions :exec
-- An empty status leaves it as it is. A terminal one, and waiting, give the claim back. The ids are named twice so that any plan finds the rows by them.
UPDATE executions e SET
    last_seq = u.last_seq,
    status = CASE WHEN u.status = '' THEN e.status ELSE u.status END,
    started_at = CASE WHEN u.started THEN COALESCE(e.started_at, clock_timestamp()) ELSE e.started_at END,
    parked_at = CASE WHEN u.status = 'waiting' THEN clock_timestamp() END,
    finished_at = CASE WHEN u.status NOT IN ('', 'waiting') THEN clock_timestamp() END,
    worker_id = CASE WHEN u.status = '' THEN e.worker_id END,
    claim = CASE WHEN u.status = '' THEN e.claim ELSE e.claim + 1 END
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@last_seqs::bigint[]) AS last_seq, unnest(@statuses::text[]) AS status,
    unnest(@started::bool[]) AS started) AS u
WHERE e.id = ANY (@ids::uuid[]) AND e.id = u.id;

-- name: JournalSetTimers :exec
-- When parked executions go on by themselves.
INSERT INTO execution_timers (execution_id, due_at, reason)
SELECT u.id, clock_timestamp() + u.due_ms * interval '1 millisecond', u.reason
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@due_ms::bigint[]) AS due_ms, unnest(@reasons::text[]) AS reason) AS u
ON CONFLICT (execution_id) DO UPDATE SET due_at = EXCLUDED.due_at, reason = EXCLUDED.reason;

-- name: JournalStoreResults :exec
UPDATE execution_data d SET outputs = NULLIF(u.outputs, '')::jsonb, error = NULLIF(u.error, '')::jsonb
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@outputs::text[]) AS outputs, unnest(@errors::text[]) AS error) AS u
WHERE d.execution_id = ANY (@ids::uuid[]) AND d.execution_id = u.id;
