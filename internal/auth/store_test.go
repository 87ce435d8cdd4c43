package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/auth"
	"foundry/internal/errs"
	"foundry/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func setup(t *testing.T) (*pgxpool.Pool, *auth.Store, uuid.UUID) {
	t.Helper()
	pool := pgtest.Pool(t)
	store := auth.NewStore(pool)
	id, err := store.EnsureOrganization(t.Context(), "acme", "Acme")
	if err != nil {
		t.Fatal(err)
	}
	return pool, store, id
}

func TestEnsureOrganizationFindsTheOneThatExists(t *testing.T) {
	t.Parallel()
	_, store, id := setup(t)
	again, err := store.EnsureOrganization(t.Context(), "acme", "Another name")
	if err != nil || again != id {
		t.Errorf("the same slug gave %s (%v), want %s", again, err, id)
	}
	other, err := store.EnsureOrganization(t.Context(), "umbrella", "Umbrella")
	if err != nil || other == id {
		t.Errorf("another slug gave %s (%v)", other, err)
	}
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	pool, store, id := setup(t)
	token, err := store.Create(t.Context(), id, "ci", 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := store.Authenticate(t.Context(), token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("knows a token", func(t *testing.T) {
		t.Parallel()
		if p.OrganizationID != id || p.OrganizationSlug != "acme" || p.Name != "ci" || p.TokenID == nil {
			t.Errorf("the token acts for %+v", p)
		}
	})
	t.Run("refuses what is no token, and what nobody made", func(t *testing.T) {
		t.Parallel()
		// Well-formed, but of another database.
		_, elsewhere, otherID := setup(t)
		stranger, err := elsewhere.Create(t.Context(), otherID, "ci", 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, presented := range []string{"", "nonsense", "fdy_short", stranger.Reveal(), strings.ToLower(token.Reveal())} {
			if _, err := store.Authenticate(t.Context(), presented); !errs.Is(err, errs.Unauthorized) {
				t.Errorf("presenting %d characters gave %v, want unauthorized", len(presented), err)
			}
		}
	})
	t.Run("stores no plaintext", func(t *testing.T) {
		t.Parallel()
		var row string
		if err := pool.QueryRow(t.Context(), "SELECT t::text FROM tokens t WHERE name = 'ci'").Scan(&row); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(row, token.Reveal()[4:20]) {
			t.Errorf("the row holds the token: %s", row)
		}
	})
}

func TestTokensExpire(t *testing.T) {
	t.Parallel()
	pool, store, id := setup(t)
	token, err := store.Create(t.Context(), id, "short", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Authenticate(t.Context(), token.Reveal()); err != nil {
		t.Fatalf("a token of one hour is refused at once: %v", err)
	}
	if _, err := pool.Exec(t.Context(), "UPDATE tokens SET expires_at = now() - interval '1 second'"); err != nil {
		t.Fatal(err)
	}
	// Another process, which remembers nothing.
	if _, err := auth.NewStore(pool).Authenticate(t.Context(), token.Reveal()); !errs.Is(err, errs.Unauthorized) {
		t.Errorf("an expired token gave %v, want unauthorized", err)
	}
}

func TestRevokeHoldsAtOnceInItsProcess(t *testing.T) {
	t.Parallel()
	_, store, id := setup(t)
	token, err := store.Create(t.Context(), id, "dev", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Authenticate(t.Context(), token.Reveal()); err != nil {
		t.Fatal(err)
	}
	if n, err := store.Revoke(t.Context(), id, "dev"); err != nil || n != 1 {
		t.Fatalf("revoking gave %d, %v", n, err)
	}
	if _, err := store.Authenticate(t.Context(), token.Reveal()); !errs.Is(err, errs.Unauthorized) {
		t.Errorf("a revoked token gave %v, want unauthorized", err)
	}
}

func TestCreateChecksNameAndExpiry(t *testing.T) {
	t.Parallel()
	_, store, id := setup(t)
	for name, call := range map[string]func() error{
		"no name":        func() error { _, err := store.Create(t.Context(), id, "", 0); return err },
		"a long name":    func() error { _, err := store.Create(t.Context(), id, strings.Repeat("n", 201), 0); return err },
		"a past instant": func() error { _, err := store.Create(t.Context(), id, "n", -time.Second); return err },
	} {
		if err := call(); !errs.Is(err, errs.Validation) {
			t.Errorf("%s gave %v, want a validation error", name, err)
		}
	}
}
