package auth

import "github.com/google/uuid"

// Kind is what a principal signed in with.
type Kind string

// The kinds of principals.
const (
	KindUser  Kind = "user"  // a person, by a session
	KindToken Kind = "token" // a program, by an API token
)

// Principal is who a request acts for, always in one organization.
type Principal struct {
	Kind             Kind
	OrganizationID   uuid.UUID
	OrganizationSlug string
	OrganizationName string
	UserID           *uuid.UUID // nil for a token that no user made
	TokenID          *uuid.UUID // nil for a session
	SessionID        *uuid.UUID // nil for a token
	Name             string     // of the user or of the token
	Email            string     // of the user; empty for a token
	Role             Role       // of the member now; for a token, never above that of its user
	Scopes           []string   // of a token; a session has none and is not limited
}

// ID identifies the principal among all users and tokens. It is uuid.Nil for nobody.
func (p Principal) ID() uuid.UUID {
	switch {
	case p.TokenID != nil:
		return *p.TokenID
	case p.UserID != nil:
		return *p.UserID
	}
	return uuid.Nil
}
