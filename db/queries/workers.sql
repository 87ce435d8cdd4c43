-- name: WorkerInsert :exec
INSERT INTO workers (id, state, host, pid, version, slots, lease_until)
VALUES (@id, 'active', @host, @pid, @version, @slots, now() + make_interval(secs => @lease_seconds::float8));

-- name: WorkerRenew :execrows
-- Zero rows: this worker is gone.
UPDATE workers SET lease_until = now() + make_interval(secs => @lease_seconds::float8)
WHERE id = @id AND state IN ('active', 'draining');

-- name: WorkerDrain :exec
UPDATE workers SET state = 'draining' WHERE id = @id AND state = 'active';

-- name: WorkerLeave :exec
UPDATE workers SET state = 'gone', gone_at = now() WHERE id = @id AND state <> 'gone';

-- name: WorkerHeld :many
-- The rights and signals of everything that a worker holds. Index: executions_held.
SELECT id, claim, signal, (cancel_requested_at IS NOT NULL)::bool AS canceled, (cancel_forced_at IS NOT NULL)::bool AS cancel_forced,
    (deadline_passed_at IS NOT NULL)::bool AS deadline_passed
FROM executions WHERE worker_id = @worker_id;

-- name: WorkerReap :many
-- Declares gone whose lease has run out. Index: workers_live.
UPDATE workers SET state = 'gone', gone_at = now() WHERE state IN ('active', 'draining') AND lease_until < now() RETURNING id;

-- name: WorkerList :many
-- Those that live and those that left in the last minute.
SELECT w.id, w.state, w.host, w.pid, w.version, w.slots, w.started_at, w.lease_until, w.gone_at,
    (SELECT count(*) FROM executions e WHERE e.worker_id = w.id) AS held
FROM workers w WHERE w.gone_at IS NULL OR w.gone_at > now() - interval '1 minute' ORDER BY w.id;

-- name: WorkerCapacity :one
-- Those that take work now, what they could hold, and what they do; and those that would have to be woken. Index: workers_live.
SELECT count(*)::int AS workers, COALESCE(sum(w.slots), 0)::int AS slots,
    COALESCE(sum((SELECT count(*) FROM executions e WHERE e.worker_id = w.id)), 0)::int AS held,
    (SELECT count(*) FROM workers d WHERE d.state = 'dormant')::int AS asleep
FROM workers w WHERE w.state = 'active' AND w.lease_until > now();
