-- name: SandboxUpsertMany :exec
-- Written by the journal: intents and results of calls to providers, with the claim they were made under.
INSERT INTO sandboxes (id, execution_id, provider, host, provider_id, state, claim, isolation, reason, keep_until, ready_at, ended_at)
SELECT u.id, u.execution_id, u.provider, u.host, NULLIF(u.provider_id, ''), u.state, u.claim, NULLIF(u.isolation, ''), NULLIF(u.reason, ''),
    CASE WHEN u.keep_ms > 0 THEN now() + u.keep_ms * interval '1 millisecond' END,
    CASE WHEN u.state = 'ready' THEN clock_timestamp() END,
    CASE WHEN u.state IN ('destroyed', 'failed') THEN clock_timestamp() END
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@execution_ids::uuid[]) AS execution_id, unnest(@providers::text[]) AS provider,
    unnest(@hosts::text[]) AS host, unnest(@provider_ids::text[]) AS provider_id, unnest(@states::text[]) AS state,
    unnest(@claims::bigint[]) AS claim, unnest(@isolations::text[]) AS isolation, unnest(@reasons::text[]) AS reason,
    unnest(@keep_ms::bigint[]) AS keep_ms) AS u
ON CONFLICT (id) DO UPDATE SET
    state = EXCLUDED.state, claim = EXCLUDED.claim, provider_id = COALESCE(EXCLUDED.provider_id, sandboxes.provider_id),
    isolation = COALESCE(EXCLUDED.isolation, sandboxes.isolation), reason = EXCLUDED.reason, keep_until = EXCLUDED.keep_until,
    ready_at = COALESCE(sandboxes.ready_at, EXCLUDED.ready_at), ended_at = EXCLUDED.ended_at
WHERE sandboxes.state NOT IN ('destroying', 'destroyed', 'failed');

-- name: SandboxFinish :execrows
-- The result of a destroy call whose intent was committed. Zero rows: another process was first.
-- The masks of its execution go with it, unless the execution goes on or has another sandbox.
WITH finished AS (
    UPDATE sandboxes d SET state = 'destroyed', ended_at = now() WHERE d.id = @id AND d.state = 'destroying' RETURNING d.id, d.execution_id
), unmasked AS (
    DELETE FROM execution_masks m USING finished f, executions e
    WHERE m.execution_id = f.execution_id AND e.id = f.execution_id AND e.finished_at IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM sandboxes b WHERE b.execution_id = f.execution_id AND b.id <> f.id AND b.state NOT IN ('destroyed', 'failed'))
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
SELECT s.id, s.execution_id, s.provider, s.host, s.state, s.isolation, s.reason, s.keep_until, s.created_at, s.ready_at, w.slug AS workflow_slug, e.number
FROM sandboxes s JOIN executions e ON e.id = s.execution_id JOIN workflows w ON w.id = e.workflow_id
WHERE e.organization_id = @organization_id AND s.state NOT IN ('destroyed', 'failed')
  AND (sqlc.narg('before')::uuid IS NULL OR s.id < sqlc.narg('before'))
ORDER BY s.id DESC LIMIT @lim;

-- name: SandboxExpireKept :exec
-- Turns kept sandboxes whose time has passed into intents to destroy them. Index: sandboxes_live.
UPDATE sandboxes SET state = 'destroying'
WHERE provider = @provider AND host = @host AND state = 'kept' AND keep_until <= now();
