-- name: TokenInsert :exec
-- Without expires_seconds it never expires.
INSERT INTO tokens (id, organization_id, name, hash, expires_at)
VALUES (@id, @organization_id, @name, @hash, now() + make_interval(secs => sqlc.narg('expires_seconds')::float8));

-- name: TokenByHash :one
-- keep_seconds is how long the answer holds: until the token expires, at most max_seconds. Index: tokens_hash_key.
SELECT t.id, t.organization_id, t.name, o.slug AS organization_slug,
    LEAST(COALESCE(EXTRACT(epoch FROM t.expires_at - now()), @max_seconds::float8), @max_seconds::float8)::float8 AS keep_seconds
FROM tokens t JOIN organizations o ON o.id = t.organization_id
WHERE t.hash = @hash AND (t.expires_at IS NULL OR t.expires_at > now());

-- name: TokenDeleteByName :many
DELETE FROM tokens WHERE organization_id = @organization_id AND name = @name RETURNING hash;
