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

const invitationLife = 7 * 24 * time.Hour

// Invitation is one that is open.
type Invitation struct {
	ID        uuid.UUID
	Email     string
	Role      Role
	InvitedBy *string // address of the person; nil: a token without one
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Invite makes an invitation to the principal's organization, in place of any other for the address. The token goes into its
// link; nobody can read it again. errs.Conflict for who is a member already, errs.Forbidden for a role above one's own.
func (s *Store) Invite(ctx context.Context, actor audit.Actor, by Principal, email string, role Role) (Invitation, Token, error) {
	normal, ok := normalEmail(email)
	if !ok {
		return Invitation{}, Token{}, invalidEmail()
	}
	if !by.Role.Includes(role) {
		return Invitation{}, Token{}, aboveOwn(by.Role)
	}
	token := newSecret(prefixInvitation)
	hash := token.digest()
	invitation := Invitation{ID: uuid.Must(uuid.NewV7()), Email: normal, Role: role}
	if by.Email != "" {
		invitation.InvitedBy = &by.Email
	}
	err := s.inTx(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		if err := refuseMember(ctx, q, by.OrganizationID, normal); err != nil {
			return err
		}
		if err := q.InvitationDeleteByEmail(ctx, by.OrganizationID, normal); err != nil {
			return err
		}
		row, err := q.InvitationInsert(ctx, dbsqlc.InvitationInsertParams{
			ID: invitation.ID, OrganizationID: by.OrganizationID, Email: normal, Role: string(role), TokenHash: hash[:],
			InvitedBy: by.UserID, LastsSeconds: invitationLife.Seconds(),
		})
		if err != nil {
			return err
		}
		invitation.CreatedAt, invitation.ExpiresAt = row.CreatedAt, row.ExpiresAt
		return audit.Write(ctx, tx, audit.Entry{
			Actor: actor, Action: audit.InvitationCreate, Target: normal, Data: map[string]any{"role": role, "invitation_id": invitation.ID},
		})
	})
	if err != nil {
		return Invitation{}, Token{}, fmt.Errorf("inviting: %w", err)
	}
	return invitation, token, nil
}

func refuseMember(ctx context.Context, q *dbsqlc.Queries, organizationID uuid.UUID, email string) error {
	user, err := q.UserByEmail(ctx, email)
	if err == nil {
		_, err = q.MemberLock(ctx, organizationID, user.ID)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return alreadyMember(email)
}

func alreadyMember(email string) error {
	return errs.E(errs.Conflict, "%s is already a member of the organization.", email)
}

// Invitations returns a page of the organization's open invitations, newest first, before the id given (nil for the first).
func (s *Store) Invitations(ctx context.Context, organizationID uuid.UUID, before *uuid.UUID, limit int) ([]Invitation, error) {
	rows, err := s.q.InvitationList(ctx, organizationID, before, int32(limit))
	if err != nil {
		return nil, fmt.Errorf("listing invitations: %w", err)
	}
	list := make([]Invitation, 0, len(rows))
	for _, row := range rows {
		list = append(list, Invitation{
			ID: row.ID, Email: row.Email, Role: Role(row.Role), InvitedBy: row.InvitedBy, CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt,
		})
	}
	return list, nil
}

// Withdraw deletes an open invitation of the actor's organization. errs.NotFound when there is none.
func (s *Store) Withdraw(ctx context.Context, actor audit.Actor, id uuid.UUID) error {
	err := s.inTx(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		email, err := q.InvitationDelete(ctx, actor.OrganizationID, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return errs.E(errs.NotFound, "There is no invitation %q.", id)
		}
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Entry{
			Actor: actor, Action: audit.InvitationDelete, Target: email, Data: map[string]any{"invitation_id": id},
		})
	})
	if err != nil {
		return fmt.Errorf("withdrawing an invitation: %w", err)
	}
	return nil
}

// Acceptance is the answer to an invitation.
type Acceptance struct {
	Token    string // of the link
	Name     string // of a new person
	Password string // a new one, or that of the account which has the address already
	From     Origin
}

