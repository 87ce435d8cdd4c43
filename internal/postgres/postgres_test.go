package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

// tracer records the SQL of queries.
type tracer struct {
	mu  sync.Mutex
	sql []string
}

func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.sql = append(tr.sql, data.SQL)
	return ctx
}

func (tr *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestOpen(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)

	t.Run("sets timeouts, name and size", func(t *testing.T) {
		t.Parallel()
		pool, err := postgres.Open(t.Context(), url, postgres.Options{Name: "foundry serve", MaxConns: 3})
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		for setting, want := range map[string]string{
			"statement_timeout": "10s", "idle_in_transaction_session_timeout": "10s",
			"application_name": "foundry serve", "timezone": "UTC",
		} {
			var got string
			if err := pool.QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %q, want %q, %v", setting, got, want, err)
			}
		}
		if got := pool.Config().MaxConns; got != 3 {
			t.Errorf("size %d", got)
		}
	})

	t.Run("shows queries to a tracer", func(t *testing.T) {
		t.Parallel()
		seen := &tracer{}
		pool, err := postgres.Open(t.Context(), url, postgres.Options{Tracer: seen})
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		if _, err := pool.Exec(t.Context(), "SELECT 42"); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(seen.sql, "SELECT 42") {
			t.Errorf("seen %q", seen.sql)
		}
	})

	t.Run("a bad URL is invalid and never repeated", func(t *testing.T) {
		t.Parallel()
		_, err := postgres.Open(t.Context(), "postgres://u:hunter2@db:port/x", postgres.Options{})
		if !errs.Is(err, errs.Invalid) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	})

	t.Run("nobody there is unavailable", func(t *testing.T) {
		t.Parallel()
		_, err := postgres.Open(t.Context(), "postgres://u:hunter2@/x?host="+t.TempDir(), postgres.Options{})
		if !errs.Is(err, errs.Unavailable) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	})
}

func TestMigrate(t *testing.T) {
	t.Parallel()

	t.Run("goes up once, from many processes, and down", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Empty(t)
		failures := make([]error, 4)
		var group sync.WaitGroup
		for i := range failures {
			group.Go(func() { failures[i] = postgres.Migrate(t.Context(), url) })
		}
		group.Wait()
		if err := errors.Join(failures...); err != nil {
			t.Fatal(err)
		}
		conn, _ := dial(t, url)
		exec(t, conn, "SELECT id FROM installation")
		if err := postgres.MigrateDown(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		var left []string
		err := conn.QueryRow(t.Context(), `SELECT coalesce(array_agg(relname::text), '{}') FROM pg_class
			WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'schema_migrations%'`).Scan(&left)
		if err != nil || len(left) != 0 {
			t.Errorf("left after going down: %q, %v", left, err)
		}
		if err := postgres.Migrate(t.Context(), url); err != nil {
			t.Errorf("up again: %v", err)
		}
	})

	for name, tt := range map[string]struct{ sql, want string }{
		"a half done schema is refused": {"UPDATE schema_migrations SET dirty = true RETURNING 1", "failed half way"},
		"a newer schema is refused":     {"UPDATE schema_migrations SET version = 999999 RETURNING 1", "start a newer release"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn, _ := dial(t, url)
			exec(t, conn, tt.sql)
			err := postgres.Migrate(t.Context(), url)
			if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}

	t.Run("ends with its context while another migrates", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Empty(t)
		conn, _ := dial(t, url)
		exec(t, conn, "SELECT true FROM pg_advisory_lock($1)", int64(0x666f756e647279))
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- postgres.Migrate(ctx, url) }()
		cancel(enough)
		if err := <-done; err == nil {
			t.Error("it migrated")
		}
	})
}

func TestIsUnavailable(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	refused, _ := dial(t, url)
	_, refusal := refused.Exec(t.Context(), "SELECT 1/0")
	late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, timeout := refused.Exec(late, "SELECT pg_sleep(60)")
	killed, _ := dial(t, url)
	other, _ := dial(t, url)
	exec(t, other, "SELECT pg_terminate_backend($1, 10000)", killed.PgConn().PID())
	_, told := killed.Exec(t.Context(), "SELECT 1")
	_, closed := killed.Exec(t.Context(), "SELECT 1")
	_, nobody := pgconn.Connect(t.Context(), "postgres://u@/x?host="+t.TempDir())
	for name, tt := range map[string]struct {
		err  error
		away bool
	}{
		"nobody there":             {nobody, true},
		"told of the end":          {told, true},
		"closed before":            {closed, true},
		"the answer broke off":     {fmt.Errorf("x: %w", io.ErrUnexpectedEOF), true},
		"a statement refused":      {refusal, false},
		"out of the caller's time": {timeout, false},
		"none":                     {nil, false},
	} {
		if got := postgres.IsUnavailable(tt.err); got != tt.away {
			t.Errorf("%s: IsUnavailable is %t for %v", name, got, tt.err)
		}
	}
	if !postgres.NothingSent(nobody) || !postgres.NothingSent(closed) || postgres.NothingSent(io.ErrUnexpectedEOF) {
		t.Error("without a connection nothing is sent; when an answer breaks off, something was")
	}
}

func isSQLState(err error, code string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == code
}
