-- People and their rights, encrypted secrets with their versions, and the record of who did what.

-- A person. The address is stored in lower case and is what people sign in with.
CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL UNIQUE CHECK (email = lower(email) AND email LIKE '_%@_%' AND length(email) <= 254),
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    password_hash text, -- a PHC string; null until a password is set
    created_at    timestamptz NOT NULL DEFAULT now(),
    disabled_at   timestamptz
);

CREATE TABLE members (
    organization_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    user_id         uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role            text NOT NULL CHECK (role IN ('owner', 'admin', 'editor', 'viewer')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX members_user ON members (user_id);

-- Browser sessions: the cookie holds a random token, the row its SHA-256.
CREATE TABLE sessions (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    organization_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    token_hash      bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    created_at      timestamptz NOT NULL DEFAULT now(),
    last_seen_at    timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    address         text NOT NULL DEFAULT '',
    user_agent      text NOT NULL DEFAULT '' CHECK (length(user_agent) <= 400)
);
CREATE INDEX sessions_user ON sessions (user_id, id);

-- Links that are good once: to sign in, and to join an organization. Only SHA-256 of the secret part.
CREATE TABLE sign_in_links (
    token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);

CREATE TABLE invitations (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    email           text NOT NULL CHECK (email = lower(email) AND length(email) <= 254),
    role            text NOT NULL CHECK (role IN ('admin', 'editor', 'viewer')),
    token_hash      bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    invited_by      uuid REFERENCES users (id) ON DELETE SET NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    accepted_at     timestamptz
);
CREATE INDEX invitations_organization ON invitations (organization_id, id);

-- Failed sign-ins, by what is limited: an address of a person or of a machine.
CREATE TABLE sign_in_failures (
    subject text NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX sign_in_failures_subject ON sign_in_failures (subject, at);

-- A token acts with the rights of the role, cut to its scopes. Tokens made before this migration
-- were made on the database itself and stay owners.
ALTER TABLE tokens
    ADD COLUMN user_id      uuid REFERENCES users (id) ON DELETE CASCADE,
    ADD COLUMN role         text NOT NULL DEFAULT 'owner' CHECK (role IN ('owner', 'admin', 'editor', 'viewer')),
    ADD COLUMN scopes       text[] NOT NULL DEFAULT '{*}',
    ADD COLUMN last_used_at timestamptz;

ALTER TABLE workflows
    ADD COLUMN owner_id  uuid REFERENCES users (id) ON DELETE SET NULL,
    ADD COLUMN revision  bigint NOT NULL DEFAULT 1, -- rises with every change; the ETag
    ADD COLUMN deleted_at timestamptz;
ALTER TABLE workflow_versions ADD COLUMN created_by text NOT NULL DEFAULT '';
ALTER TABLE executions ADD COLUMN actor text NOT NULL DEFAULT ''; -- the name of who asked for it
-- A slug is free again once its workflow is deleted.
ALTER TABLE workflows DROP CONSTRAINT workflows_organization_id_slug_key;
CREATE UNIQUE INDEX workflows_slug ON workflows (organization_id, slug) WHERE deleted_at IS NULL;
-- A list with filters merges one ordered run of ids per source and status, so a page costs what it shows, whatever it leaves out.
DROP INDEX executions_organization_status;
CREATE INDEX executions_organization_set ON executions (organization_id, source, status, id DESC);
CREATE INDEX executions_workflow_set ON executions (workflow_id, source, status, id DESC);
CREATE INDEX executions_actor_set ON executions (organization_id, actor, source, status, id DESC);
-- Without this one, a workflow's executions by an actor are found among all of the workflow or all of the actor, up to the whole table:
-- 258 ms at the 99th percentile of 1,000,000, against 8. It costs 515 bytes of WAL (3,415 to 3,930) and 3 % of the time of the three
-- writes that an execution's row takes when it is queued, claimed and ended.
CREATE INDEX executions_workflow_actor_set ON executions (workflow_id, actor, source, status, id DESC);

-- A known text per key-encryption key, so that a wrong key is found at start and not in a run.
CREATE TABLE encryption_sentinels (
    key_id      text PRIMARY KEY,
    wrapped_key bytea NOT NULL,
    ciphertext  bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE secrets (
    id             uuid PRIMARY KEY,
    workflow_id    uuid NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
    key            text NOT NULL CHECK (key ~ '^[A-Za-z_][A-Za-z0-9_]*$' AND length(key) <= 128),
    latest_version integer NOT NULL CHECK (latest_version >= 1),
    mask           boolean NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    updated_by     text NOT NULL,
    last_used_at   timestamptz,
    deleted_at     timestamptz
);
CREATE UNIQUE INDEX secrets_key ON secrets (workflow_id, key) WHERE deleted_at IS NULL;
CREATE INDEX secrets_workflow ON secrets (workflow_id, id);

-- Immutable, but for a change of the wrapping key, and for being erased when nobody can need it again.
CREATE TABLE secret_versions (
    secret_id   uuid NOT NULL REFERENCES secrets (id) ON DELETE CASCADE,
    version     integer NOT NULL CHECK (version >= 1),
    mask        boolean NOT NULL,
    key_id      text,
    wrapped_key bytea,
    ciphertext  bytea,
    created_at  timestamptz NOT NULL DEFAULT now(),
    created_by  text NOT NULL,
    erased_at   timestamptz,
    PRIMARY KEY (secret_id, version),
    CHECK ((erased_at IS NULL) = (ciphertext IS NOT NULL)),
    CHECK ((ciphertext IS NULL) = (wrapped_key IS NULL)),
    CHECK ((ciphertext IS NULL) = (key_id IS NULL))
);
CREATE INDEX secret_versions_key ON secret_versions (key_id, secret_id, version) WHERE erased_at IS NULL;

-- The versions that an execution was given at its first claim, and is given again at every later one.
CREATE TABLE execution_secrets (
    execution_id uuid NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
    secret_id    uuid NOT NULL REFERENCES secrets (id) ON DELETE CASCADE,
    version      integer NOT NULL,
    PRIMARY KEY (execution_id, secret_id)
);
CREATE INDEX execution_secrets_secret ON execution_secrets (secret_id, version);
ALTER TABLE executions ADD COLUMN secrets_read boolean NOT NULL DEFAULT false; -- the set above is decided, even if empty

-- Values that a command announced with ::add-mask::, sealed, until the sandbox is gone.
CREATE TABLE execution_masks (
    execution_id uuid NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
    number       integer NOT NULL,
    key_id       text NOT NULL,
    wrapped_key  bytea NOT NULL,
    ciphertext   bytea NOT NULL,
    PRIMARY KEY (execution_id, number)
);

-- Who did what. Append-only; kept 400 days. No foreign keys: a row outlives what it names.
CREATE TABLE audit_log (
    id              uuid PRIMARY KEY, -- UUIDv7: in the order of time
    organization_id uuid NOT NULL,
    time            timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_kind      text NOT NULL CHECK (actor_kind IN ('user', 'token', 'worker', 'system')),
    actor_id        uuid,
    actor           text NOT NULL,
    action          text NOT NULL CHECK (length(action) <= 64),
    workflow_id     uuid,
    execution_id    uuid,
    target          text NOT NULL DEFAULT '' CHECK (length(target) <= 400),
    data            jsonb NOT NULL DEFAULT '{}',
    address         text NOT NULL DEFAULT '',
    request_id      text NOT NULL DEFAULT ''
);
CREATE INDEX audit_log_organization ON audit_log (organization_id, id DESC);
CREATE INDEX audit_log_action ON audit_log (organization_id, action, id DESC);
CREATE INDEX audit_log_workflow ON audit_log (workflow_id, id DESC) WHERE workflow_id IS NOT NULL;

-- Answers of creating requests, for 24 hours. Inserted first, completed in the same transaction as the effect.
CREATE TABLE idempotency_keys (
    organization_id uuid NOT NULL,
    principal_id    uuid NOT NULL,
    route           text NOT NULL,
    key             text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash    bytea NOT NULL,
    status          integer,
    headers         jsonb,
    body            bytea,
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, principal_id, route, key)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);
