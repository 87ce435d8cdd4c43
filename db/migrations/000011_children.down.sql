DROP INDEX executions_children;
