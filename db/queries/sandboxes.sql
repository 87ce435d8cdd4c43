-- name: SandboxUpsertMany :exec
-- Written by the journal: intents and results of calls to providers, with the claim they were made under. What an engine calls ready has
-- the files of its execution's version. Index: executions_pkey.
INSERT INTO sandboxes (id, execution_id, provider, host, provider_id, state, claim, isolation, reason, keep_until, ready_at, ended_at, files_version)
SELECT u.id, u.execution_id, u.provider, u.host, NULLIF(u.provider_id, ''), u.state, u.claim, NULLIF(u.isolation, ''), NULLIF(u.reason, ''),
    CASE WHEN u.keep_ms > 0 THEN now() + u.keep_ms * interval '1 millisecond' END,
    CASE WHEN u.state = 'ready' THEN clock_timestamp() END,
    CASE WHEN u.state IN ('destroyed', 'failed') THEN clock_timestamp() END,
    CASE WHEN u.state = 'ready' THEN (SELECT e.workflow_version FROM executions e WHERE e.id = u.execution_id) END
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@execution_ids::uuid[]) AS execution_id, unnest(@providers::text[]) AS provider,
    unnest(@hosts::text[]) AS host, unnest(@provider_ids::text[]) AS provider_id, unnest(@states::text[]) AS state,
    unnest(@claims::bigint[]) AS claim, unnest(@isolations::text[]) AS isolation, unnest(@reasons::text[]) AS reason,
    unnest(@keep_ms::bigint[]) AS keep_ms) AS u
ON CONFLICT (id) DO UPDATE SET
    state = EXCLUDED.state, claim = EXCLUDED.claim, provider_id = COALESCE(EXCLUDED.provider_id, sandboxes.provider_id),
    isolation = COALESCE(EXCLUDED.isolation, sandboxes.isolation), reason = EXCLUDED.reason, keep_until = EXCLUDED.keep_until,
    ready_at = COALESCE(sandboxes.ready_at, EXCLUDED.ready_at), ended_at = EXCLUDED.ended_at,
    files_version = COALESCE(EXCLUDED.files_version, sandboxes.files_version)
WHERE sandboxes.state NOT IN ('destroying', 'destroyed', 'failed');

-- name: SandboxFinish :execrows
-- The result of a destroy call whose intent was committed. Zero rows: another process was first. The masks of all executions that have gone
-- on in it go with it, but those of one that goes on yet or has another sandbox. Index: sandboxes_pkey, execution_masks_pkey.
WITH RECURSIVE finished AS (
    UPDATE sandboxes d SET state = 'destroyed', ended_at = now() WHERE d.id = @id AND d.state = 'destroying' RETURNING d.id, d.execution_id
), chain AS (
    SELECT e.id, e.sandbox_from FROM finished f JOIN executions e ON e.id = f.execution_id
    UNION ALL
    SELECT e.id, e.sandbox_from FROM chain c JOIN executions e ON e.id = c.sandbox_from
), unmasked AS (
    DELETE FROM execution_masks m USING chain c WHERE m.execution_id = c.id AND c.id NOT IN (SELECT masking_executions(@id))
)
SELECT finished.id FROM finished;

-- name: SandboxListByExecution :many
-- Index: sandboxes_execution.
SELECT id, provider, host, provider_id, state, claim, isolation, reason, keep_until, created_at, ready_at, ended_at
FROM sandboxes WHERE execution_id = @execution_id ORDER BY id;

-- name: SandboxListDestroying :many
-- Intents that a dead process left behind. Index: sandboxes_live.
SELECT id, provider_id FROM sandboxes WHERE provider = @provider AND host = @host AND state = 'destroying' AND id > @after::uuid
ORDER BY id LIMIT 100;

-- name: SandboxList :many
-- Newest first; the cursor is the last id of the page before.
SELECT s.id, s.execution_id, s.provider, s.host, s.state, s.isolation, s.reason, s.keep_until, s.created_at, s.ready_at,
    (s.up_ms + COALESCE(extract(epoch FROM now() - s.up_since) * 1000, 0)::bigint)::bigint AS up_ms, w.slug AS workflow_slug, e.number
