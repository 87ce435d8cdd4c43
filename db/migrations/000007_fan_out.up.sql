-- Nodes that run more than once, and executions that are run by a node of another.
ALTER TABLE node_runs ADD COLUMN matrix jsonb; -- the combination that it ran for, as it may be shown; NULL without a matrix

ALTER TABLE executions
    ADD COLUMN parent_execution_id uuid REFERENCES executions (id) ON DELETE SET NULL,
    ADD COLUMN parent_node_run_id  uuid,
    ADD COLUMN depth               smallint NOT NULL DEFAULT 0 CHECK (depth BETWEEN 0 AND 5); -- of parents above it
-- A node run has one child, however often it is asked for.
CREATE UNIQUE INDEX executions_parent ON executions (parent_execution_id, parent_node_run_id) WHERE parent_execution_id IS NOT NULL;
-- What the control plane looks through for children whose parent was ended without them.
CREATE INDEX executions_children_live ON executions (id) WHERE parent_execution_id IS NOT NULL AND finished_at IS NULL;
