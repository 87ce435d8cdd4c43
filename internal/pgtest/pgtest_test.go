package pgtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"foundry/internal/postgres"
)

func TestMain(m *testing.M) { Main(m) }

func databases(t *testing.T) (names []string) {
	t.Helper()
	err := withAdmin(t.Context(), func(ctx context.Context, admin *pgx.Conn) error {
		rows, err := admin.Query(ctx, "SELECT datname FROM pg_database")
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestDatabase(t *testing.T) {
	t.Parallel()

	t.Run("is migrated and one's own", func(t *testing.T) {
		t.Parallel()
		const n = 4
		var group sync.WaitGroup
		for range n {
			pool := Pool(t)
			group.Go(func() {
				var organizations int
				err := pool.QueryRow(t.Context(), `WITH added AS (
					INSERT INTO organizations (id, slug, name) VALUES (gen_random_uuid(), 'acme', 'Acme') RETURNING 1)
					SELECT count(*) FROM added`).Scan(&organizations)
				if err != nil || organizations != 1 {
					t.Errorf("%d organizations, %v", organizations, err)
				}
			})
		}
		group.Wait()
	})

	t.Run("is dropped at the end, whoever is connected", func(t *testing.T) {
		t.Parallel()
		var name string
		var conn *pgx.Conn
		t.Run("user", func(t *testing.T) { // not parallel: what comes after its end is the test
			var err error
			if conn, err = pgx.Connect(t.Context(), Database(t)); err != nil {
				t.Fatal(err)
			}
			name = conn.Config().Database
			if !slices.Contains(databases(t), name) {
				t.Errorf("%s does not exist", name)
			}
		})
		if slices.Contains(databases(t), name) {
			t.Errorf("%s still exists", name)
		}
		if err := conn.Ping(t.Context()); err == nil {
			t.Error("the connection is alive")
		}
	})

	t.Run("Empty has no tables", func(t *testing.T) {
		t.Parallel()
		var n int
		err := Open(t, Empty(t), postgres.Options{}).QueryRow(t.Context(),
			"SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&n)
		if err != nil || n != 0 {
			t.Errorf("%d tables, %v", n, err)
		}
	})
}

// PostgreSQL itself waits 5 s for the backends of the database that is copied.
func TestCopyOfADatabaseThatIsLeft(t *testing.T) {
	t.Parallel()
	url := Empty(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	time.AfterFunc(7*time.Second, func() { left <- conn.Close(context.WithoutCancel(t.Context())) })
	name := databaseName(t, url) + "_copy"
	err = withAdmin(t.Context(), func(ctx context.Context, admin *pgx.Conn) error {
		err := execIdentifiers(ctx, admin, "CREATE DATABASE %s TEMPLATE %s", name, databaseName(t, url))
		return errors.Join(err, <-left, execIdentifiers(ctx, admin, "DROP DATABASE IF EXISTS %s", name))
	})
	if err != nil {
		t.Error(err)
	}
}

// What killed runs have left goes after hours, what others use now stays.
func TestSweep(t *testing.T) {
	t.Parallel()
	url, kept := Empty(t), Empty(t)
	old := databaseName(t, url)
	makeOld(t, url)
	ours, err := template()
	if err != nil {
		t.Fatal(err)
	}
	err = withAdmin(t.Context(), func(ctx context.Context, admin *pgx.Conn) error {
		return sweep(ctx, admin, ours) // which others use now, however old it is
	})
	if err != nil {
		t.Fatal(err)
	}
	names := databases(t)
	if slices.Contains(names, old) || !slices.Contains(names, databaseName(t, kept)) {
		t.Errorf("after the sweep: %q; %s should have gone, %s stayed", names, old, databaseName(t, kept))
	}
	// The cleanup of Empty drops it again, so there must be something to drop.
	err = withAdmin(t.Context(), func(ctx context.Context, admin *pgx.Conn) error {
		return execIdentifiers(ctx, admin, "CREATE DATABASE %s TEMPLATE template0", old)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func databaseName(t *testing.T, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil || !strings.HasPrefix(config.Database, clonePrefix) {
		t.Fatalf("database %q, %v", config.Database, err)
	}
	return config.Database
}

// makeOld lets a database look as if it was created four hours ago.
func makeOld(t *testing.T, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	var file string
	err = conn.QueryRow(t.Context(), `SELECT current_setting('data_directory') || '/base/' || oid || '/PG_VERSION'
		FROM pg_database WHERE datname = current_database()`).Scan(&file)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	created := time.Now().Add(-4 * time.Hour)
	if err := os.Chtimes(filepath.Clean(file), created, created); err != nil {
		t.Fatal(err)
	}
}

func TestTemplateIsMadeOnce(t *testing.T) {
	t.Parallel()
	first, err := makeTemplate()
	if err != nil {
		t.Fatal(err)
	}
	if second, err := makeTemplate(); err != nil || second != first {
		t.Errorf("second %q, first %q, %v", second, first, err)
	}
	var templates int
	for _, name := range databases(t) {
		if name == first {
			templates++
		}
	}
	if templates != 1 {
		t.Errorf("%d databases %s", templates, first)
	}
}
