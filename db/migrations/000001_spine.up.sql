-- The spine: organizations, workflows, executions, the queue, workers, sandboxes, and the
-- partitioned history of events and logs. PostgreSQL 15 or later.

-- One row. Names this database to the outside world, so that a sandbox's label tells whose it is.
CREATE TABLE installation (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO installation DEFAULT VALUES;

CREATE TABLE organizations (
    id         uuid PRIMARY KEY,
    slug       text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$'),
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- API tokens: only the SHA-256 of a token is kept.
CREATE TABLE tokens (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id),
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    hash            bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz
);
CREATE INDEX tokens_organization ON tokens (organization_id, id);

CREATE TABLE workflows (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id),
    slug            text NOT NULL CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$'),
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    latest_version  integer NOT NULL CHECK (latest_version >= 1),
    last_number     bigint NOT NULL DEFAULT 0, -- of its executions; taken under this row's lock
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organization_id, slug)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE workflow_versions (
    workflow_id uuid NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
    version     integer NOT NULL CHECK (version >= 1),
    grammar     smallint NOT NULL DEFAULT 1,
    source      text NOT NULL CHECK (octet_length(source) <= 262144),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workflow_id, version)
);

CREATE TABLE workflow_files (
    workflow_id uuid NOT NULL,
    version     integer NOT NULL,
    path        text NOT NULL CHECK (length(path) BETWEEN 1 AND 1024),
    executable  boolean NOT NULL,
    content     bytea NOT NULL CHECK (octet_length(content) <= 10485760),
    PRIMARY KEY (workflow_id, version, path),
    FOREIGN KEY (workflow_id, version) REFERENCES workflow_versions (workflow_id, version) ON DELETE CASCADE
);
ALTER TABLE workflow_files ALTER COLUMN content SET STORAGE EXTERNAL;

-- A worker process between two dormancies. gone is final: a process that finds itself gone takes a new id.
CREATE TABLE workers (
    id          uuid PRIMARY KEY,
    state       text NOT NULL CHECK (state IN ('active', 'draining', 'dormant', 'gone')),
    host        text NOT NULL,
    pid         integer NOT NULL,
    version     text NOT NULL,
    slots       integer NOT NULL CHECK (slots > 0),
    started_at  timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL,
    gone_at     timestamptz,
    CHECK ((state = 'gone') = (gone_at IS NOT NULL))
) WITH (fillfactor = 50);
CREATE INDEX workers_live ON workers (lease_until) WHERE state <> 'gone';

