-- name: AuditInsert :exec
INSERT INTO audit_log (id, organization_id, actor_kind, actor_id, actor, action, workflow_id, execution_id, target, data, address, request_id)
VALUES (@id, @organization_id, @actor_kind, @actor_id, @actor, @action, @workflow_id, @execution_id, @target, @data, @address, @request_id);

-- name: AuditInsertSecretReads :exec
-- One row per secret that an execution is given, in the transaction that reads them.
INSERT INTO audit_log (id, organization_id, actor_kind, actor_id, actor, action, workflow_id, execution_id, target, data)
SELECT unnest(@ids::uuid[]), @organization_id, 'worker', @worker_id, @worker, 'secret.read', @workflow_id, @execution_id,
    unnest(@keys::text[]), jsonb_build_object('version', unnest(@versions::int[]), 'claim', @claim::bigint);

-- name: AuditList :many
-- Newest first; the cursor is the last id of the page before. Index: audit_log_organization, audit_log_action or audit_log_workflow.
SELECT id, time, actor_kind, actor_id, actor, action, workflow_id, execution_id, target, data, address, request_id FROM audit_log
WHERE organization_id = @organization_id
  AND (sqlc.narg('before')::uuid IS NULL OR id < sqlc.narg('before'))
  AND (sqlc.narg('action')::text IS NULL OR action = sqlc.narg('action'))
  AND (sqlc.narg('workflow_id')::uuid IS NULL OR workflow_id = sqlc.narg('workflow_id'))
  AND (sqlc.narg('actor')::text IS NULL OR actor = sqlc.narg('actor'))
ORDER BY id DESC LIMIT @lim;
