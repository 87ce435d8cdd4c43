-- What is blocked is ready: without groups nothing waits for them.
INSERT INTO execution_queue (execution_id, run_order, paused) SELECT execution_id, run_order, paused FROM concurrency_waiters ON CONFLICT DO NOTHING;
DROP TABLE concurrency_waiters;
DROP TABLE concurrency_slots;
DROP TABLE concurrency_groups;
ALTER TABLE executions DROP COLUMN concurrency_group;
