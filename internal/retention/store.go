package retention

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/postgres"
	"foundry/internal/postgres/dbsqlc"
)

// batchSize is the LIMIT of RetentionDelete and of the sweeps.
const batchSize = 1000

// A cold scan of a day of 1,000,000 executions takes seconds. A detach waits for transactions that were there before it.
const session = "SET statement_timeout = '2min'; SET lock_timeout = '15s'; SET idle_session_timeout = '2min'"

const closeTimeout = 5 * time.Second

// store is the connection that a purge runs on.
type store struct {
	conn *pgx.Conn
	q    *dbsqlc.Queries
}

func open(ctx context.Context, url string) (*store, error) {
	conn, err := postgres.Connect(ctx, url, "foundry purge")
	if err != nil {
		return nil, err
	}
	s := &store{conn: conn, q: dbsqlc.New(conn)}
	if err := s.do(ctx, session); err != nil {
		s.close(ctx)
		return nil, fmt.Errorf("preparing the connection: %w", err)
	}
	return s, nil
}

// close gives the lock back, before it closes the connection: the server notices that later.
func (s *store) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if !s.lost() {
		_ = s.do(ctx, "SELECT pg_advisory_unlock_all()") // or its end does
	}
	_ = s.conn.Close(ctx) // what it has done is done
}

func (s *store) lost() bool { return s.conn.IsClosed() }

// do runs a statement outside any transaction.
func (s *store) do(ctx context.Context, sql string) error {
	_, err := s.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	return err
}

func (s *store) lock(ctx context.Context) error {
	locked, err := s.q.RetentionLock(ctx)
	if err != nil {
		return fmt.Errorf("taking the lock of the purge: %w", err)
	}
	if !locked {
		return errs.E(Busy, "Another process purges now; it may be foundry serve.")
	}
	return nil
}

func (s *store) now(ctx context.Context) (time.Time, error) {
	now, err := s.q.RetentionNow(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the time: %w", err)
	}
	return now.UTC(), nil
}

// tableState is how a day's table hangs on its parent.
type tableState string

const (
	attached tableState = "attached"
	pending  tableState = "pending" // a detach was begun
	detached tableState = "detached"
)

// table is the table of one day's events, logs or chunks of artifacts.
type table struct {
	Name, Parent string
	Bytes        int64
	State        tableState
}

// tablesSQL is here and not in db/queries since sqlc does not know the server's catalogs. The parents are where the search path finds them,
// and their tables beside them.
const tablesSQL = `
SELECT c.relname AS name, p.relname AS parent, pg_total_relation_size(c.oid) AS bytes,
    CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END AS state
FROM pg_class p
JOIN pg_class c ON c.relnamespace = p.relnamespace AND c.relkind = 'r' AND c.relname ~ ('^' || p.relname || '_[0-9]{8}$')
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = p.oid
WHERE p.oid IN (to_regclass('execution_events'), to_regclass('execution_logs'), to_regclass('artifact_chunks'))
ORDER BY c.relname`

// days returns the days that end at before or earlier and of which there is a table or an execution, in order of time.
func (s *store) days(ctx context.Context, before time.Time) ([]*Day, error) {
	rows, err := s.conn.Query(ctx, tablesSQL)
	if err != nil {
		return nil, fmt.Errorf("reading the tables of days: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByName[table])
	if err != nil {
		return nil, fmt.Errorf("reading the tables of days: %w", err)
	}
	end := midnight(before) // of the last day
	found := map[time.Time]*Day{}
	at := func(date time.Time) *Day {
		if found[date] == nil {
			found[date] = &Day{Date: date}
		}
		return found[date]
	}
	for _, t := range tables {
		date, err := time.Parse("20060102", strings.TrimPrefix(t.Name, t.Parent+"_"))
		if err != nil || !date.Before(end) {
			continue // another's table, or one that is not old enough
		}
		day := at(date)
		day.tables = append(day.tables, t)
		day.Bytes += t.Bytes
		day.started = day.started || t.State == pending
	}
	for first := uuid.Nil; ; {
		id, err := s.q.RetentionNextExecution(ctx, first)
		if errors.Is(err, pgx.ErrNoRows) {
			break
		}
		if err != nil {
			return nil, outdated("looking for executions", err)
		}
		date := execution.Day(id)
		if !date.Before(end) {
			break
		}
		at(date)
		_, first = execution.DayIDs(date)
	}
	return slices.SortedFunc(maps.Values(found), func(a, b *Day) int { return a.Date.Compare(b.Date) }), nil
}

// keeper returns the first execution that keeps a day, nil if there is none.
func (s *store) keeper(ctx context.Context, date, before time.Time) (*Keeper, error) {
	first, below := execution.DayIDs(date)
	row, err := s.q.RetentionKeeper(ctx, first, below, before)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // it is a valid answer
	}
	if err != nil {
		return nil, outdated("looking for what keeps the day", err)
	}
	return &Keeper{ID: row.ID, Status: execution.Status(row.Status), EndedAt: row.FinishedAt}, nil
}

// outdated explains the errors of a schema that this program does not know.
func outdated(doing string, err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case pgerrcode.UndefinedTable, pgerrcode.UndefinedColumn, pgerrcode.UndefinedFunction:
			return errs.E(errs.Conflict, "The database's tables are not those of this program; make them with `foundry migrate`.").Because(err)
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func (s *store) count(ctx context.Context, date time.Time) (int64, error) {
	first, below := execution.DayIDs(date)
	n, err := s.q.RetentionCount(ctx, first, below)
	if err != nil {
		return 0, fmt.Errorf("counting executions: %w", err)
	}
	return n, nil
}

// drop takes a table away, from whatever state it is in.
func (s *store) drop(ctx context.Context, t table) error {
	name, parent := pgx.Identifier{t.Name}.Sanitize(), pgx.Identifier{t.Parent}.Sanitize()
	detach := "ALTER TABLE " + parent + " DETACH PARTITION " + name
	var err error
	switch t.State {
	case attached:
		err = s.do(ctx, detach+" CONCURRENTLY")
	case pending:
		err = s.do(ctx, detach+" FINALIZE")
	case detached:
	}
	if err != nil {
		return fmt.Errorf("detaching %s: %w", t.Name, err)
	}
	if err := s.do(ctx, "DROP TABLE "+name); err != nil {
		return fmt.Errorf("dropping %s: %w", t.Name, err)
	}
	return nil
}

// deleteBatch deletes the next executions at or after first that nothing needs, and returns how many and the last.
func (s *store) deleteBatch(ctx context.Context, first, below uuid.UUID, before time.Time) (n int, last uuid.UUID, err error) {
	ids, err := s.q.RetentionDelete(ctx, first, below, before)
	if err != nil {
		return 0, uuid.Nil, fmt.Errorf("deleting executions: %w", err)
	}
	if len(ids) > 0 {
		last = slices.MaxFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	}
	return len(ids), last, nil
}
