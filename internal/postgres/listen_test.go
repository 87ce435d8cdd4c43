package postgres_test

import (
	"context"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

// heard is what a listener's callbacks get.
type heard struct {
	notifications chan postgres.Notification
	resets        chan struct{}
}

// listen starts a listener, which ends with the test.
func listen(t *testing.T, url string, channels ...string) heard {
	t.Helper()
	h := heard{make(chan postgres.Notification, 100), make(chan struct{}, 100)}
	l, err := postgres.Listen(t.Context(), postgres.ListenConfig{
		URL: url, Name: "listener", Channels: channels, Log: zerolog.Nop(),
		OnNotify: func(n postgres.Notification) { h.notifications <- n },
		OnReset:  func() { h.resets <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return h
}

func (h heard) want(t *testing.T, channel, payload string) {
	t.Helper()
	if got := <-h.notifications; got != (postgres.Notification{Channel: channel, Payload: payload}) {
		t.Errorf("heard %+v, want %s %q", got, channel, payload)
	}
}

func TestListener(t *testing.T) {
	t.Parallel()

	t.Run("hears its channels from the start", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Empty(t)
		conn, _ := dial(t, url)
		h := listen(t, url, "a", "b")
		exec(t, conn, "SELECT true FROM (VALUES ('other', 'x'), ('a', '1')) AS n (channel, payload), pg_notify(channel, payload)")
		exec(t, conn, "SELECT true FROM pg_notify('b', '2')")
		h.want(t, "a", "1")
		h.want(t, "b", "2")
	})

	t.Run("comes back after its backend is killed, and says so", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Empty(t)
		conn, _ := dial(t, url)
		h := listen(t, url, "a")
		for range 2 {
			exec(t, conn, `SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE application_name = 'listener' AND datname = current_database()`)
			<-h.resets
			exec(t, conn, "SELECT true FROM pg_notify('a', 'again')")
			h.want(t, "a", "again")
		}
	})

	t.Run("a database that is not there", func(t *testing.T) {
		t.Parallel()
		_, err := postgres.Listen(t.Context(), postgres.ListenConfig{URL: "postgres://u@/x?host=" + t.TempDir()})
		if !errs.Is(err, errs.Unavailable) {
			t.Errorf("got %v", err)
		}
	})

	t.Run("a pooler that drops notifications is found out", func(t *testing.T) {
		t.Parallel()
		_, err := postgres.Listen(t.Context(), postgres.ListenConfig{
			URL: dropNotifications(t, pgtest.Empty(t)), Channels: []string{"a"},
			OnNotify: func(postgres.Notification) {}, Log: zerolog.Nop(),
		})
		if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "transaction pooler") {
			t.Errorf("got %v", err)
		}
	})
}

// The notifier, a transaction and the listener together.
func TestNotifierAndListener(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	pool := pgtest.Open(t, url, postgres.Options{})
	h := listen(t, url, postgres.ChannelWork, postgres.ChannelEvents)
	n := postgres.NewNotifier(pool, zerolog.Nop())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	missing := map[uuid.UUID]bool{}
	conn, _ := dial(t, url)
	for i := range 20 {
		id := uuid.New()
		missing[id] = true
		claim := n.Claim(i == 0, []uuid.UUID{id})
		p := postgres.Begin(conn)
		if err := claim.Exec(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		err := p.Commit(t.Context())
		claim.Done(err)
		if err != nil {
			t.Fatal(err)
		}
	}
	work := false
	for !work || len(missing) > 0 {
		got := <-h.notifications
		if got.Channel == postgres.ChannelWork {
			work = true
			continue
		}
		ids, all := postgres.ParseEvents(got.Payload)
		if all {
			t.Fatalf("payload %q", got.Payload)
		}
		for _, id := range ids {
			delete(missing, id)
		}
	}
}

// dropNotifications returns a URL that leads to the same database through a proxy that
// swallows NotificationResponse messages, as a transaction pooler does.
func dropNotifications(t *testing.T, databaseURL string) string {
	t.Helper()
	target, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	socket := filepath.Join(target.Host, ".s.PGSQL.5432")
	var group sync.WaitGroup
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			group.Go(func() { proxy(ctx, client, socket) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		group.Wait()
	})
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host, u.RawQuery = listener.Addr().String(), "sslmode=disable"
	return u.String()
}
