-- name: SessionInsert :one
INSERT INTO sessions (id, user_id, organization_id, token_hash, expires_at, address, user_agent)
VALUES (@id, @user_id, @organization_id, @token_hash, now() + make_interval(secs => @lasts_seconds), @address, @user_agent)
RETURNING expires_at;

-- name: SessionByHash :one
-- A session counts while its user is a member of its organization. Notes the use at most once a minute. Index: sessions_token_hash_key.
WITH seen AS (
    UPDATE sessions SET last_seen_at = now()
    WHERE token_hash = @token_hash AND last_seen_at < now() - interval '1 minute'
      AND expires_at > now() AND last_seen_at > now() - make_interval(secs => @idle_seconds)
)
SELECT s.id, s.user_id, s.organization_id, m.role, u.email, u.name, o.slug AS organization_slug, o.name AS organization_name
FROM sessions s
JOIN users u ON u.id = s.user_id
JOIN members m ON m.user_id = s.user_id AND m.organization_id = s.organization_id
JOIN organizations o ON o.id = s.organization_id
WHERE s.token_hash = @token_hash AND s.expires_at > now() AND s.last_seen_at > now() - make_interval(secs => @idle_seconds)
  AND u.disabled_at IS NULL;

-- name: SessionList :many
-- Those of a user that have not ended, newest first. Index: sessions_user.
SELECT s.id, s.created_at, s.last_seen_at, s.expires_at, s.address, s.user_agent, o.slug AS organization_slug
FROM sessions s JOIN organizations o ON o.id = s.organization_id
WHERE s.user_id = @user_id AND s.expires_at > now() AND s.last_seen_at > now() - make_interval(secs => @idle_seconds)
ORDER BY s.id DESC LIMIT 200;

-- name: SessionDelete :execrows
DELETE FROM sessions WHERE id = @id AND user_id = @user_id;

-- name: SessionDeleteOthers :execrows
DELETE FROM sessions WHERE user_id = @user_id AND id <> @kept;

-- name: SessionDeleteByMember :exec
DELETE FROM sessions WHERE organization_id = @organization_id AND user_id = @user_id;

-- name: SessionDeleteEnded :exec
DELETE FROM sessions
WHERE user_id = @user_id AND (expires_at <= now() OR last_seen_at <= now() - make_interval(secs => @idle_seconds));
