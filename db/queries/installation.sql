-- name: InstallationGet :one
SELECT id FROM installation;

-- name: InstallationSettle :exec
-- The database in which the installation is first looked at is its home.
UPDATE installation SET home = database_identity() WHERE home IS NULL;

-- name: InstallationHome :one
SELECT id, COALESCE(home, '')::text AS home, database_identity()::text AS here FROM installation;

-- name: InstallationAdopt :execrows
-- Makes this database the installation's home. Zero rows: it is already.
UPDATE installation SET home = database_identity() WHERE home IS DISTINCT FROM database_identity();
