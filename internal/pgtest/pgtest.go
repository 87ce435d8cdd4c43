// Package pgtest gives tests databases of a real PostgreSQL.
//
// All test processes of a machine user share one cluster without fsync (pgdev), which
// starts with the first and stops after the last. The schema is migrated once into a
// template, named by the hash of the migrations; each test gets a clone of it, in
// about 35 ms, and drops it at its end. A package that uses it has
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"foundry/db"
	"foundry/internal/leaktest"
	"foundry/internal/pgdev"
	"foundry/internal/postgres"
)

const (
	templatePrefix = "template_"
	clonePrefix    = "test_"
	// templateLock is the advisory lock under which a template is made.
	templateLock = 0x74656d706c617465 // "template"
	setupTimeout = 2 * time.Minute
	objectInUse  = "55006" // SQLSTATE
)

// server is this process's use of the cluster, and template the migrated database in it.
// They belong to the process, not to a test: the flock behind server is what keeps the
// cluster running between two tests.
//
//nolint:gochecknoglobals // see above
var (
	server   = sync.OnceValues(startServer)
	template = sync.OnceValues(makeTemplate)
)

// Main runs a package's tests and then fails if goroutines are left. The only option is
// goleak.Cleanup. It also is what lets the test binary re-execute itself to supervise the server.
func Main(m *testing.M, options ...goleak.Option) {
	if len(os.Args) > 1 && os.Args[1] == pgdev.SuperviseArg {
		if code := pgdev.SuperviseMain(os.Args[2:]); code != 0 {
			panic(fmt.Sprintf("supervising PostgreSQL: exit code %d", code))
		}
		return
	}
	leaktest.Main(m, options...)
}

// Pool returns a pool on a fresh, migrated database. Both go when the test ends.
func Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return Open(t, Database(t), postgres.Options{})
}

// Open returns a pool that is closed when the test ends.
func Open(t testing.TB, url string, options postgres.Options) *pgxpool.Pool {
	t.Helper()
	if options.Name == "" {
		options.Name = t.Name()
	}
	pool, err := postgres.Open(t.Context(), url, options)
	if err != nil {
		t.Fatalf("opening the test database: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Database returns the URL of a fresh, migrated database, which is dropped, whoever is
// still connected, when the test ends. Processes that the test starts may use it.
func Database(t testing.TB) string {
	t.Helper()
	from, err := template()
	if err != nil {
		t.Fatalf("preparing the test database: %v", err)
	}
	return clone(t, from)
}

// Empty is Database without any table.
func Empty(t testing.TB) string {
	t.Helper()
	return clone(t, "template0")
}

func clone(t testing.TB, from string) string {
	t.Helper()
	name := fmt.Sprintf("%s%d_%s", clonePrefix, time.Now().Unix(), strings.ToLower(rand.Text()[:12]))
	err := withAdmin(t.Context(), func(ctx context.Context, admin *pgx.Conn) error {
		return execIdentifiers(ctx, admin, "CREATE DATABASE %s TEMPLATE %s", name, from)
	})
	if err != nil {
		t.Fatalf("cloning the test database: %v", err)
	}
	t.Cleanup(func() {
		err := withAdmin(context.WithoutCancel(t.Context()), func(ctx context.Context, admin *pgx.Conn) error {
			return execIdentifiers(ctx, admin, "DROP DATABASE %s WITH (FORCE)", name)
		})
		if err != nil {
			t.Errorf("dropping the test database: %v", err)
		}
	})
	s, err := server()
	if err != nil {
		t.Fatalf("starting PostgreSQL: %v", err)
	}
	if isDeaf() {
		if err := deafen(t.Context(), s.URL(name), name); err != nil {
			t.Fatalf("cutting NOTIFY off: %v", err)
		}
	}
	return s.URL(name)
}

// isDeaf reports whether the tests are run without NOTIFY: FOUNDRY_TEST_NOTIFY=off.
func isDeaf() bool { return os.Getenv("FOUNDRY_TEST_NOTIFY") == "off" }

// NeedsNotify skips a test of NOTIFY itself where that is cut off.
func NeedsNotify(t testing.TB) {
	t.Helper()
	if isDeaf() {
		t.Skip("NOTIFY is cut off")
	}
}

// deafSQL shadows pg_notify by one that tells nobody, but for the proof that every listener asks for when it starts.
const deafSQL = `CREATE FUNCTION public.pg_notify(channel text, payload text) RETURNS void LANGUAGE sql AS $$
	SELECT CASE WHEN channel LIKE 'foundry_proof_%' THEN pg_catalog.pg_notify(channel, payload) END $$`

// deafen cuts NOTIFY off in one database, for whoever connects from now on: what is woken by it must still come, only later.
func deafen(ctx context.Context, url, name string) error {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, deafSQL); err != nil {
		return err
	}
	return execIdentifiers(ctx, conn, "ALTER DATABASE %s SET search_path = public, pg_catalog", name)
}

func startServer() (*pgdev.Server, error) {
	return pgdev.Start(context.Background(), pgdev.Config{
		Kind: pgdev.Test,
		Bin:  os.Getenv("FOUNDRY_PG_BIN"),
	})
}

// withAdmin runs f with a connection to the cluster's own database.
func withAdmin(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	s, err := server()
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("connecting to the test cluster: %w", err)
	}
	defer conn.Close(ctx)
	return f(ctx, conn)
}

// execIdentifiers executes a statement with names in it. PostgreSQL waits 5 s for the backends of a database that is copied, renamed or dropped
// to leave, which one that ends, or a worker of the autovacuum, may need longer for: the statement is repeated until the context ends.
func execIdentifiers(ctx context.Context, conn *pgx.Conn, format string, names ...string) error {
	quoted := make([]any, len(names))
	for i, name := range names {
		quoted[i] = pgx.Identifier{name}.Sanitize()
	}
	for {
		_, err := conn.Exec(ctx, fmt.Sprintf(format, quoted...))
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != objectInUse {
			return err
		}
	}
}

// makeTemplate returns the name of the migrated template, making it when no process of
// this machine has yet. It also drops what crashed runs have left.
func makeTemplate() (name string, err error) {
	sum, err := migrationsHash()
	if err != nil {
		return "", err
	}
	name = templatePrefix + sum
	err = withAdmin(context.Background(), func(ctx context.Context, admin *pgx.Conn) error {
		// Session-level: it goes with the connection, also when this process is killed.
		if _, err := admin.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(templateLock)); err != nil {
			return fmt.Errorf("waiting for the template: %w", err)
		}
		if err := sweep(ctx, admin, name); err != nil {
			return err
		}
		var exists bool
		err := admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
		if err != nil || exists {
			return err
		}
		return buildTemplate(ctx, admin, name)
	})
	return name, err
}