FROM sandboxes s JOIN executions e ON e.id = s.execution_id JOIN workflows w ON w.id = e.workflow_id
WHERE e.organization_id = @organization_id AND s.state NOT IN ('destroyed', 'failed')
  AND (sqlc.narg('before')::uuid IS NULL OR s.id < sqlc.narg('before'))
ORDER BY s.id DESC LIMIT @lim;

-- name: SandboxExpireKept :execrows
-- Turns kept sandboxes whose time has passed into intents to destroy them. Index: sandboxes_live.
UPDATE sandboxes SET state = 'destroying', reason = 'It was kept for as long as it was to be.'
WHERE provider = @provider AND host = @host AND state = 'kept' AND keep_until <= now();

-- name: SandboxAbandonEnded :execrows
-- Sandboxes of executions that have ended without saying what is to become of them. Index: sandboxes_live.
UPDATE sandboxes s SET state = 'destroying', reason = 'Its execution has ended.'
FROM executions e
WHERE s.provider = @provider AND s.host = @host AND s.state IN ('creating', 'starting', 'ready', 'stopping', 'stopped')
  AND e.id = s.execution_id AND e.finished_at IS NOT NULL;

-- name: SandboxStopParked :execrows
-- The intent to stop what has waited with its execution for a while. The execution's row is locked, so that it is parked when the intent
-- is written: a claim comes before, and there is no intent, or after, and its engine finds it. Index: sandboxes_live.
WITH parked AS (
    SELECT e.id FROM sandboxes s JOIN executions e ON e.id = s.execution_id
    WHERE s.provider = @provider AND s.host = @host AND s.state = 'ready'
      AND e.parked_at <= now() - make_interval(secs => @after_seconds::float8)
      AND NOT EXISTS (SELECT 1 FROM execution_queue q WHERE q.execution_id = e.id)
    ORDER BY e.id LIMIT 500 FOR NO KEY UPDATE OF e SKIP LOCKED
)
UPDATE sandboxes s SET state = 'stopping' FROM parked p
WHERE s.execution_id = p.id AND s.provider = @provider AND s.host = @host AND s.state = 'ready';

-- name: SandboxExpireParked :execrows
-- The same for the intent to destroy what has waited for too long.
WITH parked AS (
    SELECT e.id FROM sandboxes s JOIN executions e ON e.id = s.execution_id
    WHERE s.provider = @provider AND s.host = @host AND s.state IN ('ready', 'stopping', 'stopped')
      AND e.parked_at <= now() - make_interval(secs => @after_seconds::float8)
      AND NOT EXISTS (SELECT 1 FROM execution_queue q WHERE q.execution_id = e.id)
    ORDER BY e.id LIMIT 500 FOR NO KEY UPDATE OF e SKIP LOCKED
)
UPDATE sandboxes s SET state = 'destroying', reason = @reason::text FROM parked p
WHERE s.execution_id = p.id AND s.provider = @provider AND s.host = @host AND s.state IN ('ready', 'stopping', 'stopped');

-- name: SandboxListStopping :many
-- Intents to stop whose execution is still parked. An engine that has taken it up completes the intent by itself. Index: sandboxes_live.
SELECT s.id, s.provider_id::text AS provider_id FROM sandboxes s JOIN executions e ON e.id = s.execution_id
WHERE s.provider = @provider AND s.host = @host AND s.state = 'stopping' AND s.id > @after::uuid
  AND e.parked_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM execution_queue q WHERE q.execution_id = e.id)
ORDER BY s.id LIMIT 100;

-- name: SandboxMayStop :one
-- Whether nobody needs the sandbox up, asked right before the call: its execution is parked, or it is kept.
SELECT EXISTS (
    SELECT 1 FROM sandboxes s JOIN executions e ON e.id = s.execution_id
    WHERE s.id = @id AND (s.state = 'kept' OR s.state = 'stopping' AND e.parked_at IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM execution_queue q WHERE q.execution_id = e.id)))::bool AS may;

