-- name: VersionInsert :exec
INSERT INTO workflow_versions (workflow_id, version, source, created_by) VALUES (@workflow_id, @version, @source, @created_by);

-- name: VersionGet :one
SELECT version, grammar, source, created_at, created_by FROM workflow_versions WHERE workflow_id = @workflow_id AND version = @version;

-- name: VersionList :many
-- Newest first; the cursor is the last version of the page before.
SELECT version, created_at, created_by FROM workflow_versions
WHERE workflow_id = @workflow_id AND version < @before
ORDER BY version DESC LIMIT @lim;
