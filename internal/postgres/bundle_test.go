package postgres_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"foundry/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// eventually waits for a condition without saying how fast the machine must be.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(time.Minute)
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-ticker.C:
		}
	}
}

// wire is a connection to the server whose client side can be watched and broken.
type wire struct {
	net.Conn

	writes atomic.Int32
	deaf   atomic.Bool // answers are lost: what is read breaks the connection
}

func (w *wire) Write(b []byte) (int, error) {
	w.writes.Add(1)
	return w.Conn.Write(b)
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if w.deaf.Load() {
		return 0, net.ErrClosed
	}
	return n, err
}

// dial connects through a wire.
func dial(t *testing.T, url string) (*pgx.Conn, *wire) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	var isDialed atomic.Bool
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if isDialed.Swap(true) {
			return conn, err // to cancel a query
		}
		w.Conn = conn
		return w, err
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // some tests break it
	return conn, w
}

func exec(t *testing.T, conn interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, args ...any,
) {
	t.Helper()
	var ignored any
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&ignored); err != nil {
		t.Fatal(err)
	}
}
