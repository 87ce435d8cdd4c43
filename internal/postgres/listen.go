package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
)

const (
	listenPing     = 15 * time.Second
	listenPingWait = 5 * time.Second
	listenProof    = 10 * time.Second // a busy database is no transaction pooler
	reconnectMin   = 100 * time.Millisecond
	reconnectMax   = 5 * time.Second
)

// Notification is one NOTIFY. It says that something may have changed; rows say what.
type Notification struct {
	Channel string
	Payload string
}

// ListenConfig says what to listen to. The callbacks are called by one goroutine, in
// order; while one runs, nothing else is delivered, so they must not wait.
type ListenConfig struct {
	URL      string // must not lead to a transaction pooler
	Name     string // application_name; default "foundry listen"
	Channels []string
	OnNotify func(Notification)
	// OnReset is called after the connection was lost and LISTEN works again: anything may have
	// changed meanwhile, so read. nil is fine.
	OnReset func()
	Log     zerolog.Logger
}

// Listener is the one connection of a process that LISTENs.
//
//	Listen ──connect, LISTEN, prove──▶ listening ◀──LISTEN, OnReset── reconnecting
//	                                      │  ping every 15 s fails         ▲ jittered backoff,
//	                                      └──────────── or an error ───────┘ 0.1 to 5 s
type Listener struct {
	config ListenConfig
	conn   *pgx.Conn
	lost   atomic.Bool
}

// Check says, with errs.Unavailable, that notifications do not arrive at present. It may be called concurrently.
func (l *Listener) Check(context.Context) error {
	if l.lost.Load() {
		return errs.E(errs.Unavailable, "The connection that listens for changes is lost; it is being made again.")
	}
	return nil
}

// Listen connects and listens. What is read from the database after it has returned, and
// then after every notification, misses nothing. A second connection notifies the first, to prove that
// notifications arrive; if they do not, the error is an errs.Unavailable that says why.
func Listen(ctx context.Context, c ListenConfig) (*Listener, error) {
	if c.OnReset == nil {
		c.OnReset = func() {}
	}
	c.Name = cmp.Or(c.Name, "foundry listen")
	l := &Listener{config: c}
	proof := "foundry_proof_" + strings.ToLower(rand.Text())
	conn, err := l.connect(ctx, append([]string{proof}, c.Channels...))
	if err != nil {
		return nil, err
	}
	l.conn = conn
	if err := l.prove(ctx, proof); err != nil {
		closeConn(ctx, conn)
		return nil, err
	}
	return l, nil
}

// connect returns a connection that listens to the channels.
func (l *Listener) connect(ctx context.Context, channels []string) (*pgx.Conn, error) {
	conn, err := Connect(ctx, l.config.URL, l.config.Name)
	if err != nil {
		return nil, err
	}
	for _, channel := range channels {
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			closeConn(ctx, conn)
			return nil, fmt.Errorf("listening to %s: %w", channel, err)
		}
	}
	return conn, nil
}

// prove notifies from another connection while this one is idle: a transaction pooler
// drops notifications for a server connection that no client uses.
func (l *Listener) prove(ctx context.Context, channel string) error {
	other, err := Connect(ctx, l.config.URL, l.config.Name)
	if err != nil {
		return err
	}
	defer closeConn(ctx, other)
	if _, err := other.Exec(ctx, "SELECT pg_notify($1, '')", channel); err != nil {
		return fmt.Errorf("proving that notifications arrive: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, listenProof)
	defer cancel()
	for {
		n, err := l.conn.WaitForNotification(limited)
		switch {
		case err != nil && limited.Err() != nil && ctx.Err() == nil:
			return errs.E(errs.Unavailable, "Notifications from the database do not arrive within %s: "+
				"DATABASE_URL_DIRECT probably leads to a transaction pooler, and must lead to the server itself.", listenProof)
		case err != nil:
			return fmt.Errorf("proving that notifications arrive: %w", err)
		case n.Channel == channel:
			_, err := l.conn.Exec(ctx, "UNLISTEN "+pgx.Identifier{channel}.Sanitize())
			return err
		}
		l.config.OnNotify(Notification{n.Channel, n.Payload})
	}
}

// Run delivers notifications until ctx ends, and then closes the connection. It
// reconnects for as long as it takes and returns nil.
func (l *Listener) Run(ctx context.Context) error {
	defer func() { closeConn(ctx, l.conn) }()
	for {
		err := l.deliver(ctx)
		if ctx.Err() != nil {
			return nil
		}
		l.lost.Store(true)
		closeConn(ctx, l.conn)
		l.config.Log.Warn().Err(err).Msg("listening connection lost")
		if err := l.reconnect(ctx); err != nil {
			return nil
		}
		l.lost.Store(false)
		l.config.Log.Info().Msg("listening again")
		l.config.OnReset()
	}
}

// deliver returns only with an error: of the connection, or of ctx.
func (l *Listener) deliver(ctx context.Context) error {
	for {
		limited, cancel := context.WithTimeout(ctx, listenPing)
		n, err := l.conn.WaitForNotification(limited)
		isQuiet := limited.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			l.config.OnNotify(Notification{n.Channel, n.Payload})
		case isQuiet && !l.conn.IsClosed():
			if err := l.ping(ctx); err != nil {
				return fmt.Errorf("pinging: %w", err)
			}
		default:
			return err
		}
	}
}

func (l *Listener) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listenPingWait)
	defer cancel()
	return l.conn.Ping(ctx)
}

// reconnect returns when LISTEN works again; its only error is that of ctx.
func (l *Listener) reconnect(ctx context.Context) error {
	for delay := reconnectMin; ; delay = min(2*delay, reconnectMax) {
		timer := time.NewTimer(mathrand.N(delay)) //nolint:gosec // jitter
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		conn, err := l.connect(ctx, l.config.Channels)
		if err == nil {
			l.conn = conn
			return nil
		}
		if !errors.Is(err, context.Canceled) {
			l.config.Log.Debug().Err(err).Msg("listening connection still lost")
		}
	}
}
