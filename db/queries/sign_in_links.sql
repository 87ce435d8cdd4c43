-- name: SignInLinkInsert :exec
INSERT INTO sign_in_links (token_hash, user_id, expires_at) VALUES (@token_hash, @user_id, now() + make_interval(secs => @lasts_seconds));

-- name: SignInLinkUse :one
-- No row: unknown, used or run out.
UPDATE sign_in_links SET used_at = now() WHERE token_hash = @token_hash AND used_at IS NULL AND expires_at > now() RETURNING user_id;

-- name: SignInLinkPrune :exec
DELETE FROM sign_in_links WHERE user_id = @user_id AND (used_at IS NOT NULL OR expires_at <= now());
