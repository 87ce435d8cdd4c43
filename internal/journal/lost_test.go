package journal_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/journal"
	"foundry/internal/pgtest"
)

func TestConnectionLostBeforeCommit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	id := b.claimed(1)[0]
	unlock := b.lock(id)
	defer unlock()
	answer := j.submit(t, warning(id, 1))
	for range 3 {
		pid := b.awaitBlocked()
		if !pgtest.Get[bool](t, b.pool, "SELECT pg_terminate_backend($1, 10000)", pid) {
			t.Fatal("the backend did not end")
		}
	}
	b.awaitBlocked()
	unlock()
	if a := <-answer; a.err != nil || a.receipt.LastSeq != 3 {
		t.Errorf("%+v", a)
	}
}

// breaker makes connections of which one loses the answer to a commit: either the commit never arrives, or
// it does and only its answer is lost. To the client both look alike.
type breaker struct {
	pgtest.Statements
	arrives bool
	target  atomic.Int64 // which batch that ends with a commit is to be lost; 0: none
	commits atomic.Int64 // such batches so far
	next    atomic.Bool  // the next write begins it
}

func (k *breaker) TraceBatchStart(ctx context.Context, conn *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	if d.Batch.QueuedQueries[d.Batch.Len()-1].SQL == "commit" && k.commits.Add(1) == k.target.Load() {
		k.next.Store(true)
	}
	return k.Statements.TraceBatchStart(ctx, conn, d)
}

// fragileConn is one connection of a breaker.
type fragileConn struct {
	net.Conn
	k    *breaker
	lose atomic.Bool // the next answer
}

func (c *fragileConn) Write(p []byte) (int, error) {
	if c.k.next.CompareAndSwap(true, false) {
		c.lose.Store(true)
		if !c.k.arrives {
			_ = c.Conn.Close()
			return len(p), nil
		}
	}
	return c.Conn.Write(p)
}

func (c *fragileConn) Read(p []byte) (int, error) {
	if !c.lose.Load() {
		return c.Conn.Read(p)
	}
	var answer []byte
	for !bytes.HasSuffix(answer, []byte("Z\x00\x00\x00\x05I")) { // ready, and in no transaction: it has committed
		n, err := c.Conn.Read(p)
		if err != nil {
			return 0, err
		}
		answer = append(answer, p[:n]...)
	}
	_ = c.Conn.Close()
	return 0, io.ErrUnexpectedEOF
}

// startBreakable runs a journal with one connection, which the breaker makes.
func (b *testBundle) startBreakable(arrives bool) (*running, *breaker) {
	b.t.Helper()
	k := &breaker{arrives: arrives}
	config, err := pgxpool.ParseConfig(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	dial := config.ConnConfig.DialFunc
	config.MaxConns, config.ConnConfig.Tracer = 1, k
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &fragileConn{Conn: conn, k: k}, nil
	}
	pool, err := pgxpool.NewWithConfig(b.t.Context(), config)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(pool.Close)
	return b.startOn(pool, &k.Statements), k
}

// TestAnswerToCommitLost holds that nobody guesses and nothing is repeated, whether it happened or not, and that
// what was submitted behind it in the same session does not become durable either.
func TestAnswerToCommitLost(t *testing.T) {
	t.Parallel()
	for name, arrives := range map[string]bool{"it happened": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			defer b.check()
			j, k := b.startBreakable(arrives)
			id := b.claimed(1)[0]
			j.commit(t, warning(id, 1)) // prepares every statement, so that a batch has one answer
			release := b.hold(j)
			k.target.Store(k.commits.Load() + 2) // the one after that which is held

			session := new(journal.Session)
			entry := func() *journal.Entry {
				e := warning(id, 1)
				e.Session = session
				return e
			}
			answers := []<-chan answer{j.submit(t, entry()), j.submit(t, warning(id, 1))}
			release()
			for _, a := range answers {
				wantCode(t, (<-a).err, errs.Unknown)
			}
			_, err := j.Commit(t.Context(), entry())
			wantCode(t, err, errs.Unknown)

			want := int64(4)
			if arrives {
				want = 6
			}
			if r := j.commit(t, warning(id, 1)); r.LastSeq != want {
				t.Errorf("last_seq %d, want %d", r.LastSeq, want)
			}
		})
	}
}
