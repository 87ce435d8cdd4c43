package postgres_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/postgres/dbsqlc"
)

var _ dbsqlc.DBTX = (*postgres.Pipeline)(nil)

type pipelineBundle struct {
	pool *pgxpool.Pool // sees what is committed
	conn *pgx.Conn     // what pipelines use
	wire *wire
}

func setupPipeline(t *testing.T) pipelineBundle {
	t.Helper()
	t.Parallel()
	url := pgtest.Empty(t)
	pool := pgtest.Open(t, url, postgres.Options{})
	_, err := pool.Exec(t.Context(), "CREATE TABLE marks (n int UNIQUE DEFERRABLE INITIALLY DEFERRED CHECK (n < 100))")
	if err != nil {
		t.Fatal(err)
	}
	conn, wire := dial(t, url)
	b := pipelineBundle{pool, conn, wire}
	// Statements are prepared once a connection, by a round trip of their own.
	warm := postgres.Begin(conn)
	mark(t, warm, 0)
	if err := warm.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), "DELETE FROM marks"); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b pipelineBundle) marks(t *testing.T) []int {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), "SELECT n FROM marks ORDER BY n")
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (b pipelineBundle) want(t *testing.T, want ...int) {
	t.Helper()
	if got := b.marks(t); !slices.Equal(got, want) {
		t.Errorf("committed %v, want %v", got, want)
	}
}

func mark(t *testing.T, p *postgres.Pipeline, n int) {
	t.Helper()
	if _, err := p.Exec(t.Context(), "INSERT INTO marks VALUES ($1)", n); err != nil {
		t.Fatal(err)
	}
}

// count reads within the transaction.
func count(t *testing.T, p *postgres.Pipeline) (n int) {
	t.Helper()
	if err := p.QueryRow(t.Context(), "SELECT count(*) FROM marks").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPipelineCommits(t *testing.T) {
	t.Parallel()

	t.Run("in two round trips", func(t *testing.T) {
		b := setupPipeline(t)
		for i := range 3 {
			before := b.wire.writes.Load()
			p := postgres.Begin(b.conn)
			count(t, p)
			mark(t, p, 2*i)
			mark(t, p, 2*i+1)
			if err := p.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			// The first round prepares the query.
			if trips := b.wire.writes.Load() - before; i > 0 && trips != 2 {
				t.Errorf("%d round trips", trips)
			}
			p.Rollback(t.Context())
		}
		b.want(t, 0, 1, 2, 3, 4, 5)
	})

	t.Run("what was queued before a query, in order", func(t *testing.T) {
		b := setupPipeline(t)
		p := postgres.Begin(b.conn)
		mark(t, p, 1)
		mark(t, p, 2)
		if n := count(t, p); n != 2 {
			t.Errorf("the query sees %d rows", n)
		}
		rows, err := p.Query(t.Context(), "DELETE FROM marks WHERE n > $1 RETURNING n", 1)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pgx.CollectRows(rows, pgx.RowTo[int]); err != nil || !slices.Equal(got, []int{2}) {
			t.Errorf("rows %v, %v", got, err)
		}
		b.want(t)
		if err := p.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.want(t, 1)
	})

	t.Run("copies", func(t *testing.T) {
		b := setupPipeline(t)
		p := postgres.Begin(b.conn)
		n, err := p.CopyFrom(t.Context(), pgx.Identifier{"marks"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}, {2}}))
		if err != nil || n != 2 {
			t.Fatalf("copied %d, %v", n, err)
		}
		b.want(t)
		if err := p.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.want(t, 1, 2)
	})

	t.Run("no row is pgx.ErrNoRows and does no harm", func(t *testing.T) {
		b := setupPipeline(t)
		p := postgres.Begin(b.conn)
		mark(t, p, 1)
		var n int
		if err := p.QueryRow(t.Context(), "SELECT n FROM marks WHERE n = 7").Scan(&n); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("got %v", err)
		}
		if err := p.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.want(t, 1)
	})

	t.Run("rows that are closed early", func(t *testing.T) {
		b := setupPipeline(t)
		p := postgres.Begin(b.conn)
		mark(t, p, 1)
		rows, err := p.Query(t.Context(), "SELECT generate_series(1, 100)")
		if err != nil || !rows.Next() {
			t.Fatal(err)
		}
		rows.Close()
		if err := errors.Join(rows.Err(), p.Commit(t.Context())); err != nil {
			t.Fatal(err)
		}
		b.want(t, 1)
	})

	t.Run("nothing twice", func(t *testing.T) {
		b := setupPipeline(t)
		p := postgres.Begin(b.conn)
		mark(t, p, 1)
		if err := p.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.Commit(t.Context()); err == nil {
			t.Error("a second commit succeeded")
		}
		if _, err := p.Exec(t.Context(), "SELECT 1"); err == nil {
			t.Error("Exec after the end succeeded")
		}
	})
}

