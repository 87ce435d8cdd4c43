DROP FUNCTION count_queued(uuid, integer);
DROP INDEX execution_queue_order;
CREATE INDEX execution_queue_order ON execution_queue (run_order, execution_id);
ALTER TABLE execution_queue DROP COLUMN paused;
ALTER TABLE workflows DROP COLUMN max_queued, DROP COLUMN dequeued, DROP COLUMN paused_at, DROP COLUMN paused_by;
