package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
)

// keepFor is how long a process may go on accepting a token that was revoked elsewhere.
const keepFor = 30 * time.Second

// Store keeps organizations and tokens. Safe for concurrent use.
type Store struct {
	q    *dbsqlc.Queries
	kept *cache
}

// NewStore returns a store on the pool.
func NewStore(pool *pgxpool.Pool) *Store {
	return &Store{q: dbsqlc.New(pool), kept: newCache(maxKept)}
}

// EnsureOrganization returns the organization with the slug, making it if there is none. The name of one
// that exists stays.
func (s *Store) EnsureOrganization(ctx context.Context, slug, name string) (uuid.UUID, error) {
	id, err := s.q.OrganizationEnsure(ctx, uuid.Must(uuid.NewV7()), slug, name)
	if err != nil {
		return uuid.Nil, fmt.Errorf("making the organization %q: %w", slug, err)
	}
	return id, nil
}

// Create makes a token for the organization. It expires after the duration given, or never if that
// is 0. Nobody can read the plaintext again.
func (s *Store) Create(ctx context.Context, organizationID uuid.UUID, name string, expiry time.Duration) (Token, error) {
	if n := len([]rune(name)); n < 1 || n > 200 {
		return Token{}, errs.E(errs.Validation, "A token's name has 1 to 200 characters.")
	}
	if expiry < 0 {
		return Token{}, errs.E(errs.Validation, "A token cannot expire in the past.")
	}
	token := newToken()
	hash, _ := parse(token.plaintext)
	var seconds *float64
	if expiry > 0 {
		seconds = new(expiry.Seconds())
	}
	err := s.q.TokenInsert(ctx, dbsqlc.TokenInsertParams{
		ID: uuid.Must(uuid.NewV7()), OrganizationID: organizationID, Name: name, Hash: hash[:], ExpiresSeconds: seconds,
	})
	if err != nil {
		return Token{}, fmt.Errorf("creating a token: %w", err)
	}
	return token, nil
}

// Revoke deletes the organization's tokens with the name and returns how many there were. Other processes
// may accept them for 30 s more.
func (s *Store) Revoke(ctx context.Context, organizationID uuid.UUID, name string) (int, error) {
	hashes, err := s.q.TokenDeleteByName(ctx, organizationID, name)
	if err != nil {
		return 0, fmt.Errorf("revoking tokens: %w", err)
	}
	for _, hash := range hashes {
		s.kept.drop(digest(hash))
	}
	return len(hashes), nil
}

// Authenticate returns who the presented token acts for, from memory if the same was asked within
// 30 s. errs.Unauthorized when it is no token, unknown or expired.
func (s *Store) Authenticate(ctx context.Context, presented string) (Principal, error) {
	hash, ok := parse(presented)
	if !ok {
		return Principal{}, errs.E(errs.Unauthorized, "This is not an API token of Foundry.")
	}
	if p, ok := s.kept.get(hash, time.Now()); ok {
		return p, nil
	}
	asked := time.Now()
	row, err := s.q.TokenByHash(ctx, keepFor.Seconds(), hash[:])
	if errors.Is(err, pgx.ErrNoRows) {
		return Principal{}, errs.E(errs.Unauthorized, "The API token is unknown or has expired.")
	}
	if err != nil {
		return Principal{}, fmt.Errorf("looking up a token: %w", err)
	}
	p := Principal{
		Kind: KindToken, OrganizationID: row.OrganizationID, OrganizationSlug: row.OrganizationSlug, TokenID: &row.ID, Name: row.Name,
		Role: Owner, Scopes: []string{scopeAll},
	}
	s.kept.put(hash, p, asked.Add(time.Duration(row.KeepSeconds*float64(time.Second))))
	return p, nil
}
