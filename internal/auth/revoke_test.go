package auth

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

// listening returns a store as of another process, which remembers for an hour and is told what others revoke.
func listening(t *testing.T, url string, pool *pgxpool.Pool) *Store {
	t.Helper()
	there := NewStore(pool)
	there.keepFor = time.Hour
	listener, err := postgres.Listen(t.Context(), postgres.ListenConfig{
		URL: url, Channels: []string{postgres.ChannelAccounts}, OnNotify: there.OnNotify, OnReset: there.OnReset, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- listener.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the listener: %v", err)
		}
	})
	return there
}

func TestRevokingIsToldToOtherProcesses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		revoke func(here *Store, of Principal) error
		role   Role // that is left; empty: none
	}{
		"a token by its id": {revoke: func(here *Store, of Principal) error {
			return here.DeleteToken(t.Context(), onDatabase(of.OrganizationID), *of.TokenID, nil)
		}},
		"a member": {revoke: func(here *Store, of Principal) error {
			return here.RemoveMember(t.Context(), onDatabase(of.OrganizationID), Owner, *of.UserID)
		}},
		"a role": {revoke: func(here *Store, of Principal) error {
			_, err := here.SetRole(t.Context(), onDatabase(of.OrganizationID), Owner, *of.UserID, Viewer)
			return err
		}, role: Viewer},
		"a role, on the database": {revoke: func(here *Store, of Principal) error {
			_, err := here.EnsureUser(t.Context(), EnsureUser{OrganizationID: of.OrganizationID, Email: "bob@example.com", Role: Viewer})
			return err
		}, role: Viewer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			pool := pgtest.Open(t, url, postgres.Options{})
			here, there := NewStore(pool), listening(t, url, pool)
			token := tokenOfBob(t, here)
			p, err := there.Authenticate(t.Context(), token.Reveal())
			if err != nil || p.Role != Editor {
				t.Fatalf("before: %+v, %v", p, err)
			}
			told := there.Revoked()
			if err := c.revoke(here, p); err != nil {
				t.Fatal(err)
			}
			wait(t, told)
			switch p, err = there.Authenticate(t.Context(), token.Reveal()); {
			case c.role == "" && !errs.Is(err, errs.Unauthorized):
				t.Errorf("the other process answers %v, want unauthorized", err)
			case c.role != "" && (err != nil || p.Role != c.role):
				t.Errorf("the other process answers %s, %v, want %s", p.Role, err, c.role)
			}
		})
	}
	t.Run("tokens by name", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		pool := pgtest.Open(t, url, postgres.Options{})
		here, there := NewStore(pool), listening(t, url, pool)
		token, err := here.Create(t.Context(), organization(t, here), "dev", 0)
		if err != nil {
			t.Fatal(err)
		}
		p, err := there.Authenticate(t.Context(), token.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		told := there.Revoked()
		if n, err := here.Revoke(t.Context(), p.OrganizationID, "dev"); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		wait(t, told)
		if _, err := there.Authenticate(t.Context(), token.Reveal()); !errs.Is(err, errs.Unauthorized) {
			t.Errorf("the other process answers %v, want unauthorized", err)
		}
	})
}

// TestRevokingHoldsWithoutNotifications holds the net: who is told of nothing forgets by the clock, within 5 s.
func TestRevokingHoldsWithoutNotifications(t *testing.T) {
	t.Parallel()
	if keepFor > 5*time.Second {
		t.Errorf("a revoked token may work for %s in a process that is told of nothing, want at most 5 s", keepFor)
	}
	pool := pgtest.Pool(t)
	here, there := NewStore(pool), NewStore(pool)
	if there.keepFor != keepFor {
		t.Errorf("a store keeps for %s", there.keepFor)
	}
	there.keepFor = time.Nanosecond
	token := tokenOfBob(t, here)
	p, err := there.Authenticate(t.Context(), token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if err := here.DeleteToken(t.Context(), onDatabase(p.OrganizationID), *p.TokenID, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := there.Authenticate(t.Context(), token.Reveal()); !errs.Is(err, errs.Unauthorized) {
		t.Errorf("a process that was told of nothing answers %v, want unauthorized", err)
	}
	// After the connection that listens was lost, all is asked anew.
	told := there.Revoked()
	there.OnNotify(postgres.Notification{Channel: postgres.ChannelEvents})
	select {
	case <-told:
		t.Error("another channel drops what is remembered")
	default:
	}
	there.OnReset()
	wait(t, told)
}

func organization(t *testing.T, s *Store) uuid.UUID {
	t.Helper()
	id, err := s.EnsureOrganization(t.Context(), "acme", "Acme")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// tokenOfBob makes an editor, and a token of theirs.
func tokenOfBob(t *testing.T, s *Store) Token {
	t.Helper()
	id := organization(t, s)
	for email, role := range map[string]Role{"ada@example.com": Owner, "bob@example.com": Editor} {
		if _, err := s.EnsureUser(t.Context(), EnsureUser{OrganizationID: id, Email: email, Role: role}); err != nil {
			t.Fatal(err)
		}
	}
	bob, err := s.q.UserByEmail(t.Context(), "bob@example.com")
	if err != nil {
		t.Fatal(err)
	}
	by := Principal{Kind: KindUser, OrganizationID: id, UserID: &bob.ID, Role: Editor}
	_, token, err := s.CreateToken(t.Context(), onDatabase(id), NewToken{By: by, Name: "ci", Scopes: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func wait(t *testing.T, told <-chan struct{}) {
	t.Helper()
	select {
	case <-told:
	case <-time.After(2 * time.Minute):
		t.Fatal("nobody was told within 2 minutes")
	}
}
