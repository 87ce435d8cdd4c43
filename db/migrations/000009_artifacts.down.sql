CREATE OR REPLACE FUNCTION make_partitions(d date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    child  text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['execution_events', 'execution_logs'] LOOP
        child := parent || '_' || to_char(d, 'YYYYMMDD');
        IF to_regclass(child) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', child, parent);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child, d, d + 1);
        END IF;
    END LOOP;
END $$;
DROP TABLE artifact_chunks;
DROP TABLE artifacts;
