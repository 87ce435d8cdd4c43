-- name: RetentionLock :one
-- One process purges at a time, for as long as its connection lives. The number is arbitrary and ours.
SELECT pg_try_advisory_lock(7042025003) AS locked;

-- name: RetentionNow :one
SELECT now()::timestamptz AS now;

-- name: RetentionNextExecution :one
-- The first at or after an id: from day to day, whatever there is in each. Index: executions_pkey.
SELECT id FROM executions WHERE id >= @first ORDER BY id LIMIT 1;

-- name: RetentionKeeper :one
-- What keeps the day whose ids are from first to below: an execution that has not ended, or not long enough ago, or whose secrets and masks
-- are needed yet. No row: nothing does. Index: executions_pkey, of one day.
SELECT e.id, e.status, e.finished_at FROM executions e
WHERE e.id >= @first AND e.id < @below
  AND (e.finished_at IS NULL OR e.finished_at >= @before::timestamptz OR e.id IN (SELECT m.id FROM masking_executions(NULL) AS m (id)))
ORDER BY e.id LIMIT 1;

-- name: RetentionCount :one
-- Index: executions_pkey, of one day.
SELECT count(*) AS executions FROM executions WHERE id >= @first AND id < @below;

-- name: RetentionDelete :many
-- The next 1,000 at or after first, in the order of their ids, with everything that hangs on them, and never one that something needs. Index: executions_pkey.
WITH batch AS (
    SELECT e.id FROM executions e
    WHERE e.id >= @first AND e.id < @below AND e.finished_at < @before::timestamptz
      AND e.id NOT IN (SELECT m.id FROM masking_executions(NULL) AS m (id))
    ORDER BY e.id LIMIT 1000 FOR UPDATE OF e
)
DELETE FROM executions x USING batch b WHERE x.id = b.id RETURNING x.id;

-- name: RetentionSweepAudit :execrows
-- Kept 400 days. No id of then is above below, so that the search ends there. Index: audit_log_pkey.
DELETE FROM audit_log WHERE id IN (
    SELECT a.id FROM audit_log a WHERE a.id < @below AND a.time < now() - interval '400 days' ORDER BY a.id LIMIT 1000);

-- name: RetentionSweepIdempotencyKeys :execrows
-- What is left when no new keys come. Index: idempotency_keys_expiry.
DELETE FROM idempotency_keys WHERE (organization_id, principal_id, route, key) IN (
    SELECT i.organization_id, i.principal_id, i.route, i.key FROM idempotency_keys i
    WHERE i.expires_at <= now() ORDER BY i.expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED);

-- name: RetentionSweepSignInFailures :execrows
-- Past any window in which they count.
DELETE FROM sign_in_failures WHERE ctid IN (SELECT f.ctid FROM sign_in_failures f WHERE f.at < now() - interval '1 day' LIMIT 1000);

-- name: RetentionSweepSessions :execrows
-- Ended, or not used for as long as ends them.
DELETE FROM sessions WHERE id IN (
    SELECT s.id FROM sessions s WHERE s.expires_at <= now() OR s.last_seen_at <= now() - make_interval(secs => @idle_seconds) LIMIT 1000);

-- name: RetentionSweepSignInLinks :execrows
DELETE FROM sign_in_links WHERE token_hash IN (
    SELECT l.token_hash FROM sign_in_links l WHERE l.used_at IS NOT NULL OR l.expires_at <= now() LIMIT 1000);

-- name: RetentionSweepInvitations :execrows
-- Run out or accepted: nobody is shown them.
DELETE FROM invitations WHERE id IN (
    SELECT i.id FROM invitations i WHERE i.accepted_at IS NOT NULL OR i.expires_at <= now() LIMIT 1000);

-- name: RetentionSweepTokens :execrows
-- Those that expired are listed for 30 days more, so that people see why something stopped.
DELETE FROM tokens WHERE id IN (SELECT t.id FROM tokens t WHERE t.expires_at <= now() - interval '30 days' LIMIT 1000);

-- name: RetentionSweepWorkers :execrows
-- Those that left a week ago. One that still holds something is the reaper's, who finds it by this row. Index: executions_held.
DELETE FROM workers WHERE id IN (
    SELECT w.id FROM workers w WHERE w.gone_at <= now() - interval '7 days' AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.worker_id = w.id) LIMIT 1000);

-- name: RetentionSweepArtifacts :one
-- Files that were never finished, or were dropped, of executions that have ended. Those of the others are their worker's. Index: artifacts_incomplete.
WITH gone AS (
    DELETE FROM artifacts WHERE id IN (
        SELECT a.id FROM artifacts a JOIN executions e ON e.id = a.execution_id
        WHERE a.state <> 'complete' AND e.finished_at < now() - interval '1 hour' LIMIT 1000)
    RETURNING id, execution_id
), chunks AS (
    DELETE FROM artifact_chunks c USING gone g WHERE c.day = execution_day(g.execution_id) AND c.artifact_id = g.id
)
SELECT count(*) AS files FROM gone;
