package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/golang-migrate/migrate/v4"
	driver "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"foundry/db"
	"foundry/internal/errs"
)

const (
	// migrationLock is the advisory lock under which migrations are looked at and run.
	// golang-migrate has a lock of its own, but reads the version outside it, where a
	// migration that runs elsewhere looks like one that has failed.
	migrationLock     = 0x666f756e647279 // "foundry"
	migrationLockPoll = 100 * time.Millisecond
)

// Migrate brings the schema to the version of this program. It is safe to call from
// many processes at once. A schema that a failed migration has left half done, or that is newer
// than this program, is refused (errs.Conflict). The URL must not lead to a transaction pooler.
func Migrate(ctx context.Context, url string) error {
	return migrateWith(ctx, url, db.Migrations, (*migrate.Migrate).Up)
}

// MigrateDown takes every migration back and so removes all data.
func MigrateDown(ctx context.Context, url string) error {
	return migrateWith(ctx, url, db.Migrations, (*migrate.Migrate).Down)
}

func migrateWith(ctx context.Context, url string, files fs.FS, run func(*migrate.Migrate) error) error {
	lock, err := Connect(ctx, url, "foundry migrate")
	if err != nil {
		return err
	}
	defer closeConn(ctx, lock)
	if err := waitAdvisoryLock(ctx, lock, migrationLock); err != nil {
		return fmt.Errorf("waiting for other migrations: %w", err)
	}
	src, err := iofs.New(files, "migrations")
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	newest, err := newestVersion(src)
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	m, err := newMigrate(lock.Config(), src)
	if err != nil {
		return errors.Join(err, src.Close())
	}
	stop := context.AfterFunc(ctx, func() { m.GracefulStop <- true }) // its buffer is 1
	defer stop()
	err = checkVersion(m, newest)
	if err == nil {
		err = run(m)
	}
	if errors.Is(err, migrate.ErrNoChange) {
		err = nil
	}
	if err != nil && errs.CodeOf(err) == errs.Internal {
		err = fmt.Errorf("migrating: %w", err)
	}
	sourceErr, targetErr := m.Close()
	return errors.Join(err, context.Cause(ctx), sourceErr, targetErr)
}

// newMigrate connects a second time: golang-migrate wants a database/sql handle. The
// context of its queries is its own; GracefulStop ends it between two migrations.
func newMigrate(config *pgx.ConnConfig, src source.Driver) (*migrate.Migrate, error) {
	handle := stdlib.OpenDB(*config)
	target, err := driver.WithInstance(handle, &driver.Config{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing migrations: %w", err), handle.Close())
	}
	m, err := migrate.NewWithInstance("iofs", src, "pgx5", target)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing migrations: %w", err), target.Close())
	}
	return m, nil
}

func checkVersion(m *migrate.Migrate, newest uint) error {
	version, dirty, err := m.Version()
	switch {
	case errors.Is(err, migrate.ErrNilVersion):
		return nil
	case err != nil:
		return fmt.Errorf("reading the schema's version: %w", err)
	case dirty:
		return errs.E(errs.Conflict, "Migration %d failed half way; repair the schema, then set schema_migrations to the version that it has.", version)
	case version > newest:
		return errs.E(errs.Conflict, "The database has schema version %d, this program knows up to %d; start a newer release.", version, newest)
	}
	return nil
}

// newestVersion walks the source to its last version.
func newestVersion(src source.Driver) (uint, error) {
	version, err := src.First()
	for err == nil {
		var next uint
		if next, err = src.Next(version); err == nil {
			version = next
		}
	}
	if !errors.Is(err, fs.ErrNotExist) || version == 0 {
		return 0, err
	}
	return version, nil
}

// waitAdvisoryLock polls: a statement that waits in pg_advisory_lock holds a snapshot,
// which would stall a CREATE INDEX CONCURRENTLY of whoever has the lock.
func waitAdvisoryLock(ctx context.Context, conn *pgx.Conn, key int64) error {
	ticker := time.NewTicker(migrationLockPoll)
	defer ticker.Stop()
	for {
		var locked bool
		if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", key).Scan(&locked); err != nil || locked {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// closeConn closes a connection even when ctx has ended, and does not wait long for it.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // it is closed either way; the error tells only how politely
}
