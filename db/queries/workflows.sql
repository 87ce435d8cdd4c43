-- name: WorkflowInsert :one
-- No row: the slug is taken.
INSERT INTO workflows (id, organization_id, slug, name, owner_id, latest_version) VALUES (@id, @organization_id, @slug, @name, @owner_id, 1)
ON CONFLICT (organization_id, slug) WHERE deleted_at IS NULL DO NOTHING
RETURNING id, slug, name, latest_version, owner_id, revision, created_at, updated_at, false AS has_secrets;

-- name: WorkflowGet :one
-- By id or slug. Index: workflows_pkey or workflows_slug.
SELECT id, slug, name, latest_version, owner_id, revision, created_at, updated_at,
    EXISTS (SELECT 1 FROM secrets s WHERE s.workflow_id = workflows.id AND s.deleted_at IS NULL) AS has_secrets
FROM workflows
WHERE organization_id = @organization_id AND workflows.deleted_at IS NULL AND (workflows.id = sqlc.narg('id') OR slug = sqlc.narg('slug'));

-- name: WorkflowList :many
-- Index: workflows_slug; the cursor is the last slug of the page before.
SELECT id, slug, name, latest_version, owner_id, revision, created_at, updated_at,
    EXISTS (SELECT 1 FROM secrets s WHERE s.workflow_id = workflows.id AND s.deleted_at IS NULL) AS has_secrets
FROM workflows
WHERE organization_id = @organization_id AND workflows.deleted_at IS NULL AND slug > @after::text
ORDER BY slug LIMIT @lim;

-- name: WorkflowLock :one
-- Before a change that depends on what the row is. An enqueue takes the same lock, so it comes before or after.
SELECT revision, slug, EXISTS (SELECT 1 FROM secrets s WHERE s.workflow_id = workflows.id AND s.deleted_at IS NULL) AS has_secrets
FROM workflows WHERE workflows.id = @id AND organization_id = @organization_id AND deleted_at IS NULL FOR NO KEY UPDATE;

-- name: WorkflowAddVersion :one
-- Takes the next version number under the row's lock.
UPDATE workflows SET latest_version = latest_version + 1, name = @name, revision = revision + 1, updated_at = now()
WHERE id = @id AND deleted_at IS NULL RETURNING latest_version;

-- name: WorkflowSetSlug :one
UPDATE workflows SET slug = @slug, revision = revision + 1, updated_at = now() WHERE workflows.id = @id AND deleted_at IS NULL
RETURNING id, slug, name, latest_version, owner_id, revision, created_at, updated_at,
    EXISTS (SELECT 1 FROM secrets s WHERE s.workflow_id = workflows.id AND s.deleted_at IS NULL) AS has_secrets;

-- name: WorkflowIsLive :one
-- Whether executions have not ended. Index: executions_workflow_set, once per source and status.
SELECT EXISTS (
    SELECT 1 FROM executions WHERE workflow_id = @workflow_id AND status = ANY ('{queued,running,waiting}'::text[])
      AND source = ANY ('{ui,api,schedule,webhook,execution,system}'::text[]));

-- name: WorkflowDelete :exec
-- The row stays, for its executions; its secrets go with it, and SecretErase takes their values.
WITH gone AS (
    UPDATE workflows SET deleted_at = now(), revision = revision + 1, updated_at = now() WHERE workflows.id = @id
)
UPDATE secrets SET deleted_at = now() WHERE workflow_id = @id AND secrets.deleted_at IS NULL;
