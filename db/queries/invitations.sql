-- name: InvitationInsert :one
INSERT INTO invitations (id, organization_id, email, role, token_hash, invited_by, expires_at)
VALUES (@id, @organization_id, @email, @role, @token_hash, @invited_by, now() + make_interval(secs => @lasts_seconds))
RETURNING created_at, expires_at;

-- name: InvitationDeleteByEmail :exec
-- Those that are not accepted.
DELETE FROM invitations WHERE organization_id = @organization_id AND email = @email AND accepted_at IS NULL;

-- name: InvitationList :many
-- Open ones, newest first. Index: invitations_organization.
SELECT i.id, i.email, i.role, i.created_at, i.expires_at, u.email AS invited_by
FROM invitations i LEFT JOIN users u ON u.id = i.invited_by
WHERE i.organization_id = @organization_id AND i.accepted_at IS NULL AND i.expires_at > now()
  AND (sqlc.narg('before')::uuid IS NULL OR i.id < sqlc.narg('before'))
ORDER BY i.id DESC LIMIT @lim;

-- name: InvitationDelete :one
DELETE FROM invitations WHERE organization_id = @organization_id AND id = @id AND accepted_at IS NULL RETURNING email;

-- name: InvitationByHash :one
-- No row: unknown, accepted or run out.
SELECT i.id, i.organization_id, i.email, i.role, o.slug, o.name
FROM invitations i JOIN organizations o ON o.id = i.organization_id
WHERE i.token_hash = @token_hash AND i.accepted_at IS NULL AND i.expires_at > now();

-- name: InvitationAccept :execrows
-- Zero rows: somebody was faster.
UPDATE invitations SET accepted_at = now() WHERE id = @id AND accepted_at IS NULL AND expires_at > now();
