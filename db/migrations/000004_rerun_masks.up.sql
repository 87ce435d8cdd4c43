-- Executions that go on in another's sandbox mask what was masked there.

-- The executions whose secrets and masks are needed yet: those that have not ended, those that have a sandbox, and those in whose sandbox one
-- of these goes on. The sandbox but counts as gone. What lives is found by the partial indexes that there are for it, whatever has ever been. They
-- are few: in plpgsql, a caller expects what ROWS says and takes them one by one.
CREATE FUNCTION masking_executions(but uuid) RETURNS SETOF uuid LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 20 AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE masking AS (
        SELECT live.id, live.sandbox_from FROM (
            SELECT e.id, e.sandbox_from FROM executions e WHERE e.status = 'queued'
            UNION ALL
            SELECT e.id, e.sandbox_from FROM executions e WHERE e.worker_id IS NOT NULL
            UNION ALL
            SELECT e.id, e.sandbox_from FROM executions e WHERE e.worker_id IS NULL AND e.status = 'running'
            UNION ALL
            SELECT e.id, e.sandbox_from FROM executions e WHERE e.parked_at IS NOT NULL
            UNION ALL
            SELECT e.id, e.sandbox_from FROM sandboxes b JOIN executions e ON e.id = b.execution_id
            WHERE b.state NOT IN ('destroyed', 'failed') AND b.id IS DISTINCT FROM but
        ) AS live
        UNION
        SELECT e.id, e.sandbox_from FROM masking m JOIN executions e ON e.id = m.sandbox_from
    )
    SELECT masking.id FROM masking;
END $$;
