-- name: IdempotencyClaim :one
-- Waits for a transaction that holds the same key. No row: the key is in use, and its answer is there to read.
INSERT INTO idempotency_keys (organization_id, principal_id, route, key, request_hash, expires_at)
VALUES (@organization_id, @principal_id, @route, @key, @request_hash, now() + interval '24 hours')
ON CONFLICT (organization_id, principal_id, route, key) DO UPDATE SET
    request_hash = EXCLUDED.request_hash, expires_at = EXCLUDED.expires_at, status = NULL, headers = NULL, body = NULL
WHERE idempotency_keys.expires_at <= now()
RETURNING expires_at;

-- name: IdempotencyKeep :exec
UPDATE idempotency_keys SET status = @status::int, headers = @headers, body = @body
WHERE organization_id = @organization_id AND principal_id = @principal_id AND route = @route AND key = @key;

-- name: IdempotencyGet :one
SELECT request_hash, COALESCE(status, 0)::int AS status, headers, body FROM idempotency_keys
WHERE organization_id = @organization_id AND principal_id = @principal_id AND route = @route AND key = @key AND expires_at > now();

-- name: IdempotencyPrune :exec
-- A few with each new key, so that what has expired goes as fast as what comes. Index: idempotency_keys_expiry.
DELETE FROM idempotency_keys WHERE (organization_id, principal_id, route, key) IN (
    SELECT i.organization_id, i.principal_id, i.route, i.key FROM idempotency_keys i
    WHERE i.expires_at <= now() ORDER BY i.expires_at LIMIT 10 FOR UPDATE SKIP LOCKED);
