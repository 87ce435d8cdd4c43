-- Where an execution is when nobody holds it and nothing is to be done: parked, until a signal or a timer; and
-- executions that go on from what an earlier one has done.

-- A parked execution that a time moves on has a row here. Whoever puts it into the queue takes the row away.
CREATE TABLE execution_timers (
    execution_id uuid PRIMARY KEY REFERENCES executions (id) ON DELETE CASCADE,
    due_at       timestamptz NOT NULL,
    reason       text NOT NULL CHECK (length(reason) BETWEEN 1 AND 64)
);
CREATE INDEX execution_timers_due ON execution_timers (due_at, execution_id);

ALTER TABLE executions
    ADD COLUMN parked_at timestamptz, -- set exactly while waiting: that time does not count against the deadline
    ADD COLUMN rerun_of  uuid REFERENCES executions (id) ON DELETE SET NULL,
    -- Whose sandbox this one goes on in: what was masked there is masked here.
    ADD COLUMN sandbox_from uuid REFERENCES executions (id) ON DELETE SET NULL,
    ADD CHECK ((status = 'waiting') = (parked_at IS NOT NULL));
CREATE INDEX executions_rerun_of ON executions (rerun_of) WHERE rerun_of IS NOT NULL;
CREATE INDEX executions_sandbox_from ON executions (sandbox_from) WHERE sandbox_from IS NOT NULL;
-- What the reaper looks through for executions that have lost their place; rows are in it only between a release and the next claim.
CREATE INDEX executions_unheld ON executions (id) WHERE worker_id IS NULL AND status = 'running';
DROP INDEX executions_deadline;
CREATE INDEX executions_deadline ON executions (deadline_at)
    WHERE deadline_at IS NOT NULL AND deadline_passed_at IS NULL AND finished_at IS NULL AND parked_at IS NULL;
CREATE INDEX executions_parked ON executions (parked_at) WHERE parked_at IS NOT NULL;

ALTER TABLE node_runs
    ADD COLUMN due_at      timestamptz, -- of one that waits: when it ends by itself
    ADD COLUMN retry_at    timestamptz, -- of one that failed and is run again: not before this
    ADD COLUMN prompt      jsonb,       -- of an approval: {message, roles}, as it was evaluated
    ADD COLUMN decision    jsonb,       -- of an approval: {approved, by, comment}
    ADD COLUMN reused_from uuid;        -- the node run of an earlier execution that this one stands for
-- What waits for a person, for lists of it.
CREATE INDEX node_runs_waiting ON node_runs (execution_id) WHERE status = 'waiting';

-- A sandbox that waits with its parked execution is stopped after a while.
CREATE INDEX sandboxes_kept ON sandboxes (keep_until) WHERE state = 'kept';
