package auth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"foundry/internal/errs"
)

// Action is something that a principal wants to do in its organization.
type Action string

// The actions.
const (
	WorkflowRead    Action = "workflow.read"
	WorkflowWrite   Action = "workflow.write" // create, change, pause, delete
	VersionPush     Action = "version.push"
	ExecutionRead   Action = "execution.read"
	ExecutionRun    Action = "execution.run" // also rerun
	ExecutionCancel Action = "execution.cancel"
	ApprovalDecide  Action = "approval.decide" // of who may run the workflow; the approval may ask for roles besides (RequireRole)
	SecretManage    Action = "secret.manage"   // list, set, test, delete
	SecretReveal    Action = "secret.reveal"
	TokenManage     Action = "token.manage"  // one's own
	TokenOversee    Action = "token.oversee" // everybody's
	MemberRead      Action = "member.read"
	MemberManage    Action = "member.manage" // roles and invitations
	MemberLeave     Action = "member.leave"  // take oneself out
	AccountManage   Action = "account.manage"
	AuditRead       Action = "audit.read"
	WorkerRead      Action = "worker.read"
	SandboxRead     Action = "sandbox.read"
	SandboxManage   Action = "sandbox.manage" // stop, destroy
)

// Resource is what an action is done to. The zero value is the organization itself, or a workflow without secrets.
type Resource struct {
	OwnerID    *uuid.UUID // of the workflow; nil: nobody, so that only owners of the organization count as its owner
	HasSecrets bool       // of the workflow
}

// access says when one role may do an action to a resource.
type access int

const (
	never access = iota
	always
	ifOwner  // of the workflow
	ifPublic // the workflow has no secrets, or one is its owner: a version decides where secrets go
)

// rule is a line of the policy table. Owners of the organization may do everything.
type rule struct {
	admin, editor, viewer access
	scope                 string // that a token needs; empty: no token may
	right                 string // ends the sentence "This needs the right to …."
}

// rules is the policy table; ok is false for what is no action.
func rules(action Action) (r rule, ok bool) {
	switch action {
	case WorkflowRead:
		return rule{always, always, always, "workflows:read", "see workflows"}, true
	case WorkflowWrite:
		return rule{always, always, never, "workflows:write", "change workflows"}, true
	case VersionPush:
		return rule{ifPublic, ifPublic, never, "workflows:write", "push versions of this workflow"}, true
	case ExecutionRead:
		return rule{always, always, always, "executions:read", "see executions"}, true
	case ExecutionRun:
		return rule{always, always, never, "executions:write", "run workflows"}, true
	case ExecutionCancel:
		return rule{always, always, never, "executions:write", "cancel executions"}, true
	case ApprovalDecide:
		return rule{always, always, never, "executions:write", "decide on approvals"}, true
	case SecretManage:
		return rule{ifOwner, ifOwner, never, "secrets:write", "manage the secrets of this workflow"}, true
	case SecretReveal:
		return rule{ifOwner, ifOwner, never, "secrets:write", "reveal the secrets of this workflow"}, true
	case TokenManage:
		return rule{always, always, always, "tokens:write", "manage API tokens"}, true
	case TokenOversee:
		return rule{always, never, never, "tokens:write", "manage the API tokens of others"}, true
	case MemberRead:
		return rule{always, always, always, "members:read", "see members"}, true
	case MemberManage:
		return rule{always, never, never, "members:write", "manage members"}, true
	case MemberLeave:
		return rule{always, always, always, "members:write", "leave the organization"}, true
	case AccountManage:
		return rule{always, always, always, "", "manage the account of a person; sign in instead of using an API token"}, true
	case AuditRead:
		return rule{always, never, never, "audit:read", "read the audit record"}, true
	case WorkerRead:
		return rule{always, always, always, "machines:read", "see workers"}, true
	case SandboxRead:
		return rule{always, always, always, "machines:read", "see sandboxes"}, true
	case SandboxManage:
		return rule{always, always, never, "machines:write", "stop and destroy sandboxes"}, true
	}
	return rule{}, false
}

// Can reports whether the principal may do the action to the resource, which must be of its organization.
func Can(p Principal, action Action, r Resource) bool {
	rule, ok := rules(action)
	if !ok || !p.scoped(rule.scope) {
		return false
	}
	owns := r.OwnerID != nil && p.UserID != nil && *r.OwnerID == *p.UserID
	switch rule.accessOf(p.Role) {
	case always:
		return true
	case ifOwner:
		return owns
	case ifPublic:
		return owns || !r.HasSecrets
	case never:
	}
	return false
}

// Require returns errs.Forbidden, with a sentence that names the right, unless Can.
func Require(p Principal, action Action, r Resource) error {
	if Can(p, action, r) {
		return nil
	}
	rule, ok := rules(action)
	if !ok {
		return fmt.Errorf("there is no action %q", action)
	}
	return errs.E(errs.Forbidden, "This needs the right to %s.", rule.right)
}

// RequireRole returns errs.Forbidden unless the principal has one of the roles, as its own: a stronger one is none of them. Owners
// may always, and without roles everybody may.
func RequireRole(p Principal, roles []string) error {
	if len(roles) == 0 || p.Role == Owner || slices.Contains(roles, string(p.Role)) {
		return nil
	}
	return errs.E(errs.Forbidden, "This needs the right to decide as %s.", strings.Join(roles, " or "))
}

func (r rule) accessOf(role Role) access {
	switch role {
	case Owner:
		return always
	case Admin:
		return r.admin
	case Editor:
		return r.editor
	case Viewer:
		return r.viewer
	}
	return never
}

// scopeAll is the scope that includes all others.
const scopeAll = "*"

// Scopes returns all that a token may have.
func Scopes() []string {
	return []string{
		scopeAll, "workflows:read", "workflows:write", "executions:read", "executions:write", "secrets:write",
		"tokens:write", "members:read", "members:write", "audit:read", "machines:read", "machines:write",
	}
}

// scoped reports whether a principal's scopes include the one given. A session is not limited by scopes.
func (p Principal) scoped(scope string) bool {
	if p.Kind != KindToken {
		return p.Kind == KindUser
	}
	if scope == "" {
		return false
	}
	area, isRead := strings.CutSuffix(scope, ":read")
	return slices.Contains(p.Scopes, scopeAll) || slices.Contains(p.Scopes, scope) ||
		isRead && slices.Contains(p.Scopes, area+":write")
}
