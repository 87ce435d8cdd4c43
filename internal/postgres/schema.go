package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/db"
	"foundry/internal/errs"
)

// CheckSchema reports, with errs.Conflict, a schema that this program cannot work with: older than its
// own, or half migrated. A newer one is fine, since neighbouring releases run side by side.
func CheckSchema(ctx context.Context, pool *pgxpool.Pool) error {
	src, err := iofs.New(db.Migrations, "migrations")
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	defer func() { _ = src.Close() }() // it is embedded
	newest, err := newestVersion(src)
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	var version uint
	var dirty bool
	err = pool.QueryRow(ctx, "SELECT version, dirty FROM schema_migrations").Scan(&version, &dirty)
	var failure *pgconn.PgError
	if errors.As(err, &failure) && failure.Code == pgerrcode.UndefinedTable {
		return errs.E(errs.Conflict, "The database has no tables of Foundry yet; make them with `foundry migrate`.")
	}
	switch {
	case err != nil:
		return fmt.Errorf("reading the schema's version: %w", err)
	case dirty:
		return errs.E(errs.Conflict, "Migration %d failed half way; `foundry migrate` says what to do.", version)
	case version < newest:
		return errs.E(errs.Conflict, "The database has schema version %d, this program needs %d; run `foundry migrate`.", version, newest)
	}
	return nil
}
