-- name: OrganizationEnsure :one
-- Returns the organization with the slug, making it first if there is none.
INSERT INTO organizations (id, slug, name) VALUES (@id, @slug, @name)
ON CONFLICT (slug) DO UPDATE SET slug = EXCLUDED.slug
RETURNING id;

-- name: OrganizationFirst :one
-- The oldest: what cannot be laid to any other is recorded with it.
SELECT id FROM organizations ORDER BY created_at, id LIMIT 1;
