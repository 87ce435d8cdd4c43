-- name: LogInsertMany :exec
-- Written by the journal, numbered under the executions' locks.
INSERT INTO execution_logs (day, execution_id, seq, node_run_id, stream, byte_offset, data)
SELECT unnest(@days::date[]), unnest(@execution_ids::uuid[]), unnest(@seqs::bigint[]), unnest(@node_run_ids::uuid[]),
    unnest(@streams::text[]), unnest(@byte_offsets::bigint[]), unnest(@data::bytea[]);

-- name: LogPage :many
-- Chunks of some node runs, or of the whole execution when node_runs is null, in the order of
-- arrival. Index: execution_logs_node_run, or the primary key.
SELECT seq, node_run_id, stream, byte_offset, data FROM execution_logs
WHERE day = @day AND execution_id = @execution_id AND seq > @after
  AND (sqlc.narg('node_run_id')::uuid IS NULL OR node_run_id = sqlc.narg('node_run_id'))
  AND (sqlc.narg('stream')::text IS NULL OR stream = sqlc.narg('stream'))
ORDER BY seq LIMIT @lim;
