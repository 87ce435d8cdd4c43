DROP FUNCTION database_identity();
ALTER TABLE installation DROP COLUMN home;
DROP TRIGGER sandboxes_count_up ON sandboxes;
DROP FUNCTION sandboxes_count_up();
ALTER TABLE sandboxes DROP COLUMN up_since, DROP COLUMN up_ms;
DROP INDEX sandboxes_kept;
DROP INDEX node_runs_waiting;
-- Node kinds that wait are unknown to the release before: what waits ends with it.
UPDATE node_runs SET status = 'canceled', finished_at = now() WHERE status = 'waiting';
ALTER TABLE node_runs DROP COLUMN due_at, DROP COLUMN retry_at, DROP COLUMN prompt, DROP COLUMN decision, DROP COLUMN reused_from;
DROP INDEX executions_parked;
DROP INDEX executions_deadline;
CREATE INDEX executions_deadline ON executions (deadline_at)
    WHERE deadline_at IS NOT NULL AND deadline_passed_at IS NULL AND finished_at IS NULL;
DROP INDEX executions_unheld;
DROP INDEX executions_sandbox_from;
DROP INDEX executions_rerun_of;
INSERT INTO execution_queue (execution_id, run_order) SELECT id, '-infinity' FROM executions WHERE status = 'waiting' ON CONFLICT DO NOTHING;
UPDATE executions SET status = 'running', parked_at = NULL WHERE status = 'waiting';
ALTER TABLE executions DROP COLUMN parked_at, DROP COLUMN rerun_of, DROP COLUMN sandbox_from;
DROP TABLE execution_timers;
