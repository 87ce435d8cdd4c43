package expr

import (
	"fmt"
	"slices"
	"strings"

	"foundry/internal/spelling"
)

// Scope says what a place of the text allows in its expressions.
type Scope struct {
	Contexts []string // names in lower case
	Status   bool     // success(), failure(), always() and canceled()
}

// ContextNames lists all contexts that the language knows.
func ContextNames() []string {
	return []string{"inputs", "nodes", "matrix", "repeat", "env", "execution"}
}

// Reference is an access to a context that is known before evaluation.
type Reference struct {
	Context string   // name in lower case
	Path    []string // what follows, up to the first part that is computed, or "*" for a filter
	Pos     int      // of the context's name
	PathPos []int    // of each part of Path
}

// Check reports everything in e that the scope does not allow.
func (e *Expr) Check(scope Scope) []*Error {
	var faults []*Error
	walk(e.root, func(n node) {
		switch n := n.(type) {
		case *contextRef:
			if err := checkContext(n, scope); err != nil {
				faults = append(faults, err)
			}
		case *call:
			if n.fn.status && !scope.Status {
				faults = append(faults, &Error{
					Code: StatusElsewhere, Pos: n.pos,
					Msg: fmt.Sprintf("%s() can be asked in `if` only.", n.fn.name),
				})
			}
		}
	})
	return faults
}

func checkContext(n *contextRef, scope Scope) *Error {
	name := strings.ToLower(n.name)
	if slices.Contains(scope.Contexts, name) {
		return nil
	}
	here := "There is none here."
	if len(scope.Contexts) > 0 {
		here = "Here there are: " + strings.Join(scope.Contexts, ", ") + "."
	}
	if slices.Contains(ContextNames(), name) {
		return &Error{Code: ContextElsewhere, Pos: n.pos, Msg: fmt.Sprintf("The context %q cannot be used here.", n.name), Hint: here}
	}
	err := &Error{Code: UnknownContext, Pos: n.pos, Msg: fmt.Sprintf("Unknown context %q.", n.name), Hint: contextHint(name)}
	if near := spelling.Nearest(n.name, scope.Contexts); err.Hint == "" && near != "" {
		err.Hint = fmt.Sprintf("Did you mean %q?", near)
	}
	if err.Hint == "" {
		err.Hint = here
	}
	return err
}

// contextHint translates the contexts of GitHub Actions.
func contextHint(name string) string {
	switch name {
	case "needs", "steps", "jobs":
		return "Outputs of other nodes are nodes.KEY.outputs.NAME."
	case "secrets":
		return "Secrets are environment variables of the commands; expressions never see them."
	case "github":
		return "What is known about the execution is in the context execution."
	}
	return ""
}

// References lists the accesses to contexts, in text order.
func (e *Expr) References() []Reference {
	var refs []Reference
	within := make(map[node]bool) // parts of an access that is listed already
	walk(e.root, func(n node) {
		if within[n] {
			return
		}
		if ref, ok := reference(n, within); ok {
			refs = append(refs, ref)
		}
	})
	slices.SortStableFunc(refs, func(a, b Reference) int { return a.Pos - b.Pos })
	return refs
}

// reference reads the chain of accesses that ends in n down to its context.
func reference(n node, within map[node]bool) (Reference, bool) {
	var ref Reference
	for {
		switch at := n.(type) {
		case *contextRef:
			ref.Context, ref.Pos = strings.ToLower(at.name), at.pos
			slices.Reverse(ref.Path)
			slices.Reverse(ref.PathPos)
			return ref, true
		case *filter:
			ref.Path, ref.PathPos = append(ref.Path, "*"), append(ref.PathPos, at.pos)
			within[at.of] = true
			n = at.of
		case *index:
			if key, ok := at.key.(*literal); ok {
				ref.Path, ref.PathPos = append(ref.Path, toString(key.value)), append(ref.PathPos, key.pos)
			} else {
				ref.Path, ref.PathPos = nil, nil
			}
			within[at.of] = true
			n = at.of
		default:
			return Reference{}, false
		}
	}
}

// walk visits n and everything below it, each part before its own parts.
func walk(n node, visit func(node)) {
	visit(n)
	switch n := n.(type) {
	case *index:
		walk(n.of, visit)
		walk(n.key, visit)
	case *filter:
		walk(n.of, visit)
	case *not:
		walk(n.of, visit)
	case *binary:
		walk(n.left, visit)
		walk(n.right, visit)
	case *call:
		for _, arg := range n.args {
			walk(arg, visit)
		}
	}
}

// Check reports everything in the template's expressions that the scope does not allow.
func (t *Template) Check(scope Scope) []*Error {
	var faults []*Error
	for _, e := range t.exprs() {
		faults = append(faults, e.Check(scope)...)
	}
	return faults
}

// References lists the accesses to contexts in the template, in text order.
func (t *Template) References() []Reference {
	var refs []Reference
	for _, e := range t.exprs() {
		refs = append(refs, e.References()...)
	}
	return refs
}

func (t *Template) exprs() []*Expr {
	var list []*Expr
	for _, p := range t.parts {
		if p.expr != nil {
			list = append(list, p.expr)
		}
	}
	return list
}
