-- name: ArtifactHold :many
-- The first statement of whatever a worker does to the files of an execution. No row: its claim is stale. Index: executions_pkey.
SELECT id FROM executions WHERE id = @execution_id AND claim = @claim AND finished_at IS NULL FOR KEY SHARE;

-- name: ArtifactFind :one
-- The row that a file of this path has already. Index: artifacts_execution_id_node_run_id_checkpoint_path_key.
SELECT id, size, sha256, state FROM artifacts
WHERE execution_id = @execution_id AND node_run_id = @node_run_id AND checkpoint = @checkpoint AND path = @path FOR UPDATE;

-- name: ArtifactInsert :exec
INSERT INTO artifacts (id, execution_id, node_run_id, checkpoint, path, executable, size, sha256, state, appeared)
VALUES (@id, @execution_id, @node_run_id, @checkpoint, @path, @executable, @size, @sha256, @state, @appeared);

-- name: ArtifactChunkPut :execrows
-- A repeat changes nothing. Zero rows: the claim is stale, or another upload has taken the place of this one. Index: artifacts_pkey, executions_pkey.
INSERT INTO artifact_chunks (day, artifact_id, number, data)
SELECT @day, a.id, @number, @data FROM artifacts a JOIN executions e ON e.id = a.execution_id
WHERE a.id = @artifact_id AND a.state = 'uploading' AND e.claim = @claim AND e.finished_at IS NULL
FOR KEY SHARE OF a, e
ON CONFLICT (day, artifact_id, number) DO UPDATE SET data = EXCLUDED.data;

-- name: ArtifactChunkInsert :exec
-- The only chunk of a file whose row is inserted with it.
INSERT INTO artifact_chunks (day, artifact_id, number, data) VALUES (@day, @artifact_id, 0, @data);

-- name: ArtifactStore :execrows
-- All chunks are there, and their hash is right. Zero rows: as for ArtifactChunkPut. Index: artifacts_pkey.
UPDATE artifacts a SET state = 'stored' FROM executions e
WHERE a.id = @id AND a.state IN ('uploading', 'stored') AND e.id = a.execution_id AND e.claim = @claim AND e.finished_at IS NULL;

-- name: ArtifactDelete :exec
-- Index: artifacts_pkey.
DELETE FROM artifacts WHERE id = @id;

-- name: ArtifactDeleteChunks :exec
-- Index: artifact_chunks_pkey.
DELETE FROM artifact_chunks WHERE day = @day AND artifact_id = ANY (@ids::uuid[]);

-- name: ArtifactDeleteLeft :many
-- What earlier claims did not finish storing, and what was dropped. Its chunks go in a later statement, which sees those of an
-- insert that this one has waited for. Artifacts that are stored stay: they are collected again. Index: artifacts_incomplete.
DELETE FROM artifacts WHERE execution_id = @execution_id AND state <> 'complete' AND (state <> 'stored' OR checkpoint > 0) RETURNING id;

-- name: ArtifactDiscard :many
-- Index: artifacts_pkey.
DELETE FROM artifacts WHERE id = ANY (@ids::uuid[]) AND state IN ('uploading', 'stored') RETURNING id;

-- name: ArtifactDeleteDropped :many
-- Index: artifacts_incomplete.
DELETE FROM artifacts WHERE execution_id = @execution_id AND state = 'dropped' RETURNING id;

-- name: ArtifactUsage :one
-- Index: artifacts_execution_id_node_run_id_checkpoint_path_key.
SELECT count(*) AS files, COALESCE(sum(size), 0)::bigint AS bytes FROM artifacts WHERE execution_id = @execution_id AND state IN ('stored', 'complete');

-- name: ArtifactCompleteMany :exec
-- Written by the journal, with their events. Index: artifacts_pkey.
UPDATE artifacts SET state = 'complete', created_at = clock_timestamp() WHERE id = ANY (@ids::uuid[]) AND state = 'stored';

-- name: ArtifactDropMany :exec
-- Written by the journal, with the checkpoint that takes their place. Index: artifacts_pkey.
UPDATE artifacts SET state = 'dropped' WHERE id = ANY (@ids::uuid[]) AND state = 'complete';

