package devstack

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/worker"
)

// serverSQL is here and not in db/queries since sqlc does not know the server's views.
const serverSQL = `
SELECT split_part(current_setting('server_version'), ' ', 1),
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    GREATEST(1, (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1))::int,
    GREATEST(1, (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $2))::int`

// readServer counts processes by the one connection that each has for LISTEN.
func readServer(ctx context.Context, pool *pgxpool.Pool) (server, error) {
	var s server
	err := pool.QueryRow(ctx, serverSQL, listenName, worker.ListenName).Scan(&s.version, &s.connections, &s.controlPlanes, &s.workers)
	if err != nil {
		return server{}, fmt.Errorf("asking the database server about itself: %w", err)
	}
	return s, nil
}

// installationID is what labels the installation's sandboxes.
func installationID(ctx context.Context, pool *pgxpool.Pool) (uuid.UUID, error) {
	id, err := dbsqlc.New(pool).InstallationGet(ctx)
	if err != nil {
		return uuid.Nil, fmt.Errorf("reading the installation: %w", err)
	}
	return id, nil
}
