package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
)

const (
	// SessionLife is how long a session lasts at most.
	SessionLife = 30 * 24 * time.Hour
	// SessionIdle is how long it lasts without a request.
	SessionIdle = 7 * 24 * time.Hour

	linkLife       = 10 * time.Minute
	userAgentChars = 400
)

// Session is a session that has just begun.
type Session struct {
	ID           uuid.UUID
	Token        Token // for the cookie; nobody can read it again
	Person       Person
	Organization Organization
	Role         Role
	ExpiresAt    time.Time // at the latest
}

// SessionInfo is a session as its user sees it.
type SessionInfo struct {
	ID               uuid.UUID
	OrganizationSlug string
	Address          string // at the sign-in
	UserAgent        string
	CreatedAt        time.Time
	LastSeenAt       time.Time // to the minute
	ExpiresAt        time.Time
}

type startParams struct {
	Person       Person
	Organization string // slug; empty: the one joined first
	From         Origin
	By           string // what the person signed in with
}

// start begins a session in the caller's transaction. errs.Forbidden for who is no member.
func start(ctx context.Context, tx pgx.Tx, q *dbsqlc.Queries, p startParams) (Session, error) {
	var slug *string
	if p.Organization != "" {
		slug = &p.Organization
	}
	member, err := q.MembershipOf(ctx, p.Person.ID, slug)
	if errors.Is(err, pgx.ErrNoRows) && slug != nil {
		return Session{}, errs.E(errs.Forbidden, "You are no member of an organization %q.", shortened(p.Organization, 64))
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return Session{}, errs.E(errs.Forbidden, "You are a member of no organization. Ask somebody for an invitation.")
	}
	if err != nil {
		return Session{}, err
	}
	if err := q.SessionDeleteEnded(ctx, p.Person.ID, SessionIdle.Seconds()); err != nil {
		return Session{}, err
	}
	session := Session{
		ID: uuid.Must(uuid.NewV7()), Token: newSecret(prefixSession), Person: p.Person, Role: Role(member.Role),
		Organization: Organization{ID: member.OrganizationID, Slug: member.Slug, Name: member.Name},
	}
	hash := session.Token.digest()
	session.ExpiresAt, err = q.SessionInsert(ctx, dbsqlc.SessionInsertParams{
		ID: session.ID, UserID: p.Person.ID, OrganizationID: member.OrganizationID, TokenHash: hash[:], LastsSeconds: SessionLife.Seconds(),
		Address: p.From.Address, UserAgent: shortened(p.From.UserAgent, userAgentChars),
	})
	if err != nil {
		return Session{}, err
	}
	return session, audit.Write(ctx, tx, audit.Entry{
		Actor: asPerson(member.OrganizationID, p.Person, p.From), Action: audit.SignIn, Target: p.Person.Email,
		Data: map[string]any{"session_id": session.ID, "by": p.By},
	})
}

// AuthenticateSession returns who the presented cookie acts for. It asks the database each time, so that what is revoked anywhere ends
// at once. errs.Unauthorized when the session is unknown or has ended.
func (s *Store) AuthenticateSession(ctx context.Context, presented string) (Principal, error) {
	ended := errs.E(errs.Unauthorized, "The session has ended. Sign in again.")
	hash, ok := parseSecret(prefixSession, presented)
	if !ok {
		return Principal{}, ended
	}
	row, err := s.q.SessionByHash(ctx, hash[:], SessionIdle.Seconds())
	if errors.Is(err, pgx.ErrNoRows) {
		return Principal{}, ended
	}
	if err != nil {
		return Principal{}, fmt.Errorf("looking up a session: %w", err)
	}
	return Principal{
		Kind: KindUser, OrganizationID: row.OrganizationID, OrganizationSlug: row.OrganizationSlug, OrganizationName: row.OrganizationName,
		UserID: &row.UserID, SessionID: &row.ID, Name: row.Name, Email: row.Email, Role: Role(row.Role),
	}, nil
}