-- name: ArtifactList :many
-- Those of the execution's own node runs, and of the node runs that a rerun has taken over, as long as they exist. Index:
-- artifacts_execution_id_node_run_id_checkpoint_path_key, node_runs_pkey, node_runs_id.
SELECT l.* FROM (
    SELECT a.id, a.execution_id, a.node_run_id, a.checkpoint, a.path, a.executable, a.size, a.sha256, a.created_at, n.node_key, n.index, n.attempt
    FROM artifacts a JOIN node_runs n ON n.id = a.node_run_id
    WHERE a.execution_id = @execution_id AND a.state = 'complete'
    UNION ALL
    SELECT a.id, a.execution_id, a.node_run_id, a.checkpoint, a.path, a.executable, a.size, a.sha256, a.created_at, n.node_key, n.index, n.attempt
    FROM node_runs n JOIN node_runs o ON o.id = n.reused_from JOIN artifacts a ON a.execution_id = o.execution_id AND a.node_run_id = o.id
    WHERE n.execution_id = @execution_id AND n.reused_from IS NOT NULL AND a.state = 'complete'
) AS l
WHERE (sqlc.narg('only')::uuid IS NULL OR l.id = sqlc.narg('only'))
  AND (sqlc.narg('after')::uuid IS NULL OR l.id > sqlc.narg('after'))
  AND (sqlc.narg('node')::text IS NULL OR l.node_key = sqlc.narg('node'))
  AND (sqlc.narg('checkpoints')::bool IS NULL OR (l.checkpoint > 0) = sqlc.narg('checkpoints'))
ORDER BY l.id LIMIT @lim;

-- name: ArtifactChunk :one
-- Index: artifact_chunks_pkey.
SELECT data FROM artifact_chunks WHERE day = @day AND artifact_id = @artifact_id AND number = @number;

-- name: CheckpointList :many
-- The files of all checkpoints of a node, index by index oldest first. Index: node_runs_pkey, artifacts_execution_id_node_run_id_checkpoint_path_key.
SELECT a.id, a.node_run_id, a.checkpoint, a.path, a.size, a.appeared
FROM node_runs n JOIN artifacts a ON a.execution_id = n.execution_id AND a.node_run_id = n.id
WHERE n.execution_id = @execution_id AND n.node_key = @node_key AND n.index = @index AND a.checkpoint > 0 AND a.state = 'complete'
ORDER BY a.checkpoint, a.path;

-- name: CheckpointNewest :many
-- The files of the checkpoint that a node goes on from: the newest of its own attempts, else of the execution that this one reruns, and so
-- on. That chain ends where the node completed, and where something that it needs ran anew after it. Index: executions_pkey,
-- node_runs_pkey, artifacts_execution_id_node_run_id_checkpoint_path_key.
WITH RECURSIVE chain AS (
    SELECT e.id, e.rerun_of, 0 AS depth FROM executions e WHERE e.id = @execution_id
    UNION ALL
    SELECT o.id, o.rerun_of, c.depth + 1 FROM chain c JOIN executions o ON o.id = c.rerun_of
    WHERE c.depth < 100
      AND NOT EXISTS (SELECT 1 FROM node_runs n WHERE n.execution_id = c.id AND n.node_key = ANY (@needs::text[]) AND n.reused_from IS NULL)
      AND NOT EXISTS (SELECT 1 FROM node_runs n WHERE n.execution_id = o.id AND n.node_key = @node_key AND n.index = @index AND n.status = 'completed')
), newest AS (
    SELECT a.execution_id, a.node_run_id, a.checkpoint
    FROM chain c JOIN node_runs n ON n.execution_id = c.id AND n.node_key = @node_key AND n.index = @index
    JOIN artifacts a ON a.execution_id = n.execution_id AND a.node_run_id = n.id
    WHERE a.checkpoint > 0 AND a.state = 'complete'
    ORDER BY c.depth, a.checkpoint DESC LIMIT 1
)
SELECT a.id, a.execution_id, a.node_run_id, a.checkpoint, a.path, a.executable, a.size, a.sha256
FROM newest w JOIN artifacts a ON a.execution_id = w.execution_id AND a.node_run_id = w.node_run_id AND a.checkpoint = w.checkpoint
WHERE a.state = 'complete' ORDER BY a.path;
