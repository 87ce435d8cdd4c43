-- name: MemberInsert :execrows
-- Zero rows: already one.
INSERT INTO members (organization_id, user_id, role) VALUES (@organization_id, @user_id, @role) ON CONFLICT DO NOTHING;

-- name: MemberList :many
-- Index: members_pkey.
SELECT m.user_id, m.role, m.created_at, u.email, u.name
FROM members m JOIN users u ON u.id = m.user_id
WHERE m.organization_id = @organization_id AND (sqlc.narg('after')::uuid IS NULL OR m.user_id > sqlc.narg('after'))
ORDER BY m.user_id LIMIT @lim;

-- name: MemberLock :one
-- Of the organization, for as long as the transaction lasts.
SELECT m.user_id, m.role, m.created_at, u.email, u.name
FROM members m JOIN users u ON u.id = m.user_id
WHERE m.organization_id = @organization_id AND m.user_id = @user_id
FOR UPDATE OF m;

-- name: MemberLockOwners :many
-- Locks all owners in one order, so that two of them cannot each see the other stay.
SELECT user_id FROM members WHERE organization_id = @organization_id AND role = 'owner' ORDER BY user_id FOR UPDATE;

-- name: MemberSetRole :exec
UPDATE members SET role = @role WHERE organization_id = @organization_id AND user_id = @user_id;

-- name: MemberDelete :exec
DELETE FROM members WHERE organization_id = @organization_id AND user_id = @user_id;

-- name: MembershipOf :one
-- The one in the organization with the slug, else the one joined first. Index: members_user.
SELECT m.organization_id, m.role, o.slug, o.name
FROM members m JOIN organizations o ON o.id = m.organization_id
WHERE m.user_id = @user_id AND (sqlc.narg('slug')::text IS NULL OR o.slug = sqlc.narg('slug'))
ORDER BY m.created_at, m.organization_id LIMIT 1;
