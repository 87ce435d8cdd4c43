-- A list without a filter is merged from the runs of all sources and statuses, as one with a filter is: the two indexes that were for it
-- alone had to be written three times in an execution's life, since its status is in the others.
DROP INDEX executions_organization;
DROP INDEX executions_workflow;

-- Ids grow, and are read newest first, which is backwards. With the newest first in the index too, each run grew at its front, where Postgres
-- splits pages in the middle: they stayed half empty.
DROP INDEX executions_organization_set;
DROP INDEX executions_workflow_set;
DROP INDEX executions_actor_set;
DROP INDEX executions_workflow_actor_set;
CREATE INDEX executions_organization_set ON executions (organization_id, source, status, id);
CREATE INDEX executions_workflow_set ON executions (workflow_id, source, status, id);
CREATE INDEX executions_actor_set ON executions (organization_id, actor, source, status, id);
CREATE INDEX executions_workflow_actor_set ON executions (workflow_id, actor, source, status, id);
