-- name: SecretSet :one
-- The next version's number, under the secret's row lock; a new secret begins with 1. Index: secrets_key.
INSERT INTO secrets (id, workflow_id, key, latest_version, mask, updated_by)
VALUES (@id, @workflow_id, @key, 1, @mask, @updated_by)
ON CONFLICT (workflow_id, key) WHERE deleted_at IS NULL DO UPDATE SET
    latest_version = secrets.latest_version + 1, mask = EXCLUDED.mask, updated_by = EXCLUDED.updated_by, updated_at = now()
RETURNING id, latest_version;

-- name: SecretLockWorkflow :one
-- Serialises changes of a workflow's secrets, so that their limits are exact.
SELECT id FROM workflows WHERE id = @workflow_id AND deleted_at IS NULL FOR NO KEY UPDATE;

-- name: SecretVersionInsert :exec
INSERT INTO secret_versions (secret_id, version, mask, key_id, wrapped_key, ciphertext, created_by)
VALUES (@secret_id, @version, @mask, @key_id::text, @wrapped_key::bytea, @ciphertext::bytea, @created_by);

-- name: SecretTotals :one
-- Count and bytes of the newest versions of a workflow, without the key given. A ciphertext is 28 bytes longer than its text.
SELECT count(*) AS secrets, COALESCE(sum(octet_length(v.ciphertext) - 28), 0)::bigint AS bytes
FROM secrets s JOIN secret_versions v ON v.secret_id = s.id AND v.version = s.latest_version
WHERE s.workflow_id = @workflow_id AND s.deleted_at IS NULL AND s.key <> @key;

-- name: SecretList :many
SELECT id, key, latest_version, mask, updated_by, updated_at, last_used_at FROM secrets
WHERE workflow_id = @workflow_id AND deleted_at IS NULL ORDER BY key;

-- name: SecretGet :one
SELECT id, key, latest_version, mask, updated_by, updated_at, last_used_at FROM secrets
WHERE workflow_id = @workflow_id AND key = @key AND deleted_at IS NULL;

-- name: SecretNewest :one
SELECT s.id, s.latest_version, v.key_id::text AS key_id, v.wrapped_key::bytea AS wrapped_key, v.ciphertext::bytea AS ciphertext
FROM secrets s JOIN secret_versions v ON v.secret_id = s.id AND v.version = s.latest_version
WHERE s.workflow_id = @workflow_id AND s.key = @key AND s.deleted_at IS NULL AND v.erased_at IS NULL;

-- name: SecretDelete :execrows
UPDATE secrets SET deleted_at = now() WHERE workflow_id = @workflow_id AND key = @key AND deleted_at IS NULL;

-- name: SecretErase :execrows
-- Versions that are not newest, and those of deleted secrets, once no live execution and no sandbox needs them: one that was given a
-- version masks it and all that were set later, also those of a secret that was deleted and made again. Ids of secrets ascend with time.
-- Index: secrets_workflow, execution_secrets_pkey.
WITH needed AS MATERIALIZED (
    SELECT DISTINCT s.workflow_id, s.key, x.secret_id, x.version
    FROM masking_executions(NULL) AS m (id) JOIN execution_secrets x ON x.execution_id = m.id JOIN secrets s ON s.id = x.secret_id
)
UPDATE secret_versions v SET erased_at = now(), key_id = NULL, wrapped_key = NULL, ciphertext = NULL
FROM secrets s
WHERE s.workflow_id = @workflow_id AND s.id = v.secret_id AND v.erased_at IS NULL AND (v.version < s.latest_version OR s.deleted_at IS NOT NULL)
  AND NOT EXISTS (
    SELECT 1 FROM needed n WHERE n.workflow_id = s.workflow_id AND n.key = s.key AND (v.secret_id, v.version) >= (n.secret_id, n.version));

-- name: SecretReadLock :one
-- Fences the read. No row: the claim is stale.
SELECT secrets_read FROM executions WHERE id = @id AND claim = @claim AND finished_at IS NULL FOR NO KEY UPDATE;

-- name: SecretPin :exec
-- At an execution's first read: the newest versions become its own. The share lock keeps whoever sets or deletes one of
-- them waiting until the pin is there to be seen, or else it would erase the version that is being pinned.
WITH newest AS (
    SELECT s.id, s.latest_version FROM secrets s
    WHERE s.workflow_id = @workflow_id AND s.deleted_at IS NULL ORDER BY s.id FOR SHARE
), pinned AS (
    INSERT INTO execution_secrets (execution_id, secret_id, version) SELECT @execution_id, n.id, n.latest_version FROM newest n
)
UPDATE executions SET secrets_read = true WHERE executions.id = @execution_id;

