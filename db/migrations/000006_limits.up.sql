-- How many executions of a workflow may be queued, and workflows that are paused.
ALTER TABLE workflows
    ADD COLUMN max_queued integer NOT NULL DEFAULT 0 CHECK (max_queued BETWEEN 0 AND 100000), -- 0: that of the installation
    -- At least so many of its executions are not queued any more. What is not queued is never queued again, so this may lag behind but is
    -- never wrong, and last_number - dequeued is never less than what is queued. It is counted anew when that bound reaches the limit.
    ADD COLUMN dequeued   bigint NOT NULL DEFAULT 0 CHECK (dequeued <= last_number),
    ADD COLUMN paused_at  timestamptz,
    ADD COLUMN paused_by  text, -- the name of a user or token
    ADD CHECK ((paused_at IS NULL) = (paused_by IS NULL));

-- A row is paused exactly while its workflow is and its execution was never claimed: what has begun goes on. The order leaves such rows out,
-- so that a claim does not walk over them, however many they are; their run_order stays, and with it their turn once the pause is over.
ALTER TABLE execution_queue ADD COLUMN paused boolean NOT NULL DEFAULT false;
DROP INDEX execution_queue_order;
CREATE INDEX execution_queue_order ON execution_queue (run_order, execution_id) WHERE NOT paused;

-- How many executions of a workflow are queued, counted to most. It reads an index of what is queued (executions_workflow_set, or
-- executions_queue_deadline where nearly all that is queued is of the workflow), never the table: a LIMIT makes Postgres think that it meets
-- them at once on whatever way through it, and those that have ended may be millions.
CREATE FUNCTION count_queued(workflow uuid, most integer) RETURNS bigint LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN (SELECT count(*) FROM (
        SELECT 1 FROM executions e
        WHERE e.workflow_id = workflow AND e.status = 'queued' AND e.source = ANY ('{ui,api,schedule,webhook,execution,system}'::text[])
        LIMIT most
    ) AS counted);
END $$;
