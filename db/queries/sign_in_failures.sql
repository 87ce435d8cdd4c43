-- name: SignInFailureLock :exec
-- Until the end of the transaction nobody else counts or adds failures of the subject.
SELECT pg_advisory_xact_lock(hashtextextended(@subject::text, 0));

-- name: SignInFailureWait :one
-- How long until the subject has no more than @others failures in the window, by the one that must leave it first. No row: it has not.
-- Index: sign_in_failures_subject.
SELECT EXTRACT(epoch FROM at + make_interval(secs => @window_seconds) - clock_timestamp())::float8 AS seconds
FROM sign_in_failures
WHERE subject = @subject AND at > clock_timestamp() - make_interval(secs => @window_seconds)
ORDER BY at DESC OFFSET @others::int LIMIT 1;

-- name: SignInFailureInsert :one
INSERT INTO sign_in_failures (subject) VALUES (@subject) RETURNING at;

-- name: SignInFailureDelete :exec
DELETE FROM sign_in_failures WHERE subject = @subject AND at = @at;

-- name: SignInFailureClear :exec
DELETE FROM sign_in_failures WHERE subject = @subject;

-- name: SignInFailurePrune :exec
DELETE FROM sign_in_failures WHERE ctid IN (SELECT f.ctid FROM sign_in_failures f WHERE f.at < now() - interval '1 day' LIMIT 100);