-- Narrow on purpose: every commit of the journal updates last_seq, which no index holds, so the update stays in its page.
CREATE TABLE executions (
    id                  uuid PRIMARY KEY,
    organization_id     uuid NOT NULL,
    workflow_id         uuid NOT NULL REFERENCES workflows (id),
    workflow_version    integer NOT NULL,
    number              bigint NOT NULL,
    status              text NOT NULL CHECK (status IN ('queued', 'running', 'waiting', 'completed', 'failed', 'canceled', 'timed_out')),
    source              text NOT NULL CHECK (source IN ('ui', 'api', 'schedule', 'webhook', 'execution', 'system')),
    priority            smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -10 AND 10),
    claim               bigint NOT NULL DEFAULT 0,
    signal              bigint NOT NULL DEFAULT 0,
    last_seq            bigint NOT NULL DEFAULT 0,
    worker_id           uuid,
    timeout_ms          bigint CHECK (timeout_ms > 0),
    queued_at           timestamptz NOT NULL,
    queue_deadline_at   timestamptz NOT NULL,
    claimed_at          timestamptz,
    started_at          timestamptz,
    deadline_at         timestamptz,
    cancel_requested_at timestamptz,
    cancel_forced_at    timestamptz,
    deadline_passed_at  timestamptz,
    finished_at         timestamptz,
    FOREIGN KEY (workflow_id, workflow_version) REFERENCES workflow_versions (workflow_id, version),
    UNIQUE (workflow_id, number),
    CHECK ((status IN ('completed', 'failed', 'canceled', 'timed_out')) = (finished_at IS NOT NULL)),
    CHECK (worker_id IS NULL OR status = 'running'),
    CHECK (worker_id IS NULL OR claimed_at IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX executions_organization ON executions (organization_id, id DESC);
CREATE INDEX executions_organization_status ON executions (organization_id, status, id DESC);
CREATE INDEX executions_workflow ON executions (workflow_id, id DESC);
CREATE INDEX executions_held ON executions (worker_id) WHERE worker_id IS NOT NULL;
CREATE INDEX executions_deadline ON executions (deadline_at)
    WHERE deadline_at IS NOT NULL AND deadline_passed_at IS NULL AND finished_at IS NULL;
CREATE INDEX executions_queue_deadline ON executions (queue_deadline_at) WHERE status = 'queued';

CREATE TABLE execution_data (
    execution_id uuid PRIMARY KEY REFERENCES executions (id) ON DELETE CASCADE,
    inputs       jsonb NOT NULL,
    outputs      jsonb,
    error        jsonb
);

-- A row exists exactly while its execution is ready and unheld. run_order is fixed when the row is
-- made, so every row ages at the same rate and the order of two rows never changes.
CREATE TABLE execution_queue (
    execution_id uuid PRIMARY KEY REFERENCES executions (id) ON DELETE CASCADE,
    run_order    timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX execution_queue_order ON execution_queue (run_order, execution_id);

CREATE TABLE sandboxes (
    id           uuid PRIMARY KEY,
    execution_id uuid NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
    provider     text NOT NULL,
    host         text NOT NULL,
    provider_id  text,
    state        text NOT NULL CHECK (state IN ('creating', 'ready', 'starting', 'stopping', 'stopped', 'kept', 'destroying', 'destroyed', 'failed')),
    claim        bigint NOT NULL,
    isolation    text,
    reason       text,
    keep_until   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    ready_at     timestamptz,
    ended_at     timestamptz,
    CHECK ((state IN ('destroyed', 'failed')) = (ended_at IS NOT NULL)),
    CHECK (state NOT IN ('ready', 'stopping', 'stopped', 'kept') OR provider_id IS NOT NULL)
);
CREATE INDEX sandboxes_execution ON sandboxes (execution_id);
CREATE INDEX sandboxes_live ON sandboxes (provider, host, state) WHERE state NOT IN ('destroyed', 'failed');

-- One attempt of one node. id names the shim's directory in the sandbox. cursor counts raw bytes of
-- the shim's output file; stdout_bytes and stderr_bytes count stored ones (protocols.md, 4).
CREATE TABLE node_runs (
    id            uuid NOT NULL,
    execution_id  uuid NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
    node_key      text NOT NULL,
    index         integer NOT NULL DEFAULT 0 CHECK (index >= 0),
    attempt       integer NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    status        text NOT NULL CHECK (status IN ('pending', 'running', 'waiting', 'completed', 'failed', 'skipped', 'canceled', 'timed_out', 'interrupted')),
    sandbox_id    uuid,
    shim_protocol smallint,
    cursor        jsonb,
    stdout_bytes  bigint NOT NULL DEFAULT 0,
    stderr_bytes  bigint NOT NULL DEFAULT 0,
    exit_code     integer,
    error         jsonb,
    outputs       jsonb,
    summary       text,
    started_at    timestamptz,
    finished_at   timestamptz,
    PRIMARY KEY (execution_id, node_key, index, attempt),
    CHECK ((status IN ('completed', 'failed', 'skipped', 'canceled', 'timed_out', 'interrupted')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX node_runs_id ON node_runs (id);

-- Events and logs of one execution live in the partition of its day: the UTC day in its UUIDv7 id.
CREATE FUNCTION execution_day(id uuid) RETURNS date
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (timestamp '1970-01-01' + ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint * interval '1 millisecond')::date;

CREATE TABLE execution_events (
    day          date NOT NULL,
    execution_id uuid NOT NULL,
    seq          bigint NOT NULL CHECK (seq >= 1),
    time         timestamptz NOT NULL DEFAULT clock_timestamp(),
    type         text NOT NULL,
    node_run_id  uuid,
    data         jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (day, execution_id, seq)
) PARTITION BY RANGE (day);

CREATE TABLE execution_logs (
    day          date NOT NULL,
    execution_id uuid NOT NULL,
    seq          bigint NOT NULL CHECK (seq >= 1),
    time         timestamptz NOT NULL DEFAULT clock_timestamp(),
    node_run_id  uuid NOT NULL,
    stream       text NOT NULL CHECK (stream IN ('stdout', 'stderr')),
    byte_offset  bigint NOT NULL CHECK (byte_offset >= 0),
    data         bytea NOT NULL CHECK (octet_length(data) BETWEEN 1 AND 65536),
    PRIMARY KEY (day, execution_id, seq)
) PARTITION BY RANGE (day);
CREATE INDEX execution_logs_node_run ON execution_logs (day, execution_id, node_run_id, seq);

-- Makes the partitions of one day where they are missing. Callers hold the lock that serialises them. A table
-- is made by itself and then attached, which does not keep others from writing; CREATE … PARTITION OF would.
CREATE FUNCTION make_partitions(d date) RETURNS void LANGUAGE plpgsql AS $$
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
SELECT make_partitions((now() AT TIME ZONE 'UTC')::date + n) FROM generate_series(-1, 30) AS n;
