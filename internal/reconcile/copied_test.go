package reconcile

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/sandboxtest"
)

// TestCopiedDatabaseLeavesSandboxesAlone copies a database whose installation goes on in the original, where a sandbox is made that the
// copy does not know and one that it knows is kept for longer.
func TestCopiedDatabaseLeavesSandboxesAlone(t *testing.T) {
	t.Parallel()
	home := pgtest.Database(t)
	pool := pgtest.Open(t, home, postgres.Options{})
	original := open(t, pool, sandboxtest.NewFake(t))
	kept := original.sandbox(original.execution("ended"), "kept")
	original.round()
	original.passed("keep_until", "sandboxes", kept, 24*time.Hour)
	pool.Close()

	twin := copyDatabase(t, home)
	copied := &testBundle{t: t, pool: twin, fake: original.fake, clock: original.clock}
	copied.restart()
	young := execution.NewID()
	copied.create(young, original.installation)
	for range 3 {
		if err := copied.r.Round(t.Context()); !errs.Is(err, Copied) {
			t.Fatalf("a round in a copy says %v", err)
		}
	}
	copied.want(kept, "kept")
	copied.wantThere(kept, sandbox.Stopped)
	copied.wantThere(young, sandbox.Ready)
	if len(copied.calls) > 0 {
		t.Errorf("the copy has made the calls %+v", copied.calls)
	}

	if adopted, err := copied.r.Store.Adopt(t.Context()); err != nil || !adopted {
		t.Fatalf("adopting the copy: %v, %v", adopted, err)
	}
	copied.round()
	copied.round()
	copied.want(kept, "destroyed")
	copied.wantThere(young, "")
	if adopted, err := copied.r.Store.Adopt(t.Context()); err != nil || adopted {
		t.Fatalf("adopting it again: %v, %v", adopted, err)
	}
	// The two know nothing of each other: it is for the person who adopts to say that the original is not in use.
	back := pgtest.Open(t, home, postgres.Options{})
	if _, err := NewStore(back).Home(t.Context()); err != nil {
		t.Errorf("the original says %v", err)
	}
}

// copyDatabase copies a database that nobody uses, and opens the copy.
func copyDatabase(t *testing.T, from string) *pgxpool.Pool {
	t.Helper()
	address, err := url.Parse(from)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(address.Path, "/")
	admin := *address
	admin.Path = "/postgres"
	run := func(ctx context.Context, sql string, args ...any) {
		conn, err := pgx.Connect(ctx, admin.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	// A connection that was closed may take a moment to leave, and a copy refuses while one is there.
	run(t.Context(), "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = $1", name)
	twin := name + "_twin"
	run(t.Context(), "CREATE DATABASE "+pgx.Identifier{twin}.Sanitize()+" TEMPLATE "+pgx.Identifier{name}.Sanitize())
	t.Cleanup(func() {
		run(context.WithoutCancel(t.Context()), "DROP DATABASE "+pgx.Identifier{twin}.Sanitize()+" WITH (FORCE)")
	})
	address.Path = "/" + twin
	return pgtest.Open(t, address.String(), postgres.Options{})
}
