-- Executions that go on in another's sandbox mask what was masked there.

-- Whether what was masked in an execution must be masked yet: it, or one that goes on in its sandbox, has not ended or has a sandbox. The
-- sandbox but counts as gone.
CREATE FUNCTION masks_needed(x uuid, but uuid) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM executions e WHERE e.id = x AND e.finished_at IS NULL)
        OR EXISTS (SELECT 1 FROM sandboxes b WHERE b.execution_id = x AND b.id IS DISTINCT FROM but AND b.state NOT IN ('destroyed', 'failed'))
        OR EXISTS (
            WITH RECURSIVE heirs AS (
                SELECT e.id, e.finished_at FROM executions e WHERE e.sandbox_from = x
                UNION ALL
                SELECT e.id, e.finished_at FROM heirs h JOIN executions e ON e.sandbox_from = h.id
            )
            SELECT 1 FROM heirs h WHERE h.finished_at IS NULL OR EXISTS (
                SELECT 1 FROM sandboxes b WHERE b.execution_id = h.id AND b.id IS DISTINCT FROM but AND b.state NOT IN ('destroyed', 'failed')));
END $$;
