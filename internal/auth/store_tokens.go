package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
)

// keepFor is how long a process may go on accepting a token that was revoked elsewhere while it is told of nothing.
const keepFor = 5 * time.Second

// TokenInfo is what is known about a token, without its secret.
type TokenInfo struct {
	ID         uuid.UUID
	Name       string
	Role       Role // as it was given; the user's own role cuts it
	Scopes     []string
	User       *Person // nil: made on the database, or by such a token
	CreatedAt  time.Time
	ExpiresAt  *time.Time // nil: never
	LastUsedAt *time.Time // to the minute; nil: not yet
}

// NewToken is what a token is to be. Its rights are checked against those of By.
type NewToken struct {
	By     Principal
	Name   string // 1 to 200 characters
	Scopes []string
	Role   Role          // empty: that of By
	Expiry time.Duration // 0: never
}

// Create makes an owner's token for the organization that no user stands behind. It expires after the duration given, or
// never if that is 0. Nobody can read the plaintext again.
func (s *Store) Create(ctx context.Context, organizationID uuid.UUID, name string, expiry time.Duration) (Token, error) {
	system := Principal{Kind: KindUser, OrganizationID: organizationID, Role: Owner}
	_, token, err := s.CreateToken(ctx, onDatabase(organizationID), NewToken{By: system, Name: name, Scopes: []string{scopeAll}, Expiry: expiry})
	return token, err
}

// CreateToken makes a token with no more rights than who makes it has: else errs.Forbidden. Nobody can read its plaintext again.
func (s *Store) CreateToken(ctx context.Context, actor audit.Actor, n NewToken) (TokenInfo, Token, error) {
	if n.Role == "" {
		n.Role = n.By.Role
	}
	if err := n.check(); err != nil {
		return TokenInfo{}, Token{}, err
	}
	token := newToken()
	hash := token.digest()
	info := TokenInfo{ID: uuid.Must(uuid.NewV7()), Name: n.Name, Role: n.Role, Scopes: n.Scopes}
	err := s.inTx(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		row, err := q.TokenInsert(ctx, dbsqlc.TokenInsertParams{
			ID: info.ID, OrganizationID: n.By.OrganizationID, UserID: n.By.UserID, Name: n.Name, Role: string(n.Role), Scopes: n.Scopes,
			Hash: hash[:], ExpiresSeconds: until(n.Expiry),
		})
		if err != nil {
			return err
		}
		info.CreatedAt, info.ExpiresAt = row.CreatedAt, row.ExpiresAt
		if n.By.UserID != nil {
			user, err := q.UserByID(ctx, *n.By.UserID)
			if err != nil {
				return err
			}
			info.User = &Person{ID: user.ID, Email: user.Email, Name: user.Name}
		}
		return audit.Write(ctx, tx, audit.Entry{
			Actor: actor, Action: audit.TokenCreate, Target: n.Name,
			Data: map[string]any{"token_id": info.ID, "role": n.Role, "scopes": n.Scopes, "expires_at": row.ExpiresAt},
		})
	})
	if err != nil {
		return TokenInfo{}, Token{}, fmt.Errorf("creating a token: %w", err)
	}
	return info, token, nil
}

func (n NewToken) check() error {
	switch count := utf8.RuneCountInString(n.Name); {
	case count < 1 || count > 200:
		return errs.E(errs.Validation, "A token's name has 1 to 200 characters.").With("/name", "Must have 1 to 200 characters.")
	case n.Expiry < 0:
		return errs.E(errs.Validation, "A token cannot expire in the past.")
	case !n.Role.Valid():
		return errs.E(errs.Validation, "There is no such role.").With("/role", "Must be owner, admin, editor or viewer.")
	case len(n.Scopes) == 0:
		return errs.E(errs.Validation, "A token without scopes could do nothing.").With("/scopes", "Must have at least 1 entry.")
	case !n.By.Role.Includes(n.Role):
		return errs.E(errs.Forbidden, "This needs the right to act as %s, which a token of yours cannot have.", n.Role)
	}
	for i, scope := range n.Scopes {
		if !slices.Contains(Scopes(), scope) {
			return errs.E(errs.Validation, "There is no such scope.").With(fmt.Sprintf("/scopes/%d", i), "Must be a scope such as executions:write, or *.")
		}
		if !n.By.scoped(scope) {
			return errs.E(errs.Forbidden, "This needs the right to %s, which this token lacks and so cannot pass on.", scope)
		}
	}
	return nil
}

