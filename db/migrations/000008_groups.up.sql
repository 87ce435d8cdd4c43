-- Concurrency groups: how many executions that name the same group, of whatever workflow of the organization, may have begun and not ended.

-- The group that an execution has entered; its id follows from the organization and this name. It is decided before the execution is queued.
ALTER TABLE executions ADD COLUMN concurrency_group text CHECK (length(concurrency_group) BETWEEN 1 AND 256);

-- Its row lock decides who is admitted. Made by the first to enter, and swept once nobody is in it. The id is computed (queue.GroupID), so that
-- groups can be locked in the order of their ids before they exist; that also makes the name unique.
CREATE TABLE concurrency_groups (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL,
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    max_running     integer NOT NULL CHECK (max_running BETWEEN 1 AND 1000) -- as the newest to enter has said
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- A row exists exactly from an execution's admission to its end, whoever holds it or none.
CREATE TABLE concurrency_slots (
    execution_id uuid PRIMARY KEY REFERENCES executions (id) ON DELETE CASCADE,
    group_id     uuid NOT NULL REFERENCES concurrency_groups (id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX concurrency_slots_group ON concurrency_slots (group_id);

-- A row exists exactly while an execution is blocked: queued, and not admitted. run_order is that which it has in the queue later. One that is
-- paused, with its workflow, is passed over.
CREATE TABLE concurrency_waiters (
    execution_id uuid PRIMARY KEY REFERENCES executions (id) ON DELETE CASCADE,
    group_id     uuid NOT NULL REFERENCES concurrency_groups (id),
    run_order    timestamptz NOT NULL,
    paused       boolean NOT NULL,
    cancels      boolean NOT NULL -- what has a slot and was queued before it
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX concurrency_waiters_order ON concurrency_waiters (group_id, paused, run_order, execution_id);
CREATE INDEX concurrency_waiters_cancels ON concurrency_waiters (group_id) WHERE cancels AND NOT paused;
