// Package audit records who did what: append-only rows, written in the transaction of what they record.
package audit

import (
	"time"

	"github.com/google/uuid"
)

// Kind is what an actor is.
type Kind string

// The kinds of actors.
const (
	User   Kind = "user"
	Token  Kind = "token"
	Worker Kind = "worker"
	System Kind = "system" // the control plane, or somebody on the database itself
)

// Actor is who did something, and from where.
type Actor struct {
	OrganizationID uuid.UUID
	Kind           Kind
	ID             *uuid.UUID
	Name           string
	Address        string // of the network; empty when there is none
	RequestID      string
}

// Action names what was done. It is part of the public API.
type Action string

// The actions.
const (
	SecretSet        Action = "secret.set"
	SecretReveal     Action = "secret.reveal"
	SecretDelete     Action = "secret.delete"
	SecretRead       Action = "secret.read" // by a worker, for an execution
	TokenCreate      Action = "token.create"
	TokenDelete      Action = "token.delete"
	SignIn           Action = "session.create"
	SignInFailed     Action = "session.refused"
	SignOut          Action = "session.delete"
	UserCreate       Action = "user.create"
	MemberSet        Action = "member.set"
	MemberRemove     Action = "member.remove"
	InvitationCreate Action = "invitation.create"
	InvitationAccept Action = "invitation.accept"
	InvitationDelete Action = "invitation.delete"
	LinkCreate       Action = "sign_in_link.create"
	PasswordSet      Action = "user.password"
	WorkflowCreate   Action = "workflow.create"
	WorkflowUpdate   Action = "workflow.update"
	WorkflowDelete   Action = "workflow.delete"
	VersionCreate    Action = "version.create"
	ExecutionCancel  Action = "execution.cancel"
	ApprovalDecide   Action = "approval.decide"
	SandboxStop      Action = "sandbox.stop"
	SandboxDestroy   Action = "sandbox.destroy"
)

// Entry is what is to be recorded. Data must be free of secrets.
type Entry struct {
	Actor       Actor
	Action      Action
	WorkflowID  *uuid.UUID
	ExecutionID *uuid.UUID
	Target      string
	Data        map[string]any
}

// Record is an entry as it was written.
type Record struct {
	ID   uuid.UUID
	Time time.Time
	Entry
	Raw []byte // Data as JSON
}
