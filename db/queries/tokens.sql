-- name: TokenInsert :exec
INSERT INTO tokens (id, organization_id, name, hash, expires_at) VALUES (@id, @organization_id, @name, @hash, @expires_at);

-- name: TokenByHash :one
-- Index: tokens_hash_key.
SELECT t.id, t.organization_id, t.name, o.slug AS organization_slug
FROM tokens t JOIN organizations o ON o.id = t.organization_id
WHERE t.hash = @hash AND (t.expires_at IS NULL OR t.expires_at > now());

-- name: TokenDeleteByName :exec
DELETE FROM tokens WHERE organization_id = @organization_id AND name = @name;
