package auth

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/postgres"
	"foundry/internal/postgres/dbsqlc"
)

// Store keeps organizations, people and what lets them in. Safe for concurrent use.
type Store struct {
	pool   *pgxpool.Pool
	q      *dbsqlc.Queries
	kept   *cache
	hasher *hasher
	// keepFor is how long a token's principal is remembered: the net under the notifications of revoking.
	keepFor time.Duration
}

// NewStore returns a store on the pool.
func NewStore(pool *pgxpool.Pool) *Store {
	return &Store{pool: pool, q: dbsqlc.New(pool), kept: newCache(maxKept), hasher: newHasher(), keepFor: keepFor}
}

// Organization is a tenant.
type Organization struct {
	ID   uuid.UUID
	Slug string
	Name string
}

// Person is a user as others see one.
type Person struct {
	ID    uuid.UUID
	Email string // in small letters
	Name  string
}

// Origin is where a request without a principal came from, for the audit record and the lists of sessions.
type Origin struct {
	Address   string // of the network; empty: not known
	UserAgent string // its first 400 characters are kept
	RequestID string
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

// inTx runs f in a transaction, which it commits unless f fails.
func (s *Store) inTx(ctx context.Context, f func(tx pgx.Tx, q *dbsqlc.Queries) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return f(tx, s.q.WithTx(tx)) })
}

// revoking is inTx for what may take rights away. With the commit, every process that listens to postgres.ChannelAccounts drops what it
// remembers, and so does this one.
func (s *Store) revoking(ctx context.Context, f func(tx pgx.Tx, q *dbsqlc.Queries) error) error {
	defer s.kept.drop() // after an error too: the outcome of a commit may be unknown
	return s.inTx(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		if err := f(tx, q); err != nil {
			return err
		}
		return q.AccountsNotify(ctx, postgres.ChannelAccounts)
	})
}

// OnNotify is for postgres.ListenConfig. Channels other than postgres.ChannelAccounts are ignored.
func (s *Store) OnNotify(n postgres.Notification) {
	if n.Channel == postgres.ChannelAccounts {
		s.kept.drop()
	}
}

// OnReset is for postgres.ListenConfig: notifications may have been lost.
func (s *Store) OnReset() { s.kept.drop() }

// Revoked returns a channel that is closed when a right may next have been taken away from somebody, by this process or by another.
func (s *Store) Revoked() <-chan struct{} { return s.kept.now() }

// asPerson is the actor of what a person does before being signed in.
func asPerson(organizationID uuid.UUID, p Person, from Origin) audit.Actor {
	return audit.Actor{
		OrganizationID: organizationID, Kind: audit.User, ID: &p.ID, Name: p.Email, Address: from.Address, RequestID: from.RequestID,
	}
}

// onDatabase is the actor of what is done without a request.
func onDatabase(organizationID uuid.UUID) audit.Actor {
	return audit.Actor{OrganizationID: organizationID, Kind: audit.System, Name: "foundry"}
}

// normalEmail returns the address in the form in which it is stored; ok is false when it cannot be one.
func normalEmail(email string) (normal string, ok bool) {
	normal = strings.ToLower(strings.TrimSpace(email))
	name, domain, found := strings.Cut(normal, "@")
	return normal, found && name != "" && domain != "" && len(normal) <= 254 && !strings.ContainsAny(normal, " \t\r\n\x00")
}

func invalidEmail() error {
	return errs.E(errs.Validation, "This is not an address of electronic mail.").With("/email", "Must be an address such as ada@example.com.")
}

// shortened cuts text to a number of characters, and makes it storable.
func shortened(text string, limit int) string {
	runes := []rune(strings.ReplaceAll(strings.ToValidUTF8(text, "�"), "\x00", "�"))
	return string(runes[:min(len(runes), limit)])
}

// until returns the seconds of a duration, nil for 0: for ever.
func until(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	return new(d.Seconds())
}
