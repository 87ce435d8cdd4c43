-- name: WorkflowInsert :execrows
-- Zero rows: the slug is taken.
INSERT INTO workflows (id, organization_id, slug, name, latest_version) VALUES (@id, @organization_id, @slug, @name, 1)
ON CONFLICT (organization_id, slug) WHERE deleted_at IS NULL DO NOTHING;

-- name: WorkflowGet :one
-- By id or slug. Index: workflows_pkey or workflows_slug.
SELECT id, slug, name, latest_version, created_at, updated_at FROM workflows
WHERE organization_id = @organization_id AND deleted_at IS NULL AND (id = sqlc.narg('id') OR slug = sqlc.narg('slug'));

-- name: WorkflowList :many
-- Index: workflows_slug; the cursor is the last slug of the page before.
SELECT id, slug, name, latest_version, created_at, updated_at FROM workflows
WHERE organization_id = @organization_id AND deleted_at IS NULL AND slug > @after::text
ORDER BY slug LIMIT @lim;

-- name: WorkflowAddVersion :one
-- Takes the next version number under the row's lock.
UPDATE workflows SET latest_version = latest_version + 1, name = @name, updated_at = now()
WHERE id = @id AND deleted_at IS NULL RETURNING latest_version;