// buildTemplate migrates a database aside and renames it, so that a template that exists
// is whole.
func buildTemplate(ctx context.Context, admin *pgx.Conn, name string) error {
	s, err := server()
	if err != nil {
		return err
	}
	aside := clonePrefix + "template"
	if err := execIdentifiers(ctx, admin, "DROP DATABASE IF EXISTS %s WITH (FORCE)", aside); err != nil {
		return fmt.Errorf("dropping a half-made template: %w", err)
	}
	if err := execIdentifiers(ctx, admin, "CREATE DATABASE %s TEMPLATE template0", aside); err != nil {
		return fmt.Errorf("creating the template: %w", err)
	}
	if err := postgres.Migrate(ctx, s.URL(aside)); err != nil {
		return fmt.Errorf("migrating the template: %w", err)
	}
	// A rename refuses while a backend is connected, and one may take a moment to leave.
	if _, err := admin.Exec(ctx, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1", aside); err != nil {
		return fmt.Errorf("clearing the template: %w", err)
	}
	if err := execIdentifiers(ctx, admin, "ALTER DATABASE %s RENAME TO %s", aside, name); err != nil {
		return fmt.Errorf("naming the template: %w", err)
	}
	return nil
}

// sweep drops clones that are older than three hours and templates, but for ours, that
// are older than three days: what killed runs and edited migrations leave. A database's
// age is that of its PG_VERSION file.
func sweep(ctx context.Context, admin *pgx.Conn, keep string) error {
	rows, err := admin.Query(ctx, `
		SELECT datname FROM pg_database d,
			pg_stat_file('base/' || d.oid || '/PG_VERSION', true) f
		WHERE (starts_with(datname, $1) AND f.modification < now() - interval '3 hours')
		   OR (starts_with(datname, $2) AND f.modification < now() - interval '3 days' AND datname <> $3)`,
		clonePrefix, templatePrefix, keep)
	if err != nil {
		return fmt.Errorf("looking for old databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking for old databases: %w", err)
	}
	for _, name := range names {
		if err := execIdentifiers(ctx, admin, "DROP DATABASE IF EXISTS %s WITH (FORCE)", name); err != nil {
			return fmt.Errorf("dropping an old database: %w", err)
		}
	}
	return nil
}

// migrationsHash identifies the schema: names and contents of all migrations.
func migrationsHash() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(db.Migrations, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(db.Migrations, path)
		fmt.Fprintf(sum, "%s %d\n%s\n", path, len(text), text)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("reading migrations: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}