// Accept makes the invited person a member and starts a session. errs.NotFound when the invitation is unknown, used or has run out;
// errs.Unauthorized when the address has an account with another password: who has the link need not be who has the account.
func (s *Store) Accept(ctx context.Context, a Acceptance) (Session, error) {
	spent := errs.E(errs.NotFound, "This invitation has been used, withdrawn or has run out. Ask for a new one.")
	hash, ok := parseSecret(prefixInvitation, a.Token)
	if !ok {
		return Session{}, spent
	}
	invitation, err := s.q.InvitationByHash(ctx, hash[:])
	if errors.Is(err, pgx.ErrNoRows) {
		return Session{}, spent
	}
	if err != nil {
		return Session{}, fmt.Errorf("looking up an invitation: %w", err)
	}
	j, err := s.prepareJoin(ctx, invitation.Email, a)
	if err != nil {
		return Session{}, err
	}
	var session Session
	err = s.inTx(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		n, err := q.InvitationAccept(ctx, invitation.ID)
		if err != nil {
			return err
		}
		if n == 0 {
			return spent
		}
		session, err = j.join(ctx, tx, q, invitation, a.From)
		return err
	})
	if err != nil {
		return Session{}, fmt.Errorf("accepting an invitation: %w", err)
	}
	return session, nil
}

// joining is a person who has been let in and is about to become a member.
type joining struct {
	person  Person
	encoded *string // hash of the password of a new person; nil: exists
	try     attempt
}

func (s *Store) prepareJoin(ctx context.Context, email string, a Acceptance) (joining, error) {
	_, err := s.q.UserByEmail(ctx, email)
	if err == nil {
		person, try, err := s.checkPassword(ctx, email, a.Password, a.From)
		if errs.Is(err, errs.Unauthorized) {
			err = errs.E(errs.Unauthorized, "This address has an account with another password. Give that one.")
		}
		return joining{person: person, try: try}, err
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return joining{}, fmt.Errorf("looking up a user: %w", err)
	}
	if n := len([]rune(a.Name)); n < 1 || n > 200 {
		return joining{}, errs.E(errs.Validation, "A new account needs a name.").With("/name", "Must have 1 to 200 characters.")
	}
	if err := checkPassword(a.Password); err != nil {
		return joining{}, err
	}
	encoded, err := s.hasher.hash(ctx, a.Password)
	if err != nil {
		return joining{}, err
	}
	return joining{person: Person{ID: uuid.Must(uuid.NewV7()), Email: email, Name: a.Name}, encoded: &encoded}, nil
}

func (j joining) join(ctx context.Context, tx pgx.Tx, q *dbsqlc.Queries, to dbsqlc.InvitationByHashRow, from Origin) (Session, error) {
	actor := asPerson(to.OrganizationID, j.person, from)
	if j.encoded != nil {
		n, err := q.UserInsert(ctx, j.person.ID, j.person.Email, j.person.Name, j.encoded)
		if err != nil {
			return Session{}, err
		}
		if n == 0 {
			return Session{}, errs.E(errs.Conflict, "An account with this address has just been made. Try again with its password.")
		}
		if err := audit.Write(ctx, tx, audit.Entry{Actor: actor, Action: audit.UserCreate, Target: j.person.Email}); err != nil {
			return Session{}, err
		}
	} else if err := j.try.forgive(ctx, q); err != nil {
		return Session{}, err
	}
	n, err := q.MemberInsert(ctx, to.OrganizationID, j.person.ID, to.Role)
	if err != nil {
		return Session{}, err
	}
	if n == 0 {
		return Session{}, alreadyMember(j.person.Email)
	}
	err = audit.Write(ctx, tx, audit.Entry{
		Actor: actor, Action: audit.InvitationAccept, Target: j.person.Email, Data: map[string]any{"role": to.Role, "invitation_id": to.ID},
	})
	if err != nil {
		return Session{}, err
	}
	return start(ctx, tx, q, startParams{Person: j.person, Organization: to.Slug, From: from, By: "invitation"})
}