-- name: SandboxStopped :execrows
-- The result of a stop. Zero rows: the execution was taken up meanwhile, or another process was first.
UPDATE sandboxes SET state = 'stopped' WHERE id = @id AND state = 'stopping';

-- name: SandboxListAlive :many
-- Which of these may exist.
SELECT id FROM sandboxes WHERE id = ANY (@ids::uuid[]) AND state NOT IN ('destroyed', 'failed');

-- name: SandboxListResting :many
-- Sandboxes that should exist and that no worker drives; one that does finds out by itself when its sandbox is gone. Index: sandboxes_live.
SELECT s.id, s.provider_id::text AS provider_id, s.state FROM sandboxes s JOIN executions e ON e.id = s.execution_id
WHERE s.provider = @provider AND s.host = @host AND s.state IN ('starting', 'ready', 'stopping', 'stopped', 'kept')
  AND s.provider_id IS NOT NULL AND e.worker_id IS NULL AND s.id > @after::uuid
ORDER BY s.id LIMIT 500;

-- name: SandboxLockExecution :one
-- Before SandboxMarkGone. No row: a worker drives the execution.
SELECT e.id FROM executions e JOIN sandboxes s ON s.execution_id = e.id WHERE s.id = @id AND e.worker_id IS NULL FOR NO KEY UPDATE OF e;

-- name: SandboxMarkGone :one
-- Under the execution's lock: the fact, and where the execution has not ended its event and the signal.
WITH gone AS (
    UPDATE sandboxes s SET state = 'failed', reason = @reason::text, ended_at = now()
    WHERE s.id = @id AND s.execution_id = @execution_id AND s.state IN ('starting', 'ready', 'stopping', 'stopped', 'kept') RETURNING s.execution_id
), signaled AS (
    UPDATE executions e SET signal = signal + 1, last_seq = last_seq + 1 FROM gone g
    WHERE e.id = g.execution_id AND e.finished_at IS NULL RETURNING e.id, e.last_seq
), recorded AS (
    INSERT INTO execution_events (day, execution_id, seq, type, data)
    SELECT @day, s.id, s.last_seq, 'sandbox.failed', @event FROM signaled s
)
SELECT count(*) > 0 AS marked FROM gone;

-- name: SandboxCountByState :many
SELECT state, count(*) AS sandboxes FROM sandboxes WHERE state NOT IN ('destroyed', 'failed') GROUP BY state;

-- name: SandboxGet :one
SELECT s.id, s.execution_id, s.provider, s.host, s.state, s.isolation, s.reason, s.keep_until, s.created_at, s.ready_at,
    (s.up_ms + COALESCE(extract(epoch FROM now() - s.up_since) * 1000, 0)::bigint)::bigint AS up_ms, w.slug AS workflow_slug, e.number,
    (e.worker_id IS NOT NULL)::bool AS held, (e.finished_at IS NOT NULL)::bool AS finished, e.workflow_id
FROM sandboxes s JOIN executions e ON e.id = s.execution_id JOIN workflows w ON w.id = e.workflow_id
WHERE s.id = @id AND e.organization_id = @organization_id AND s.state NOT IN ('destroyed', 'failed');

-- name: SandboxRequestDestroy :execrows
-- The intent to destroy what no execution needs any more. Zero rows: one does, or it is gone.
UPDATE sandboxes s SET state = 'destroying', reason = @reason::text FROM executions e
WHERE s.id = @id AND e.id = s.execution_id AND e.organization_id = @organization_id
  AND e.finished_at IS NOT NULL AND s.state NOT IN ('destroying', 'destroyed', 'failed');

-- name: SandboxRequestStop :execrows
-- The intent to stop what waits with its execution, which is locked as in SandboxStopParked.
WITH parked AS (
    SELECT e.id FROM sandboxes s JOIN executions e ON e.id = s.execution_id
    WHERE s.id = @id AND e.organization_id = @organization_id AND e.parked_at IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM execution_queue q WHERE q.execution_id = e.id)
    FOR NO KEY UPDATE OF e
)
UPDATE sandboxes s SET state = 'stopping' FROM parked p WHERE s.id = @id AND s.execution_id = p.id AND s.state = 'ready';
