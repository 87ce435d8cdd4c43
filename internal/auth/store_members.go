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

// Member is a person in an organization.
type Member struct {
	Person
	Role     Role
	JoinedAt time.Time
}

// EnsureUser is a person who must exist on a first start, and a link to sign in.
type EnsureUser struct {
	OrganizationID uuid.UUID
	Email          string
	Name           string // of a new one; empty: the address
	Role           Role   // empty: as it is, and owner for a new member
	ForgetPassword bool   // so that a new one can be set without the present one
}

// EnsureUser makes the person and the membership, where they are missing, and a one-time link that is good for 10 minutes.
// It is meant for who has the database.
func (s *Store) EnsureUser(ctx context.Context, e EnsureUser) (Token, error) {
	email, ok := normalEmail(e.Email)
	if !ok {
		return Token{}, invalidEmail()
	}
	if e.Role != "" && !e.Role.Valid() {
		return Token{}, errs.E(errs.Validation, "There is no role %q; roles are owner, admin, editor and viewer.", e.Role)
	}
	if e.Name == "" {
		e.Name = shortened(email, 200)
	}
	e.Email = email
	link := newSecret(prefixLink)
	err := s.revoking(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		id, err := ensureUser(ctx, tx, q, e)
		if err != nil {
			return err
		}
		if err := q.SignInLinkPrune(ctx, id); err != nil {
			return err
		}
		hash := link.digest()
		if err := q.SignInLinkInsert(ctx, hash[:], id, linkLife.Seconds()); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Entry{Actor: onDatabase(e.OrganizationID), Action: audit.LinkCreate, Target: email})
	})
	if err != nil {
		return Token{}, fmt.Errorf("making the user %q: %w", email, err)
	}
	return link, nil
}

func ensureUser(ctx context.Context, tx pgx.Tx, q *dbsqlc.Queries, e EnsureUser) (uuid.UUID, error) {
	actor := onDatabase(e.OrganizationID)
	made, err := q.UserInsert(ctx, uuid.Must(uuid.NewV7()), e.Email, e.Name, nil)
	if err != nil {
		return uuid.Nil, err
	}
	if made > 0 {
		if err := audit.Write(ctx, tx, audit.Entry{Actor: actor, Action: audit.UserCreate, Target: e.Email}); err != nil {
			return uuid.Nil, err
		}
	}
	user, err := q.UserByEmail(ctx, e.Email)
	if err != nil {
		return uuid.Nil, err
	}
	if e.ForgetPassword && user.PasswordHash != nil {
		if err := q.UserSetPassword(ctx, nil, user.ID); err != nil {
			return uuid.Nil, err
		}
		if err := audit.Write(ctx, tx, audit.Entry{Actor: actor, Action: audit.PasswordSet, Target: e.Email, Data: map[string]any{"forgotten": true}}); err != nil {
			return uuid.Nil, err
		}
	}
	joined := e.Role
	if joined == "" {
		joined = Owner
	}
	n, err := q.MemberInsert(ctx, e.OrganizationID, user.ID, string(joined))
	if err != nil {
		return uuid.Nil, err
	}
	if n > 0 {
		return user.ID, auditMember(ctx, tx, actor, e.Email, "", joined)
	}
	if e.Role != "" {
		_, err = setRole(ctx, tx, q, actor, Owner, user.ID, e.Role)
	}
	return user.ID, err
}

func auditMember(ctx context.Context, tx pgx.Tx, actor audit.Actor, email string, before, after Role) error {
	data := map[string]any{"role": after}
	if before != "" {
		data["before"] = before
	}
	return audit.Write(ctx, tx, audit.Entry{Actor: actor, Action: audit.MemberSet, Target: email, Data: data})
}

// Members returns a page of the organization's members by id, behind the one given (nil for the first).
func (s *Store) Members(ctx context.Context, organizationID uuid.UUID, after *uuid.UUID, limit int) ([]Member, error) {
	rows, err := s.q.MemberList(ctx, organizationID, after, int32(limit))
	if err != nil {
		return nil, fmt.Errorf("listing members: %w", err)
	}
	list := make([]Member, 0, len(rows))
	for _, row := range rows {
		list = append(list, Member{Person: Person{ID: row.UserID, Email: row.Email, Name: row.Name}, Role: Role(row.Role), JoinedAt: row.CreatedAt})
	}
	return list, nil
}

