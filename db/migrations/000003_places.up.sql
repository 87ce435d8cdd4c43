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

-- How long a sandbox was up: since when it has been, and milliseconds of the stretches before. Stopped ones cost no time.
ALTER TABLE sandboxes
    ADD COLUMN up_since timestamptz,
    ADD COLUMN up_ms    bigint NOT NULL DEFAULT 0 CHECK (up_ms >= 0);
-- Whoever changes the state, in whatever statement, the count is kept. A sandbox that is kept, or to be stopped, is not in use any more.
CREATE FUNCTION sandboxes_count_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = 'ready' THEN
        NEW.up_since := COALESCE(NEW.up_since, clock_timestamp());
    ELSIF NEW.up_since IS NOT NULL THEN
        NEW.up_ms := NEW.up_ms + GREATEST(0, (extract(epoch FROM clock_timestamp() - NEW.up_since) * 1000)::bigint);
        NEW.up_since := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER sandboxes_count_up BEFORE INSERT OR UPDATE OF state ON sandboxes FOR EACH ROW EXECUTE FUNCTION sandboxes_count_up();

-- The database that the installation lives in; NULL until somebody looked. A copy of it, restored from a dump or made from a template, is
-- another database, and leaves all sandboxes alone until it is adopted: they may be the original's.
ALTER TABLE installation ADD COLUMN home text;
CREATE FUNCTION database_identity() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('%s/%s', (SELECT system_identifier FROM pg_control_system()), (SELECT oid FROM pg_database WHERE datname = current_database()))
$$;
