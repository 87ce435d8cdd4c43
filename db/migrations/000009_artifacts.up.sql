-- What commands leave behind: artifacts and checkpoints. Package artifact draws the states of a row.
CREATE TABLE artifacts (
    id           uuid PRIMARY KEY,
    execution_id uuid NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
    node_run_id  uuid NOT NULL,
    checkpoint   integer NOT NULL DEFAULT 0 CHECK (checkpoint >= 0), -- its number among those of the node and index, from 1; 0: an artifact
    path         text NOT NULL CHECK (octet_length(path) BETWEEN 1 AND 1024),
    executable   boolean NOT NULL,
    size         bigint NOT NULL CHECK (size BETWEEN 0 AND 33554432),
    sha256       bytea NOT NULL CHECK (length(sha256) = 32),
    state        text NOT NULL CHECK (state IN ('uploading', 'stored', 'complete', 'dropped')),
    appeared     bigint NOT NULL DEFAULT 0, -- of a checkpoint: when, in nanoseconds of the sandbox's clock
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (execution_id, node_run_id, checkpoint, path)
) WITH (fillfactor = 80);
CREATE INDEX artifacts_incomplete ON artifacts (execution_id) WHERE state <> 'complete';

-- The bytes of a file, 1 MiB a row but the last. They lie in the partition of the execution's day and go with it.
CREATE TABLE artifact_chunks (
    day         date NOT NULL,
    artifact_id uuid NOT NULL,
    number      integer NOT NULL CHECK (number BETWEEN 0 AND 31),
    data        bytea NOT NULL CHECK (octet_length(data) BETWEEN 1 AND 1048576),
    PRIMARY KEY (day, artifact_id, number)
) PARTITION BY RANGE (day);
ALTER TABLE artifact_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE OR REPLACE FUNCTION make_partitions(d date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    child  text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['execution_events', 'execution_logs', 'artifact_chunks'] LOOP
        child := parent || '_' || to_char(d, 'YYYYMMDD');
        IF to_regclass(child) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', child, parent);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child, d, d + 1);
        END IF;
    END LOOP;
END $$;
-- Executions of earlier days may still run.
SELECT make_partitions(to_date(right(c.relname, 8), 'YYYYMMDD'))
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'execution_events'::regclass;