// Revoke deletes the organization's tokens with the name that no user made, and returns how many there were. Other processes
// are told at once; one that cannot be told may accept them for 5 s more.
func (s *Store) Revoke(ctx context.Context, organizationID uuid.UUID, name string) (int, error) {
	var n int64
	err := s.revoking(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) (err error) {
		if n, err = q.TokenDeleteByName(ctx, organizationID, name); err != nil || n == 0 {
			return err
		}
		return audit.Write(ctx, tx, audit.Entry{Actor: onDatabase(organizationID), Action: audit.TokenDelete, Target: shortened(name, 200)})
	})
	if err != nil {
		return 0, fmt.Errorf("revoking tokens: %w", err)
	}
	return int(n), nil
}

// DeleteToken revokes a token of the organization, and of the user unless that is nil. Other processes are told at once; one that cannot
// be told may accept it for 5 s more. errs.NotFound when there is none.
func (s *Store) DeleteToken(ctx context.Context, actor audit.Actor, id uuid.UUID, of *uuid.UUID) error {
	err := s.revoking(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		name, err := q.TokenDelete(ctx, actor.OrganizationID, id, of)
		if errors.Is(err, pgx.ErrNoRows) {
			return errs.E(errs.NotFound, "There is no token %q.", id)
		}
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Entry{
			Actor: actor, Action: audit.TokenDelete, Target: name, Data: map[string]any{"token_id": id},
		})
	})
	if err != nil {
		return fmt.Errorf("revoking a token: %w", err)
	}
	return nil
}

// Tokens returns a page of the organization's tokens, newest first, before the id given (nil for the first): those of one user,
// or all when that is nil.
func (s *Store) Tokens(ctx context.Context, organizationID uuid.UUID, of, before *uuid.UUID, limit int) ([]TokenInfo, error) {
	rows, err := s.q.TokenList(ctx, organizationID, of, before, int32(limit))
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", err)
	}
	list := make([]TokenInfo, 0, len(rows))
	for _, row := range rows {
		info := TokenInfo{
			ID: row.ID, Name: row.Name, Role: Role(row.Role), Scopes: row.Scopes,
			CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt, LastUsedAt: row.LastUsedAt,
		}
		if row.UserID != nil && row.Email != nil && row.UserName != nil {
			info.User = &Person{ID: *row.UserID, Email: *row.Email, Name: *row.UserName}
		}
		list = append(list, info)
	}
	return list, nil
}

// Authenticate returns who the presented token acts for, from memory if the same was asked within
// 5 s. errs.Unauthorized when it is no token, unknown or expired, or its user is no member any more.
func (s *Store) Authenticate(ctx context.Context, presented string) (Principal, error) {
	hash, ok := parse(presented)
	if !ok {
		return Principal{}, errs.E(errs.Unauthorized, "This is not an API token of Foundry.")
	}
	if p, ok := s.kept.get(hash, time.Now()); ok {
		return p, nil
	}
	asked, since := time.Now(), s.kept.now()
	row, err := s.q.TokenByHash(ctx, s.keepFor.Seconds(), hash[:])
	if errors.Is(err, pgx.ErrNoRows) {
		return Principal{}, errs.E(errs.Unauthorized, "The API token is unknown or has expired.")
	}
	if err != nil {
		return Principal{}, fmt.Errorf("looking up a token: %w", err)
	}
	p := Principal{
		Kind: KindToken, OrganizationID: row.OrganizationID, OrganizationSlug: row.OrganizationSlug, OrganizationName: row.OrganizationName,
		UserID: row.UserID, TokenID: &row.ID, Name: row.Name, Role: Role(row.Role), Scopes: row.Scopes,
	}
	if row.MemberRole != nil {
		p.Role = weaker(p.Role, Role(*row.MemberRole))
	}
	s.kept.put(hash, kept{p, asked.Add(time.Duration(row.KeepSeconds * float64(time.Second)))}, since)
	return p, nil
}
