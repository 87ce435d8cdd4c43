-- Reruns go on in a sandbox, and may be of another version of the workflow than those before them.
ALTER TABLE sandboxes ADD COLUMN files_version integer; -- the version whose files it has; NULL before it is ready

-- What goes on in a sandbox and has run nothing there may have put its files there or not: it does so again.
UPDATE sandboxes b SET files_version = e.workflow_version FROM executions e
WHERE e.id = b.execution_id AND b.state IN ('ready', 'starting', 'stopping', 'stopped', 'kept') AND (e.sandbox_from IS NULL OR EXISTS (
    SELECT 1 FROM node_runs n WHERE n.execution_id = e.id AND n.sandbox_id = b.id AND n.reused_from IS NULL));
