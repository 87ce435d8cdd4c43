// Package postgres connects to PostgreSQL: pools with the timeouts that every process
// has, migrations, one listener and one rate-limited notifier per process, and pipelined
// transactions.
//
// It knows no table. Queries are in db/queries, generated into dbsqlc, and used by the
// store.go of each domain package.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
)

const (
	// statementTimeout ends a statement, idleTimeout a transaction that is held open
	// without one. Both are set on the server's side, so they hold when we hang.
	statementTimeout = 10 * time.Second
	idleTimeout      = 10 * time.Second
	connectTimeout   = 10 * time.Second

	defaultMaxConns = 10
)

// Options are what differs between the pools of one process or another. The zero value works.
type Options struct {
	Name     string          // application_name; default "foundry"
	MaxConns int             // default 10
	Tracer   pgx.QueryTracer // sees every query; nil: none
}

// Open makes a pool and proves it with one connection. The caller closes it.
// A database that cannot be reached is errs.Unavailable.
func Open(ctx context.Context, url string, o Options) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, invalidURL(err)
	}
	config.MaxConns = int32(cmp.Or(o.MaxConns, defaultMaxConns))
	configure(config.ConnConfig, cmp.Or(o.Name, "foundry"))
	config.ConnConfig.RuntimeParams["statement_timeout"] = milliseconds(statementTimeout)
	config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = milliseconds(idleTimeout)
	planByIndex(config.ConnConfig.RuntimeParams)
	config.ConnConfig.Tracer = o.Tracer
	config.AfterConnect = teachUUID
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("making the pool: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, unreachable(err)
	}
	return pool, nil
}

// planByIndex keeps the planner from reading whole tables where there is an index. Every statement of a pool finds few rows by one. It is
// prepared once, often while its tables are empty, when reading all of a table looks cheapest; and such a plan stays
// while the table grows, until statistics are taken, which takes minutes. Where nothing else can be, a table is
// still read whole, at a price so high that the server would compile the statement: hence jit.
func planByIndex(params map[string]string) {
	params["enable_seqscan"], params["jit"] = "off", "off"
}

// Connect makes one connection outside any pool, without timeouts of statements.
func Connect(ctx context.Context, url, name string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, invalidURL(err)
	}
	configure(config, name)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, unreachable(err)
	}
	return conn, nil
}

func configure(config *pgx.ConnConfig, name string) {
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	config.RuntimeParams["application_name"] = name
	config.RuntimeParams["timezone"] = "UTC"
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// invalidURL leaves out pgx's text, which may quote parts of the URL.
func invalidURL(error) error {
	return errs.E(errs.Invalid, "DATABASE_URL is not a PostgreSQL connection string.")
}

func unreachable(cause error) error {
	return errs.E(errs.Unavailable, "The database cannot be reached.").Because(cause)
}

// IsUnavailable reports whether err says that the database is away: no connection can be made, one was lost, or the server
// starts or stops. A statement that the server refused is none of that, and neither is the end of the caller's context.
func IsUnavailable(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case pgerrcode.AdminShutdown, pgerrcode.CrashShutdown, pgerrcode.CannotConnectNow, pgerrcode.TooManyConnections:
			return true
		}
		return pgerrcode.IsConnectionException(pg.Code)
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	return errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// NothingSent reports whether err, of which IsUnavailable is true, proves that no statement reached the server.
func NothingSent(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok || pgconn.SafeToRetry(err)
}
