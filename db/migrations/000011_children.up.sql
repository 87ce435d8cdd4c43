-- Lists of the executions that nodes of another run, newest first.
CREATE INDEX executions_children ON executions (parent_execution_id, id) WHERE parent_execution_id IS NOT NULL;
