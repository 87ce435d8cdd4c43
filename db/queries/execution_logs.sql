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

-- name: LogSeek :one
-- The chunk with byte number position, counted from 0, of a node run's text, and how many bytes lie before the chunk. Sizes are
-- read without the bytes. Index: execution_logs_node_run.
SELECT sized.seq, (sized.through - sized.size)::bigint AS before
FROM (
    SELECT seq, octet_length(data)::bigint AS size, sum(octet_length(data)) OVER (ORDER BY seq) AS through
    FROM execution_logs
    WHERE day = @day AND execution_id = @execution_id AND node_run_id = @node_run_id
      AND (sqlc.narg('stream')::text IS NULL OR stream = sqlc.narg('stream'))
) AS sized
WHERE sized.through > @position::bigint ORDER BY sized.seq LIMIT 1;