// Each case fails for sure: nothing is committed, the error is not errs.Unknown, and
// the connection is good for the next transaction.
func TestPipelineFailsForSure(t *testing.T) {
	t.Parallel()
	const checkViolation, uniqueViolation = "23514", "23505"

	for name, tt := range map[string]struct {
		state string
		run   func(t *testing.T, p *postgres.Pipeline) error
	}{
		"a queued statement, at the commit": {checkViolation, func(t *testing.T, p *postgres.Pipeline) error {
			t.Helper()
			count(t, p)
			mark(t, p, 1)
			mark(t, p, 100)
			mark(t, p, 2)
			return p.Commit(t.Context())
		}},
		"the commit itself": {uniqueViolation, func(t *testing.T, p *postgres.Pipeline) error {
			t.Helper()
			mark(t, p, 1)
			mark(t, p, 1)
			return p.Commit(t.Context())
		}},
		"a queued statement, at the next query": {checkViolation, func(t *testing.T, p *postgres.Pipeline) error {
			t.Helper()
			mark(t, p, 100)
			return p.QueryRow(t.Context(), "SELECT 1").Scan(new(int))
		}},
		"a query": {"22012", func(t *testing.T, p *postgres.Pipeline) error {
			t.Helper()
			mark(t, p, 1)
			return p.QueryRow(t.Context(), "SELECT 1 / 0").Scan(new(int))
		}},
		"a query among its rows": {"22012", func(t *testing.T, p *postgres.Pipeline) error {
			t.Helper()
			mark(t, p, 1)
			rows, err := p.Query(t.Context(), "SELECT 1 / (3 - n) FROM generate_series(1, 5) n")
			if err != nil {
				return err
			}
			_, err = pgx.CollectRows(rows, pgx.RowTo[int])
			return err
		}},
		"a query whose failure was overlooked": {"22012", func(t *testing.T, p *postgres.Pipeline) error {
			t.Helper()
			mark(t, p, 1)
			if err := p.QueryRow(t.Context(), "SELECT 1 / 0").Scan(new(int)); err == nil {
				t.Error("the query succeeded")
			}
			return p.Commit(t.Context())
		}},
		"a statement that cannot be prepared": {"42P01", func(t *testing.T, p *postgres.Pipeline) error {
			t.Helper()
			mark(t, p, 1)
			if _, err := p.Exec(t.Context(), "INSERT INTO nothing VALUES (1)"); err != nil {
				t.Error(err)
			}
			return p.Commit(t.Context())
		}},
		"an argument that cannot be encoded": {"", func(t *testing.T, p *postgres.Pipeline) error {
			t.Helper()
			count(t, p)
			mark(t, p, 1)
			if _, err := p.Exec(t.Context(), "INSERT INTO marks VALUES ($1)", "x"); err != nil {
				t.Error(err)
			}
			return p.Commit(t.Context())
		}},
		"a context that has ended before": {"", func(t *testing.T, p *postgres.Pipeline) error {
			t.Helper()
			count(t, p)
			mark(t, p, 1)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return p.Commit(ctx)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := setupPipeline(t)
			p := postgres.Begin(b.conn)
			err := tt.run(t, p)
			if err == nil || errs.Is(err, errs.Unknown) || (tt.state != "" && !isSQLState(err, tt.state)) {
				t.Errorf("got %v, want %s", err, tt.state)
			}
			p.Rollback(t.Context())
			b.want(t)

			again := postgres.Begin(b.conn)
			mark(t, again, 3)
			if err := again.Commit(t.Context()); err != nil {
				t.Fatalf("the next transaction: %v", err)
			}
			b.want(t, 3)
		})
	}
}

func TestPipelineUnknown(t *testing.T) {
	t.Parallel()

	t.Run("the answer is lost, the commit happened", func(t *testing.T) {
		b := setupPipeline(t)
		p := postgres.Begin(b.conn)
		count(t, p)
		mark(t, p, 1)
		b.wire.deaf.Store(true)
		if err := p.Commit(t.Context()); !errs.Is(err, errs.Unknown) {
			t.Errorf("got %v", err)
		}
		if !b.conn.IsClosed() {
			t.Error("the connection is open")
		}
		eventually(t, "the row is there", func() bool { return len(b.marks(t)) == 1 })
	})

	t.Run("the backend is killed before it commits", func(t *testing.T) {
		b := setupPipeline(t)
		p := postgres.Begin(b.conn)
		count(t, p)
		mark(t, p, 1)
		if _, err := p.Exec(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())"); err != nil {
			t.Fatal(err)
		}
		if err := p.Commit(t.Context()); !errs.Is(err, errs.Unknown) {
			t.Errorf("got %v", err)
		}
		b.want(t)
	})

	t.Run("the context ends while the server works", func(t *testing.T) {
		b := setupPipeline(t)
		tx, err := b.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(t.Context())
		if _, err := tx.Exec(t.Context(), "LOCK TABLE marks"); err != nil {
			t.Fatal(err)
		}
		p := postgres.Begin(b.conn)
		if err := p.QueryRow(t.Context(), "SELECT 1").Scan(new(int)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		before := b.wire.writes.Load()
		mark(t, p, 1)
		go func() { done <- p.Commit(ctx) }()
		eventually(t, "the commit is on its way", func() bool { return b.wire.writes.Load() > before })
		cancel()
		if err := <-done; !errs.Is(err, errs.Unknown) {
			t.Errorf("got %v", err)
		}
	})
}

// A connection lost before the commit is sent is a plain failure.
func TestPipelineLosesItsConnectionEarly(t *testing.T) { //nolint:paralleltest // setupPipeline says so
	b := setupPipeline(t)
	p := postgres.Begin(b.conn)
	mark(t, p, 1)
	err := p.QueryRow(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())").Scan(new(bool))
	if err == nil || errs.Is(err, errs.Unknown) {
		t.Errorf("got %v", err)
	}
	if err := p.Commit(t.Context()); err == nil || errs.Is(err, errs.Unknown) {
		t.Errorf("Commit: %v", err)
	}
	b.want(t)
}
