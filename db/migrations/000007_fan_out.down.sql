DROP INDEX executions_children_live;
DROP INDEX executions_parent;
ALTER TABLE executions DROP COLUMN depth, DROP COLUMN parent_node_run_id, DROP COLUMN parent_execution_id;
ALTER TABLE node_runs DROP COLUMN matrix;
