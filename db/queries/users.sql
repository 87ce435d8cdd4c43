-- name: UserInsert :execrows
-- Zero rows: somebody has the address.
INSERT INTO users (id, email, name, password_hash) VALUES (@id, @email, @name, @password_hash) ON CONFLICT (email) DO NOTHING;

-- name: UserByEmail :one
SELECT id, email, name, password_hash, disabled_at FROM users WHERE email = @email;

-- name: UserByID :one
SELECT id, email, name, password_hash, disabled_at FROM users WHERE id = @id;

-- name: UserSetPassword :exec
-- Null: none, until a new one is set.
UPDATE users SET password_hash = @password_hash WHERE id = @id;
