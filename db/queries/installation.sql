-- name: InstallationGet :one
SELECT id FROM installation;
