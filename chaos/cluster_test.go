package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/pgdev"
	"foundry/internal/postgres"
)

// cluster is a Postgres of this test, which a supervisor starts again when it is shut down. It does without fsync, but
// keeps what was committed: the machine does not lose power.
type cluster struct {
	t    *testing.T
	url  string
	data string // its directory
	pool *pgxpool.Pool
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "foundry-chaos-pg-") //nolint:usetesting // what is above t.TempDir is closed to the server's account
	if err != nil {
		t.Fatal(err)
	}
	server, err := pgdev.Start(t.Context(), pgdev.Config{Dir: dir, Kind: pgdev.Dev, Bin: os.Getenv("FOUNDRY_PG_BIN")}) //nolint:forbidigo // as package pgtest does
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t}
	t.Cleanup(func() { c.close(server, dir) })
	admin, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	if err := admin.QueryRow(t.Context(), "SHOW data_directory").Scan(&c.data); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"fsync = off", "full_page_writes = off"} {
		if _, err := admin.Exec(t.Context(), "ALTER SYSTEM SET "+setting); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin.Exec(t.Context(), "SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	if err := server.EnsureDatabase(t.Context(), "foundry"); err != nil {
		t.Fatal(err)
	}
	c.url = server.URL("foundry")
	if err := postgres.Migrate(t.Context(), c.url); err != nil {
		t.Fatal(err)
	}
	if c.pool, err = postgres.Open(t.Context(), c.url, postgres.Options{Name: "chaos", MaxConns: 4}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) close(server *pgdev.Server, dir string) {
	if c.pool != nil {
		c.pool.Close()
	}
	if err := server.Close(); err != nil {
		c.t.Error(err)
	}
	if *keepFlag {
		return
	}
	stopped := eventually(context.WithoutCancel(c.t.Context()), time.Minute, func() error {
		if _, err := os.Stat(filepath.Join(c.data, "postmaster.pid")); err == nil {
			return errors.New("PostgreSQL still runs")
		}
		return nil
	})
	if stopped != nil {
		c.t.Error(stopped)
		return
	}
	for _, name := range []string{filepath.Dir(filepath.Dir(filepath.Dir(c.data))), dir} { // DIR/pg17/cluster/data
		if c.data != "" {
			_ = os.RemoveAll(name) // what is left is below /tmp or the like
		}
	}
}

// postmaster is the process of the server, or an error while there is none.
func (c *cluster) postmaster() (int, error) {
	text, err := os.ReadFile(filepath.Join(c.data, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	return strconv.Atoi(string(first))
}

// crash shuts the server down at once, as when its machine dies. Its supervisor starts another.
func (c *cluster) crash() error {
	pid, err := c.postmaster()
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGQUIT)
}

// cut ends the connections whose name is like the pattern, and returns how many there were.
func (c *cluster) cut(ctx context.Context, pattern string, most int) (int, error) {
	const sql = `SELECT count(pg_terminate_backend(pid)) FROM (
    SELECT pid FROM pg_stat_activity WHERE datname = 'foundry' AND application_name LIKE $1 ORDER BY random() LIMIT $2) AS picked`
	return get[int](ctx, c, sql, pattern, most)
}

// get is the one value that a query finds.
func get[T any](ctx context.Context, c *cluster, sql string, args ...any) (value T, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := c.pool.QueryRow(ctx, sql, args...).Scan(&value); err != nil {
		return value, fmt.Errorf("asking the database: %w", err)
	}
	return value, nil
}
