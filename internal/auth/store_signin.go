package auth

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
)

// How many sign-ins may fail in a quarter of an hour: for one person, and from one address of the network, behind which there may
// be many.
const (
	failuresWindow     = 15 * time.Minute
	failuresPerPerson  = 10
	failuresPerAddress = 50
)

// WaitError is errs.TooMany that says how long to wait.
type WaitError struct {
	Wait time.Duration // whole seconds, at least 1

	cause *errs.Error
}

func newWaitError(seconds float64) *WaitError {
	whole := max(1, int(math.Ceil(seconds)))
	return &WaitError{
		Wait:  time.Duration(whole) * time.Second,
		cause: errs.E(errs.TooMany, "There were too many failed sign-ins. Try again in %d seconds.", whole),
	}
}

// Error is the sentence for people.
func (e *WaitError) Error() string { return e.cause.Error() }

// Unwrap returns the errs.Error.
func (e *WaitError) Unwrap() error { return e.cause }

// RetryAfter is how long to wait.
func (e *WaitError) RetryAfter() time.Duration { return e.Wait }

// SignIn is a sign-in with a password.
type SignIn struct {
	Email        string
	Password     string
	Organization string // slug; empty: the one joined first
	From         Origin
}

// SignIn starts a session. errs.Unauthorized for a wrong password and for an unknown address, which it does not tell apart;
// a *WaitError after too many of those; errs.Forbidden for who is no member.
func (s *Store) SignIn(ctx context.Context, in SignIn) (Session, error) {
	user, try, err := s.checkPassword(ctx, in.Email, in.Password, in.From)
	if err != nil {
		return Session{}, err
	}
	var session Session
	err = s.inTx(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		if err := try.forgive(ctx, q); err != nil {
			return err
		}
		session, err = start(ctx, tx, q, startParams{Person: user, Organization: in.Organization, From: in.From, By: "password"})
		return err
	})
	if err != nil {
		return Session{}, fmt.Errorf("signing in: %w", err)
	}
	return session, nil
}

// checkPassword returns the user with the address and the password. The attempt counts as failed until it is forgiven.
func (s *Store) checkPassword(ctx context.Context, email, password string, from Origin) (Person, attempt, error) {
	refused := errs.E(errs.Unauthorized, "The address or the password is wrong.")
	normal, ok := normalEmail(email)
	if !ok {
		return Person{}, attempt{}, refused
	}
	try, err := s.attempt(ctx, normal, from.Address)
	if err != nil {
		return Person{}, attempt{}, err
	}
	var encoded string
	row, err := s.q.UserByEmail(ctx, normal)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Person{}, attempt{}, fmt.Errorf("looking up a user: %w", err)
	}
	if row.PasswordHash != nil {
		encoded = *row.PasswordHash
	}
	ok, err = s.hasher.verify(ctx, password, encoded)
	if err != nil {
		return Person{}, attempt{}, fmt.Errorf("checking a password: %w", err)
	}
	person := Person{ID: row.ID, Email: row.Email, Name: row.Name}
	if !ok || row.DisabledAt != nil {
		if err := s.auditRefusal(ctx, person, normal, from); err != nil {
			return Person{}, attempt{}, err
		}
		return Person{}, attempt{}, refused
	}
	return person, try, nil
}

// auditRefusal records a failed sign-in with the organization that the person joined first, else with the oldest.
func (s *Store) auditRefusal(ctx context.Context, p Person, email string, from Origin) error {
	actor := audit.Actor{Kind: audit.User, Name: email, Address: from.Address, RequestID: from.RequestID}
	if p.ID != uuid.Nil {
		actor.ID = &p.ID
	}
	membership, err := s.q.MembershipOf(ctx, p.ID, nil)
	actor.OrganizationID = membership.OrganizationID
	if errors.Is(err, pgx.ErrNoRows) {
		actor.OrganizationID, err = s.q.OrganizationFirst(ctx)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // there is nothing to sign in to
	}
	if err == nil {
		err = audit.Write(ctx, s.pool, audit.Entry{Actor: actor, Action: audit.SignInFailed, Target: email})
	}
	if err != nil {
		return fmt.Errorf("recording a failed sign-in: %w", err)
	}
	return nil
}

// attempt is a sign-in that counts as failed until it is forgiven.
type attempt struct {
	person, address string    // subjects
	at              time.Time // of the row of the address
}

// attempt counts a sign-in before it is looked at. A *WaitError when there have been too many.
func (s *Store) attempt(ctx context.Context, email, address string) (attempt, error) {
	try := attempt{person: "person:" + email, address: "address:" + network(address)}
	err := s.inTx(ctx, func(_ pgx.Tx, q *dbsqlc.Queries) error {
		if err := q.SignInFailurePrune(ctx); err != nil {
			return err
		}
		// Everybody locks in this order: an address, then a person.
		at, err := count(ctx, q, try.address, failuresPerAddress)
		if err != nil {
			return err
		}
		try.at = at
		_, err = count(ctx, q, try.person, failuresPerPerson)
		return err
	})
	if err != nil {
		return attempt{}, fmt.Errorf("counting a sign-in: %w", err)
	}
	return try, nil
}

func count(ctx context.Context, q *dbsqlc.Queries, subject string, allowed int) (time.Time, error) {
	if err := q.SignInFailureLock(ctx, subject); err != nil {
		return time.Time{}, err
	}
	seconds, err := q.SignInFailureWait(ctx, failuresWindow.Seconds(), subject, int32(allowed-1))
	if err == nil {
		return time.Time{}, newWaitError(seconds)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, err
	}
	return q.SignInFailureInsert(ctx, subject)
}

// forgive takes back what the attempt counted, and for the person what failed before it. A machine's other failures stay: else
// one good account would let it try all others.
func (a attempt) forgive(ctx context.Context, q *dbsqlc.Queries) error {
	if err := q.SignInFailureDelete(ctx, a.address, a.at); err != nil {
		return err
	}
	return q.SignInFailureClear(ctx, a.person)
}

// network returns what failures are counted by: the address, of IPv6 the /64 that one customer has.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return ip.String()
	}
	return prefix.String()
}
