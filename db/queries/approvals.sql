-- name: ApprovalGet :one
-- The newest run of a node, under its execution's lock. Index: node_runs_pkey.
SELECT id, status, prompt, decision, COALESCE(due_at <= now(), false)::bool AS overdue
FROM node_runs WHERE execution_id = @execution_id AND node_key = @node_key AND index = @index
ORDER BY attempt DESC LIMIT 1;

-- name: ApprovalDecide :one
-- Under the execution's lock: the decision, its event and the signal. No row: it does not wait.
WITH decided AS (
    UPDATE node_runs SET status = @status, outputs = @outputs, error = sqlc.narg('error'), decision = @outputs, finished_at = clock_timestamp()
    WHERE node_runs.execution_id = @execution_id AND node_runs.id = @id::uuid AND status = 'waiting'
    RETURNING node_runs.id
), signaled AS (
    UPDATE executions SET signal = signal + 1, last_seq = last_seq + 1
    FROM decided WHERE executions.id = @execution_id AND finished_at IS NULL
    RETURNING last_seq
)
INSERT INTO execution_events (day, execution_id, seq, type, node_run_id, data)
SELECT @day, @execution_id, s.last_seq, @type, @id::uuid, @event FROM signaled s
RETURNING seq;
