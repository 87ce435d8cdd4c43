DROP FUNCTION masking_executions(uuid);
