-- name: JournalLock :many
-- The first statement of every transaction of the journal: locks, fences and numbers (protocols.md, 3).
SELECT id, claim, signal, last_seq, (finished_at IS NOT NULL)::bool AS finished FROM executions WHERE id = ANY (@ids::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: JournalAdvanceExecutions :exec
-- An empty status leaves it as it is. A terminal one gives the claim back.
UPDATE executions e SET
    last_seq = u.last_seq,
    status = CASE WHEN u.status = '' THEN e.status ELSE u.status END,
    started_at = CASE WHEN u.started THEN COALESCE(e.started_at, clock_timestamp()) ELSE e.started_at END,
    finished_at = CASE WHEN u.status = '' THEN NULL ELSE clock_timestamp() END,
    worker_id = CASE WHEN u.status = '' THEN e.worker_id END,
    claim = CASE WHEN u.status = '' THEN e.claim ELSE e.claim + 1 END
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@last_seqs::bigint[]) AS last_seq, unnest(@statuses::text[]) AS status,
    unnest(@started::bool[]) AS started) AS u
WHERE e.id = u.id;

-- name: JournalStoreResults :exec
UPDATE execution_data d SET outputs = NULLIF(u.outputs, '')::jsonb, error = NULLIF(u.error, '')::jsonb
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@outputs::text[]) AS outputs, unnest(@errors::text[]) AS error) AS u
WHERE d.execution_id = u.id;
