package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"foundry/internal/pgdev"
	"foundry/internal/postgres"
)

// cluster is a database server of one test, which can stop it and start it again. A stopped one keeps what was committed: it is not
// the server that other tests share, which does without fsync.
type cluster struct {
	t                      *testing.T
	config                 pgdev.Config
	url                    string // of a migrated database
	postmaster, supervisor int
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "foundry-outage-") //nolint:usetesting // what is above t.TempDir is closed to the server's account
	if err != nil {
		t.Fatal(err)
	}
	bin := os.Getenv("FOUNDRY_PG_BIN") //nolint:forbidigo // as package pgtest does
	c := &cluster{t: t, config: pgdev.Config{Dir: dir, Kind: pgdev.Dev, Bin: bin}}
	t.Cleanup(func() { // after the server is left
		if database, err := url.Parse(c.url); err == nil && c.url != "" {
			removeCluster(t, filepath.Dir(database.Query().Get("host")), dir)
		}
	})
	server := c.start()
	if err := server.EnsureDatabase(t.Context(), "foundry"); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Migrate(t.Context(), c.url); err != nil {
		t.Fatal(err)
	}
	return c
}

// start starts the server, or another one after stop, and learns who runs it.
func (c *cluster) start() *pgdev.Server {
	t := c.t
	t.Helper()
	server, err := pgdev.Start(t.Context(), c.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	c.url = server.URL("foundry")
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var backend string
	if err := conn.QueryRow(t.Context(), "SELECT pg_backend_pid()::text").Scan(&backend); err != nil {
		t.Fatal(err)
	}
	c.postmaster = number(t, parent(backend))
	c.supervisor = number(t, parent(strconv.Itoa(c.postmaster)))
	return server
}

func number(t *testing.T, pid string) int {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil || n < 2 {
		t.Fatalf("%q is no process of ours", pid)
	}
	return n
}

// stop shuts the server down at once, as when its machine dies, and nobody starts another.
func (c *cluster) stop() {
	t := c.t
	t.Helper()
	// A supervisor that is killed first would have the postmaster end in an orderly way; one that lives would start another.
	for _, step := range []struct {
		pid    int
		signal syscall.Signal
	}{{c.supervisor, syscall.SIGSTOP}, {c.postmaster, syscall.SIGQUIT}} {
		if err := syscall.Kill(step.pid, step.signal); err != nil {
			t.Errorf("%s to process %d: %v", step.signal, step.pid, err)
		}
	}
	eventually(t, func() error {
		if alive(c.postmaster) {
			return fmt.Errorf("the postmaster %d lives", c.postmaster)
		}
		return nil
	})
	if err := syscall.Kill(c.supervisor, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	eventually(t, func() error {
		if alive(c.supervisor) {
			return fmt.Errorf("the supervisor %d lives", c.supervisor)
		}
		conn, err := pgx.Connect(t.Context(), c.url)
		if err == nil {
			return errors.Join(errors.New("the server still answers"), conn.Close(t.Context()))
		}
		return nil
	})
}
