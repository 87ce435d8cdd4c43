package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"foundry/internal/errs"
)

// Pipeline is a transaction in as few round trips as its answers allow: statements whose
// results nobody reads are queued, and go out together with the next query or with the
// commit. It has the methods that sqlc's queries want, so a `:one` or `:many` query
// followed by any number of `:exec` queries and Commit costs two round trips.
//
//	Begin ──▶ open ──Query, QueryRow──▶ begin + queued + query sent, answer read
//	            │
//	            ├──Commit──▶ queued + commit sent ──▶ committed | rolled back | unknown
//	            └──Rollback (defer it: harmless after Commit)
//
// A Pipeline is used by one goroutine. Rows of a Query must be closed before the next call.
// `:execrows` queries must not be used: Exec does not know how many rows it will change.
type Pipeline struct {
	conn  *pgx.Conn
	batch pgx.Batch
	begun bool  // begin has been sent
	done  bool  // committed, rolled back, or lost
	err   error // the first failure, after which only Rollback is of use
}

var errPipelineDone = errors.New("the transaction has ended")

// Begin starts a transaction on an idle connection, which the pipeline uses until
// Commit or Rollback. Nothing is sent yet.
func Begin(conn *pgx.Conn) *Pipeline {
	p := &Pipeline{conn: conn}
	p.batch.Queue("begin")
	return p
}

// Exec queues a statement. The tag is always empty; an error of the statement comes from
// the Query, QueryRow or Commit that sends it. args must not change until then.
func (p *Pipeline) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := p.usable(); err != nil {
		return pgconn.CommandTag{}, err
	}
	p.batch.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

// Query sends what is queued and this query. Errors also come from the rows' Err.
func (p *Pipeline) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows := p.send(ctx, sql, args)
	return rows, rows.Err()
}

// QueryRow sends what is queued and this query, whose first row Scan reads. Scan must be called.
func (p *Pipeline) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return pipelineRow{p.send(ctx, sql, args)}
}

// CopyFrom sends what is queued, then copies, which takes round trips of its own.
func (p *Pipeline) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if err := p.usable(); err != nil {
		return 0, err
	}
	if p.batch.Len() > 0 {
		if err := p.conn.SendBatch(ctx, p.take()).Close(); err != nil {
			return 0, p.failed(err)
		}
	}
	n, err := p.conn.CopyFrom(ctx, table, columns, source)
	return n, p.failed(err)
}

// Commit sends what is queued and the commit, in one round trip, and ends the pipeline.
//
// nil: committed. errs.Unknown: the connection was lost, or ctx ended, while the commit was on its way,
// so it may have happened or not. Any other error: nothing has happened.
func (p *Pipeline) Commit(ctx context.Context) error {
	if err := p.usable(); err != nil {
		p.Rollback(ctx)
		return err
	}
	var answer string
	p.batch.Queue("commit").Exec(func(tag pgconn.CommandTag) error {
		answer = tag.String()
		return nil
	})
	err := p.conn.SendBatch(ctx, p.take()).Close()
	switch {
	case answer == "COMMIT":
		// Whatever went wrong afterwards, the server has said so.
		p.done = true
		return nil
	case err == nil:
		err = fmt.Errorf("the server answered %q to the commit", answer)
	case !isCertain(err):
		p.done = true
		p.close(ctx)
		return errs.E(errs.Unknown, "The database's answer to a commit was lost.").Because(err)
	}
	p.Rollback(ctx)
	return err
}

// Rollback ends the transaction unless Commit has. A connection on which that fails is
// closed, which has the same effect, so there is no error. It works when ctx has ended.
func (p *Pipeline) Rollback(ctx context.Context) {
	if p.done {
		return
	}
	p.done = true
	if p.conn.IsClosed() || !p.begun {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if p.conn.PgConn().TxStatus() == 'I' {
		return
	}
	if _, err := p.conn.Exec(ctx, "rollback"); err != nil {
		p.close(ctx)
	}
}

func (p *Pipeline) close(ctx context.Context) { closeConn(ctx, p.conn) }

func (p *Pipeline) usable() error {
	if p.done {
		return errPipelineDone
	}
	return p.err
}

func (p *Pipeline) failed(err error) error {
	if p.err == nil {
		p.err = err
	}
	return err
}

// take returns the queued statements, to be sent.
func (p *Pipeline) take() *pgx.Batch {
	batch := p.batch
	p.batch = pgx.Batch{}
	p.begun = true
	return &batch
}

// send sends the queue and a query and reads up to the query's rows.
func (p *Pipeline) send(ctx context.Context, sql string, args []any) *pipelineRows {
	if err := p.usable(); err != nil {
		return &pipelineRows{err: err, closed: true}
	}
	before := p.batch.Len()
	p.batch.Queue(sql, args...)
	results := p.conn.SendBatch(ctx, p.take())
	for range before {
		if _, err := results.Exec(); err != nil {
			return p.refused(err, results)
		}
	}
	rows, err := results.Query()
	if err != nil {
		return p.refused(err, results)
	}
	return &pipelineRows{Rows: rows, p: p, results: results}
}

// refused ends a batch that failed before the rows of its query.
func (p *Pipeline) refused(err error, results pgx.BatchResults) *pipelineRows {
	_ = results.Close() // repeats err
	return &pipelineRows{err: p.failed(err), closed: true}
}

// isCertain reports whether err, from a batch that ended with a commit, proves that the commit did
// not happen: the server refused a statement, or nothing was sent. A FATAL message is
// no proof: the server may send it for a shutdown after it has committed.
func isCertain(err error) bool {
	if _, ok := errors.AsType[pgx.ErrPreprocessingBatch](err); ok {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.SeverityUnlocalized == "ERROR"
	}
	return pgconn.SafeToRetry(err)
}

// pipelineRows are rows of a batch's last query; closing them ends the batch.
type pipelineRows struct {
	pgx.Rows // nil when there is only an error

	p       *Pipeline
	results pgx.BatchResults
	err     error
	closed  bool
}

// Next closes at the end, as pgx does.
func (r *pipelineRows) Next() bool {
	if r.closed {
		return false
	}
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

// Close ends the batch, so that the connection can be used again.
func (r *pipelineRows) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.Rows.Close()
	r.err = r.Rows.Err()
	if err := r.results.Close(); r.err == nil {
		r.err = err
	}
	_ = r.p.failed(r.err) // kept for Err
}

// Err returns what went wrong, once the rows are closed.
func (r *pipelineRows) Err() error {
	if r.closed {
		return r.err
	}
	return r.Rows.Err()
}

// Scan reads the current row.
func (r *pipelineRows) Scan(dest ...any) error {
	if r.Rows == nil {
		return r.err
	}
	return r.Rows.Scan(dest...)
}

// pipelineRow is the first of some rows.
type pipelineRow struct{ rows *pipelineRows }

// Scan reads the row and ends the query; pgx.ErrNoRows when there is none.
func (r pipelineRow) Scan(dest ...any) error {
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}
