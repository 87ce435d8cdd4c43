package auth

import "slices"

// Role is what a member of an organization may do. Each includes those after it.
type Role string

// The roles, from the strongest to the weakest.
const (
	Owner  Role = "owner"
	Admin  Role = "admin"
	Editor Role = "editor"
	Viewer Role = "viewer"
)

// Roles returns all roles, the strongest first.
func Roles() []Role { return []Role{Owner, Admin, Editor, Viewer} }

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return slices.Contains(Roles(), r) }

// rank is higher for stronger roles, and 0 for what is no role.
func (r Role) rank() int {
	switch r {
	case Owner:
		return 4
	case Admin:
		return 3
	case Editor:
		return 2
	case Viewer:
		return 1
	}
	return 0
}

// Includes reports whether r may do all that other may. What is no role includes nothing and is included by nothing.
func (r Role) Includes(other Role) bool {
	return other.rank() > 0 && r.rank() >= other.rank()
}

// weaker returns the one of two roles that may do less.
func weaker(a, b Role) Role {
	if a.rank() < b.rank() {
		return a
	}
	return b
}
