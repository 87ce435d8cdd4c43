-- name: EventPage :many
-- Events and logs of one execution share one sequence. Logs: all when node_runs is null, else those
-- of the node runs given (none for an empty array). Each half is cut before they are merged, so a page
-- costs a page. Index: both primary keys, or execution_logs_node_run.
SELECT page.seq, page.time, page.type, page.node_run_id, nr.node_key, nr.index, nr.attempt, page.data, page.stream, page.byte_offset, page.chunk
FROM (
    (SELECT ev.seq, ev.time, ev.type, ev.node_run_id, ev.data, ''::text AS stream, 0::bigint AS byte_offset, ''::bytea AS chunk
    FROM execution_events ev
    WHERE ev.day = @day AND ev.execution_id = @execution_id AND ev.seq > @after
    ORDER BY ev.seq LIMIT @lim)
    UNION ALL
    (SELECT lg.seq, lg.time, 'log', lg.node_run_id, '{}'::jsonb, lg.stream, lg.byte_offset, lg.data
    FROM execution_logs lg
    WHERE lg.day = @day AND lg.execution_id = @execution_id AND lg.seq > @after
      AND (sqlc.narg('node_runs')::uuid[] IS NULL OR lg.node_run_id = ANY (sqlc.narg('node_runs')::uuid[]))
    ORDER BY lg.seq LIMIT @lim)
) AS page
LEFT JOIN node_runs nr ON nr.id = page.node_run_id
ORDER BY page.seq LIMIT @lim;

-- name: EventInsertMany :exec
-- Written by the journal, numbered under the executions' locks.
INSERT INTO execution_events (day, execution_id, seq, type, node_run_id, data)
SELECT unnest(@days::date[]), unnest(@execution_ids::uuid[]), unnest(@seqs::bigint[]), unnest(@types::text[]),
    NULLIF(unnest(@node_run_ids::uuid[]), '00000000-0000-0000-0000-000000000000'), unnest(@data::text[])::jsonb;

-- name: PartitionsEnsure :exec
-- Makes the partitions of today, the day before and the days ahead. One process at a time.
SELECT make_partitions((now() AT TIME ZONE 'UTC')::date + n) FROM generate_series(-1, @days_ahead::int) AS n;

-- name: PartitionsAhead :one
-- How many days after today have their partitions, up to the first that has not; 60 at most.
SELECT (COALESCE(min(n), 61) - 1)::int AS days FROM generate_series(1, 60) AS n
WHERE to_regclass('execution_logs_' || to_char((now() AT TIME ZONE 'UTC')::date + n, 'YYYYMMDD')) IS NULL
   OR to_regclass('execution_events_' || to_char((now() AT TIME ZONE 'UTC')::date + n, 'YYYYMMDD')) IS NULL;

-- name: PartitionsLock :exec
-- Serialises those who make partitions, for the transaction. The number is arbitrary and ours.
SELECT pg_advisory_xact_lock(7042025001);

-- name: EventHold :one
-- What holds an execution up that has begun: the newest event of the kinds that say so or end it, among its last 20. No row: none of them.
-- Index: execution_events_pkey.
SELECT recent.type, COALESCE(recent.data->>'reason', '')::text AS reason
FROM (
    SELECT v.seq, v.type, v.data FROM execution_events v WHERE v.day = @day AND v.execution_id = @execution_id ORDER BY v.seq DESC LIMIT 20
) recent
WHERE recent.type IN ('sandbox.waiting', 'sandbox.ready', 'sandbox.failed', 'execution.released', 'execution.claimed')
ORDER BY recent.seq DESC LIMIT 1;
