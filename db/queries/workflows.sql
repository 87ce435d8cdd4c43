-- name: WorkflowInsert :one
-- No row: the slug is taken.
INSERT INTO workflows (id, organization_id, slug, name, owner_id, latest_version) VALUES (@id, @organization_id, @slug, @name, @owner_id, 1)
ON CONFLICT (organization_id, slug) WHERE deleted_at IS NULL DO NOTHING
RETURNING id, slug, name, latest_version, owner_id, revision, created_at, updated_at, paused_at, paused_by, max_queued, false AS has_secrets;

-- name: WorkflowGet :one
-- By id or slug. Index: workflows_pkey or workflows_slug.
SELECT id, slug, name, latest_version, owner_id, revision, created_at, updated_at, paused_at, paused_by, max_queued,
    EXISTS (SELECT 1 FROM secrets s WHERE s.workflow_id = workflows.id AND s.deleted_at IS NULL) AS has_secrets
FROM workflows
WHERE organization_id = @organization_id AND workflows.deleted_at IS NULL AND (workflows.id = sqlc.narg('id') OR slug = sqlc.narg('slug'));

-- name: WorkflowList :many
-- Index: workflows_slug; the cursor is the last slug of the page before.
SELECT id, slug, name, latest_version, owner_id, revision, created_at, updated_at, paused_at, paused_by, max_queued,
    EXISTS (SELECT 1 FROM secrets s WHERE s.workflow_id = workflows.id AND s.deleted_at IS NULL) AS has_secrets
FROM workflows
WHERE organization_id = @organization_id AND workflows.deleted_at IS NULL AND slug > @after::text
ORDER BY slug LIMIT @lim;

-- name: WorkflowLock :one
-- Before a change that depends on what the row is. An enqueue takes the same lock, so it comes before or after.
SELECT revision, slug, paused_at, EXISTS (SELECT 1 FROM secrets s WHERE s.workflow_id = workflows.id AND s.deleted_at IS NULL) AS has_secrets
FROM workflows WHERE workflows.id = @id AND organization_id = @organization_id AND deleted_at IS NULL FOR NO KEY UPDATE;

-- name: WorkflowAddVersion :one
-- Takes the next version number under the row's lock.
UPDATE workflows SET latest_version = latest_version + 1, name = @name, revision = revision + 1, updated_at = now()
WHERE id = @id AND deleted_at IS NULL RETURNING latest_version;

-- name: WorkflowUpdate :one
-- NULL leaves a thing as it is. A pause that is on keeps its beginning.
UPDATE workflows SET
    slug = COALESCE(sqlc.narg('slug'), slug), max_queued = COALESCE(sqlc.narg('max_queued'), max_queued),
    paused_at = CASE WHEN sqlc.narg('paused')::boolean IS NULL THEN paused_at WHEN sqlc.narg('paused')::boolean THEN COALESCE(paused_at, now()) END,
    paused_by = CASE WHEN sqlc.narg('paused')::boolean IS NULL THEN paused_by WHEN sqlc.narg('paused')::boolean THEN COALESCE(paused_by, @actor::text) END,
    revision = revision + 1, updated_at = now()
WHERE workflows.id = @id AND deleted_at IS NULL
RETURNING id, slug, name, latest_version, owner_id, revision, created_at, updated_at, paused_at, paused_by, max_queued,
    EXISTS (SELECT 1 FROM secrets s WHERE s.workflow_id = workflows.id AND s.deleted_at IS NULL) AS has_secrets;

-- name: WorkflowLockMany :exec
-- Takes the lock that every enqueue takes, of all before any group's.
SELECT workflows.id FROM workflows WHERE workflows.id = ANY (@ids::uuid[]) ORDER BY workflows.id FOR NO KEY UPDATE;

-- name: WorkflowLockQueue :one
-- Takes the lock that every enqueue takes, and says how many may be queued, and who has said so.
SELECT max_queued, COALESCE(NULLIF(max_queued, 0), @queued_max::int)::int AS queued_max
FROM workflows WHERE workflows.id = @id AND organization_id = @organization_id AND deleted_at IS NULL FOR NO KEY UPDATE;

-- name: WorkflowCountQueued :one
-- Under WorkflowLockQueue, in a statement of its own, which sees what is committed now. No row: as many are queued as may be. It is
-- asked only when as many have been enqueued since the last time as there was room for then.
-- Index: executions_workflow_set or executions_queue_deadline, in count_queued. EXPLAIN (ANALYZE, BUFFERS), counted to 10,000 of 100,000
-- queued beside 100,000 that have ended: 1.6 ms, hit=116; 2.5 ms, hit=389 before a vacuum. Sequential scans and executions_pkey, which
-- Postgres chose by itself, took 95 ms.
WITH queued AS MATERIALIZED (
    SELECT count_queued(@id, @queued_max::int) AS n
)
UPDATE workflows SET dequeued = last_number - queued.n FROM queued WHERE workflows.id = @id AND queued.n < @queued_max::int
RETURNING dequeued;

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