// Sessions returns those of the user that have not ended, newest first, at most 200.
func (s *Store) Sessions(ctx context.Context, userID uuid.UUID) ([]SessionInfo, error) {
	rows, err := s.q.SessionList(ctx, userID, SessionIdle.Seconds())
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	list := make([]SessionInfo, 0, len(rows))
	for _, row := range rows {
		list = append(list, SessionInfo{
			ID: row.ID, OrganizationSlug: row.OrganizationSlug, Address: row.Address, UserAgent: row.UserAgent,
			CreatedAt: row.CreatedAt, LastSeenAt: row.LastSeenAt, ExpiresAt: row.ExpiresAt,
		})
	}
	return list, nil
}

// EndSession ends a session of the user. errs.NotFound when there is none.
func (s *Store) EndSession(ctx context.Context, actor audit.Actor, userID, id uuid.UUID) error {
	err := s.revoking(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		n, err := q.SessionDelete(ctx, id, userID)
		if err != nil {
			return err
		}
		if n == 0 {
			return errs.E(errs.NotFound, "There is no session %q.", id)
		}
		return audit.Write(ctx, tx, audit.Entry{
			Actor: actor, Action: audit.SignOut, Target: actor.Name, Data: map[string]any{"session_id": id},
		})
	})
	if err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	return nil
}

// UseLink starts a session with a one-time link. errs.Unauthorized when it is unknown, used or has run out.
func (s *Store) UseLink(ctx context.Context, presented string, from Origin) (Session, error) {
	spent := errs.E(errs.Unauthorized, "This link has been used or has run out. Ask for a new one, or sign in with a password.")
	hash, ok := parseSecret(prefixLink, presented)
	if !ok {
		return Session{}, spent
	}
	var session Session
	err := s.inTx(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		id, err := q.SignInLinkUse(ctx, hash[:])
		if errors.Is(err, pgx.ErrNoRows) {
			return spent
		}
		if err != nil {
			return err
		}
		user, err := q.UserByID(ctx, id)
		if err != nil {
			return err
		}
		if user.DisabledAt != nil {
			return spent
		}
		session, err = start(ctx, tx, q, startParams{Person: Person{ID: user.ID, Email: user.Email, Name: user.Name}, From: from, By: "link"})
		return err
	})
	if err != nil {
		return Session{}, fmt.Errorf("signing in by link: %w", err)
	}
	return session, nil
}

// ChangePassword is a change of one's own password.
type ChangePassword struct {
	By      Principal // with a session
	Current string    // may be empty when there is none
	New     string
	From    Origin
}

// ChangePassword sets a new password and ends all other sessions of the person. Wrong present ones count as failed sign-ins.
func (s *Store) ChangePassword(ctx context.Context, actor audit.Actor, c ChangePassword) error {
	if c.By.UserID == nil || c.By.SessionID == nil {
		return errs.E(errs.Forbidden, "This needs the right to manage the account of a person.")
	}
	if err := checkPassword(c.New); err != nil {
		return err
	}
	user, err := s.q.UserByID(ctx, *c.By.UserID)
	if err != nil {
		return fmt.Errorf("looking up a user: %w", err)
	}
	var try attempt
	if user.PasswordHash != nil {
		if try, err = s.checkCurrent(ctx, user.Email, c); err != nil {
			return err
		}
	}
	encoded, err := s.hasher.hash(ctx, c.New)
	if err != nil {
		return err
	}
	err = s.revoking(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		if err := try.forgive(ctx, q); err != nil {
			return err
		}
		if err := q.UserSetPassword(ctx, &encoded, user.ID); err != nil {
			return err
		}
		ended, err := q.SessionDeleteOthers(ctx, user.ID, *c.By.SessionID)
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Entry{
			Actor: actor, Action: audit.PasswordSet, Target: user.Email, Data: map[string]any{"sessions_ended": ended},
		})
	})
	if err != nil {
		return fmt.Errorf("changing a password: %w", err)
	}
	return nil
}

func (s *Store) checkCurrent(ctx context.Context, email string, c ChangePassword) (attempt, error) {
	if c.Current == "" {
		return attempt{}, errs.E(errs.Validation, "The present password is missing.").With("/current_password", "Is missing.")
	}
	_, try, err := s.checkPassword(ctx, email, c.Current, c.From)
	if errs.Is(err, errs.Unauthorized) {
		return attempt{}, errs.E(errs.Validation, "The present password is wrong.").With("/current_password", "Is wrong.")
	}
	return try, err
}
