package auth

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/errs"
)

// policy says who may do what, in words: O, A, E and V are the roles; o in place of a capital means only who owns the workflow; a
// second word is the same for a workflow with secrets.
var policy = []struct { //nolint:gochecknoglobals // the table of two tests
	action  Action
	plain   string
	secrets string
	scope   string
}{
	{WorkflowRead, "O A E V", "O A E V", "workflows:read"},
	{WorkflowWrite, "O A E", "O A E", "workflows:write"},
	{VersionPush, "O A E", "O Aown Eown", "workflows:write"},
	{ExecutionRead, "O A E V", "O A E V", "executions:read"},
	{ExecutionRun, "O A E", "O A E", "executions:write"},
	{ExecutionCancel, "O A E", "O A E", "executions:write"},
	{ApprovalDecide, "O A E", "O A E", "executions:write"},
	{SecretManage, "O Aown Eown", "O Aown Eown", "secrets:write"},
	{SecretReveal, "O Aown Eown", "O Aown Eown", "secrets:write"},
	{TokenManage, "O A E V", "O A E V", "tokens:write"},
	{TokenOversee, "O A", "O A", "tokens:write"},
	{MemberRead, "O A E V", "O A E V", "members:read"},
	{MemberManage, "O A", "O A", "members:write"},
	{MemberLeave, "O A E V", "O A E V", "members:write"},
	{AccountManage, "O A E V", "O A E V", ""},
	{AuditRead, "O A", "O A", "audit:read"},
	{WorkerRead, "O A E V", "O A E V", "machines:read"},
	{SandboxRead, "O A E V", "O A E V", "machines:read"},
	{SandboxManage, "O A E", "O A E", "machines:write"},
}

// may reads a cell of the table.
func may(cell string, role Role, owns bool) bool {
	letter := strings.ToUpper(string(role[:1]))
	words := strings.Fields(cell)
	return slices.Contains(words, letter) || owns && slices.Contains(words, letter+"own")
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	me, other := uuid.New(), uuid.New()
	for _, line := range policy {
		for _, role := range Roles() {
			for _, owner := range []*uuid.UUID{nil, &me, &other} {
				for _, hasSecrets := range []bool{false, true} {
					cell := line.plain
					if hasSecrets {
						cell = line.secrets
					}
					want := may(cell, role, owner == &me)
					resource := Resource{OwnerID: owner, HasSecrets: hasSecrets}
					name := fmt.Sprintf("%s by %s, owner %v, secrets %v", line.action, role, owner == &me, hasSecrets)

					person := Principal{Kind: KindUser, UserID: &me, Role: role}
					if got := Can(person, line.action, resource); got != want {
						t.Errorf("%s: %v, want %v", name, got, want)
					}
					token := Principal{Kind: KindToken, UserID: &me, TokenID: &other, Role: role}
					for _, scope := range append(Scopes(), "", "none:read") {
						token.Scopes = []string{scope}
						if got, want := Can(token, line.action, resource), want && opens(scope, line.scope); got != want {
							t.Errorf("%s, scope %q: %v, want %v", name, scope, got, want)
						}
					}
				}
			}
		}
	}
}

// opens reports whether a scope is the one needed, its write form, or all.
func opens(scope, need string) bool {
	return need != "" && (scope == "*" || scope == need || scope == strings.TrimSuffix(need, ":read")+":write")
}

func TestPolicyRefusesNobodyAndNothing(t *testing.T) {
	t.Parallel()
	for _, p := range []Principal{{}, {Role: Owner}, {Kind: KindUser}, {Kind: KindUser, Role: "root"}, {Kind: KindToken, Role: Owner}, {Kind: "worker", Role: Owner, Scopes: []string{"*"}}} {
		for _, line := range policy {
			if Can(p, line.action, Resource{}) {
				t.Errorf("%+v may %s", p, line.action)
			}
		}
	}
	owner := Principal{Kind: KindUser, Role: Owner}
	if Can(owner, "organization.burn", Resource{}) {
		t.Error("an action that is not in the table is allowed")
	}
	// Neither a workflow without an owner nor a token without a user makes them match.
	editor := Principal{Kind: KindToken, Role: Editor, Scopes: []string{"*"}}
	if Can(editor, SecretReveal, Resource{}) {
		t.Error("nobody owns what nobody owns")
	}
}

func TestRequireNamesTheRight(t *testing.T) {
	t.Parallel()
	viewer := Principal{Kind: KindUser, Role: Viewer}
	for _, line := range policy {
		err := Require(viewer, line.action, Resource{})
		if Can(viewer, line.action, Resource{}) {
			if err != nil {
				t.Errorf("%s: %v", line.action, err)
			}
			continue
		}
		if !errs.Is(err, errs.Forbidden) || !strings.HasPrefix(err.Error(), "This needs the right to ") || !strings.HasSuffix(err.Error(), ".") {
			t.Errorf("%s: %v", line.action, err)
		}
	}
}

func TestRequireRole(t *testing.T) {
	t.Parallel()
	for roles, may := range map[string][]Role{
		"": Roles(), "owner": {Owner}, "admin": {Owner, Admin}, "editor": {Owner, Editor}, "editor admin": {Owner, Admin, Editor}, "viewer": {Owner, Viewer}, "root": {Owner},
	} {
		for _, role := range append(Roles(), "", "root ") {
			err := RequireRole(Principal{Kind: KindUser, Role: role}, strings.Fields(roles))
			if slices.Contains(may, role) != (err == nil) && roles != "" {
				t.Errorf("%q as %q: %v", roles, role, err)
			}
			if roles == "" && err != nil {
				t.Errorf("without roles as %q: %v", role, err)
			}
		}
	}
	err := RequireRole(Principal{Kind: KindUser, Role: Viewer}, []string{"admin", "editor"})
	if !errs.Is(err, errs.Forbidden) || err.Error() != "This needs the right to decide as admin or editor." {
		t.Errorf("got %v", err)
	}
}

func TestScopesAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	for _, line := range policy {
		if line.scope != "" && !slices.Contains(Scopes(), line.scope) {
			t.Errorf("%s needs %s, which no token can have", line.action, line.scope)
		}
	}
	for _, scope := range Scopes()[1:] {
		opens := func(action Action) bool {
			return Can(Principal{Kind: KindToken, Role: Owner, Scopes: []string{scope}}, action, Resource{})
		}
		if !slices.ContainsFunc(policy, func(line struct {
			action  Action
			plain   string
			secrets string
			scope   string
		},
		) bool {
			return opens(line.action)
		}) {
			t.Errorf("scope %s opens nothing", scope)
		}
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	all := Roles()
	for i, a := range all {
		for j, b := range all {
			if got := a.Includes(b); got != (i <= j) {
				t.Errorf("%s includes %s: %v", a, b, got)
			}
			if want := all[max(i, j)]; weaker(a, b) != want {
				t.Errorf("the weaker of %s and %s is %s", a, b, weaker(a, b))
			}
		}
		if !a.Valid() || a.Includes("root") || Role("root").Includes(a) {
			t.Errorf("%s and what is no role", a)
		}
	}
	if Role("").Valid() || Role("").Includes("") {
		t.Error("nothing is a role")
	}
}
