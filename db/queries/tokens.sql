-- name: TokenInsert :one
-- Without expires_seconds it never expires.
INSERT INTO tokens (id, organization_id, user_id, name, role, scopes, hash, expires_at)
VALUES (@id, @organization_id, @user_id, @name, @role, @scopes, @hash, now() + make_interval(secs => sqlc.narg('expires_seconds')::float8))
RETURNING created_at, expires_at;

-- name: TokenByHash :one
-- A token of a user counts while the user is a member. keep_seconds is how long the answer holds: until the token expires, at most
-- max_seconds. Notes the use at most once a minute. Index: tokens_hash_key.
WITH used AS (
    UPDATE tokens SET last_used_at = now()
    WHERE hash = @hash AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
)
SELECT t.id, t.organization_id, t.user_id, t.name, t.role, t.scopes, m.role AS member_role, o.slug AS organization_slug, o.name AS organization_name,
    LEAST(COALESCE(EXTRACT(epoch FROM t.expires_at - now()), @max_seconds::float8), @max_seconds::float8)::float8 AS keep_seconds
FROM tokens t
JOIN organizations o ON o.id = t.organization_id
LEFT JOIN users u ON u.id = t.user_id
LEFT JOIN members m ON m.user_id = t.user_id AND m.organization_id = t.organization_id
WHERE t.hash = @hash AND (t.expires_at IS NULL OR t.expires_at > now())
  AND (t.user_id IS NULL OR m.role IS NOT NULL AND u.disabled_at IS NULL);

-- name: TokenList :many
-- Newest first, those that have expired too. Index: tokens_organization.
SELECT t.id, t.name, t.role, t.scopes, t.created_at, t.expires_at, t.last_used_at, t.user_id, u.email, u.name AS user_name
FROM tokens t LEFT JOIN users u ON u.id = t.user_id
WHERE t.organization_id = @organization_id
  AND (sqlc.narg('user_id')::uuid IS NULL OR t.user_id = sqlc.narg('user_id'))
  AND (sqlc.narg('before')::uuid IS NULL OR t.id < sqlc.narg('before'))
ORDER BY t.id DESC LIMIT @lim;

-- name: TokenDelete :one
-- Of anybody, or of the user given.
DELETE FROM tokens
WHERE organization_id = @organization_id AND id = @id AND (sqlc.narg('user_id')::uuid IS NULL OR user_id = sqlc.narg('user_id'))
RETURNING name;

-- name: TokenDeleteByName :execrows
-- Those that no user made: they stand for a machine, which replaces its own.
DELETE FROM tokens WHERE organization_id = @organization_id AND name = @name AND user_id IS NULL;

-- name: TokenDeleteByUser :exec
DELETE FROM tokens WHERE organization_id = @organization_id AND user_id = @user_id;

-- name: AccountsNotify :exec
-- Tells every process, with the commit, that rights may have been taken away. Rare enough to take the lock that commits which notify share.
SELECT pg_notify(@channel::text, '');