-- name: SecretListPinned :many
-- What the execution was given; and, with own false, what it only masks: what those were given in whose sandbox it goes on, and what was
-- set after any of these. Index: execution_secrets_pkey, secrets_workflow.
WITH RECURSIVE chain AS (
    SELECT e.id, e.sandbox_from FROM executions e WHERE e.id = @execution_id
    UNION ALL
    SELECT e.id, e.sandbox_from FROM chain c JOIN executions e ON e.id = c.sandbox_from
), pinned AS (
    SELECT s.workflow_id, s.key, x.secret_id, x.version, x.execution_id = @execution_id AS own
    FROM chain c JOIN execution_secrets x ON x.execution_id = c.id JOIN secrets s ON s.id = x.secret_id
)
SELECT s.id, s.workflow_id, s.key, v.mask, v.version, v.key_id::text AS key_id, v.wrapped_key::bytea AS wrapped_key, v.ciphertext::bytea AS ciphertext,
    bool_or(p.own AND p.secret_id = v.secret_id AND p.version = v.version)::bool AS own
FROM pinned p
JOIN secrets s ON s.workflow_id = p.workflow_id AND s.key = p.key
JOIN secret_versions v ON v.secret_id = s.id AND (v.secret_id, v.version) >= (p.secret_id, p.version)
WHERE v.erased_at IS NULL GROUP BY s.id, v.secret_id, v.version ORDER BY s.key, v.secret_id, v.version;

-- name: SecretTouch :exec
-- When it was last used, to ten seconds, so that executions side by side do not wait for each other.
UPDATE secrets SET last_used_at = now() WHERE id IN (
    SELECT s.id FROM secrets s WHERE s.id = ANY (@ids::uuid[]) AND (s.last_used_at IS NULL OR s.last_used_at < now() - interval '10 seconds')
    FOR NO KEY UPDATE SKIP LOCKED);

-- name: SecretListForRekey :many
-- Index: secret_versions_key.
SELECT v.secret_id, s.workflow_id, s.key, v.version, v.key_id::text AS key_id, v.wrapped_key::bytea AS wrapped_key
FROM secret_versions v JOIN secrets s ON s.id = v.secret_id
WHERE v.erased_at IS NULL AND v.key_id <> @key_id::text AND (v.secret_id, v.version) > (@after_id::uuid, @after_version::int)
ORDER BY v.secret_id, v.version LIMIT 100;

-- name: SecretRewrap :execrows
-- Compare-and-set: a version that changed meanwhile is left alone.
UPDATE secret_versions SET key_id = @new_key_id::text, wrapped_key = @wrapped_key::bytea
WHERE secret_id = @secret_id AND version = @version AND key_id = @old_key_id::text;

-- name: SecretEraseAll :execrows
-- SecretErase for every workflow: what executions kept that have ended since. Index: secret_versions_key, execution_secrets_pkey.
WITH needed AS MATERIALIZED (
    SELECT DISTINCT s.workflow_id, s.key, x.secret_id, x.version
    FROM masking_executions(NULL) AS m (id) JOIN execution_secrets x ON x.execution_id = m.id JOIN secrets s ON s.id = x.secret_id
)
UPDATE secret_versions v SET erased_at = now(), key_id = NULL, wrapped_key = NULL, ciphertext = NULL
FROM secrets s
WHERE s.id = v.secret_id AND v.erased_at IS NULL AND (v.version < s.latest_version OR s.deleted_at IS NOT NULL)
  AND NOT EXISTS (
    SELECT 1 FROM needed n WHERE n.workflow_id = s.workflow_id AND n.key = s.key AND (v.secret_id, v.version) >= (n.secret_id, n.version));

-- name: MaskInsertMany :exec
-- Written by the journal, in the transaction that moves the cursor past the lines that announced them.
INSERT INTO execution_masks (execution_id, number, key_id, wrapped_key, ciphertext)
SELECT unnest(@execution_ids::uuid[]), unnest(@numbers::int[]), unnest(@key_ids::text[]), unnest(@wrapped_keys::bytea[]), unnest(@ciphertexts::bytea[]);

-- name: MaskDeleteEnded :execrows
-- Masks are needed as long as the execution, or its sandbox, lives, whichever execution goes on in it.
DELETE FROM execution_masks m WHERE m.execution_id NOT IN (SELECT masking_executions(NULL));

-- name: MaskList :many
-- Those of the execution, and of those in whose sandbox it goes on. Index: execution_masks_pkey.
WITH RECURSIVE chain AS (
    SELECT e.id, e.sandbox_from FROM executions e WHERE e.id = @execution_id
    UNION ALL
    SELECT e.id, e.sandbox_from FROM chain c JOIN executions e ON e.id = c.sandbox_from
)
SELECT m.execution_id, m.number, m.key_id, m.wrapped_key, m.ciphertext
FROM chain c JOIN execution_masks m ON m.execution_id = c.id ORDER BY m.execution_id, m.number;

-- name: SentinelList :many
SELECT key_id, wrapped_key, ciphertext FROM encryption_sentinels;

-- name: SentinelInsert :exec
INSERT INTO encryption_sentinels (key_id, wrapped_key, ciphertext) VALUES (@key_id, @wrapped_key, @ciphertext) ON CONFLICT DO NOTHING;