// SetRole gives a member of the actor's organization another role. by is the role of who does it: nobody changes or grants one above
// their own (errs.Forbidden). errs.NotFound for who is no member, errs.Conflict for the last owner.
func (s *Store) SetRole(ctx context.Context, actor audit.Actor, by Role, userID uuid.UUID, role Role) (Member, error) {
	var member Member
	err := s.revoking(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) (err error) {
		member, err = setRole(ctx, tx, q, actor, by, userID, role)
		return err
	})
	if err != nil {
		return Member{}, fmt.Errorf("changing a role: %w", err)
	}
	return member, nil
}

func setRole(ctx context.Context, tx pgx.Tx, q *dbsqlc.Queries, actor audit.Actor, by Role, userID uuid.UUID, role Role) (Member, error) { //nolint:revive // ctx, tx and its queries come on top of four
	member, err := lockMember(ctx, q, actor.OrganizationID, userID)
	if err != nil {
		return Member{}, err
	}
	if !by.Includes(member.Role) || !by.Includes(role) {
		return Member{}, aboveOwn(by)
	}
	if member.Role == role {
		return member, nil
	}
	if err := keepsOwner(ctx, q, actor.OrganizationID, member); err != nil {
		return Member{}, err
	}
	if err := q.MemberSetRole(ctx, string(role), actor.OrganizationID, userID); err != nil {
		return Member{}, err
	}
	before := member.Role
	member.Role = role
	return member, auditMember(ctx, tx, actor, member.Email, before, role)
}

// RemoveMember takes a member out of the actor's organization, with the sessions and tokens in it. The errors are those of SetRole.
func (s *Store) RemoveMember(ctx context.Context, actor audit.Actor, by Role, userID uuid.UUID) error {
	err := s.revoking(ctx, func(tx pgx.Tx, q *dbsqlc.Queries) error {
		member, err := lockMember(ctx, q, actor.OrganizationID, userID)
		if err != nil {
			return err
		}
		if !by.Includes(member.Role) {
			return aboveOwn(by)
		}
		if err := keepsOwner(ctx, q, actor.OrganizationID, member); err != nil {
			return err
		}
		if err := q.SessionDeleteByMember(ctx, actor.OrganizationID, userID); err != nil {
			return err
		}
		if err := q.TokenDeleteByUser(ctx, actor.OrganizationID, &userID); err != nil {
			return err
		}
		if err := q.MemberDelete(ctx, actor.OrganizationID, userID); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Entry{
			Actor: actor, Action: audit.MemberRemove, Target: member.Email, Data: map[string]any{"role": member.Role},
		})
	})
	if err != nil {
		return fmt.Errorf("removing a member: %w", err)
	}
	return nil
}

func aboveOwn(by Role) error {
	return errs.E(errs.Forbidden, "This needs the right to manage roles above your own, which is %s.", by)
}

// lockMember locks the owners of the organization, always first and in one order, and then the member.
func lockMember(ctx context.Context, q *dbsqlc.Queries, organizationID, userID uuid.UUID) (Member, error) {
	if _, err := q.MemberLockOwners(ctx, organizationID); err != nil {
		return Member{}, err
	}
	row, err := q.MemberLock(ctx, organizationID, userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return Member{}, errs.E(errs.NotFound, "There is no member %q.", userID)
	}
	if err != nil {
		return Member{}, err
	}
	return Member{Person: Person{ID: row.UserID, Email: row.Email, Name: row.Name}, Role: Role(row.Role), JoinedAt: row.CreatedAt}, nil
}

// keepsOwner returns errs.Conflict when the member, who is about to lose the role, is the only owner.
func keepsOwner(ctx context.Context, q *dbsqlc.Queries, organizationID uuid.UUID, member Member) error {
	if member.Role != Owner {
		return nil
	}
	owners, err := q.MemberLockOwners(ctx, organizationID)
	if err != nil {
		return err
	}
	if len(owners) < 2 {
		return errs.E(errs.Conflict, "This is the last owner of the organization. Make somebody else owner first.")
	}
	return nil
}
