package workflow

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"foundry/internal/errs"
	"foundry/internal/expr"
)

// Limits of a concurrency group.
const (
	MaxGroup      = 256 // characters of its name
	MaxGroupLimit = 1000
)

// OnConflict is what becomes of an execution whose group has no room for it.
type OnConflict string

// The values of on-conflict.
const (
	ConflictQueue         OnConflict = "queue"          // it waits for its turn
	ConflictCancelRunning OnConflict = "cancel-running" // it waits, and what was queued before it and has the room is canceled
	ConflictReject        OnConflict = "reject"         // it is refused
)

// Concurrency says how many executions of a group may have begun and not ended.
type Concurrency struct {
	Group      *expr.Template // may use inputs, and of execution what GroupFacts has
	Limit      int            // 1 to MaxGroupLimit
	OnConflict OnConflict
}

// Group is the concurrency group that one execution enters, which its organization's workflows share.
type Group struct {
	Name       string // 1 to MaxGroup characters, storable
	Limit      int
	OnConflict OnConflict
}

// GroupFacts are what is known of an execution before it is queued.
type GroupFacts struct {
	Source   string
	Version  int
	Workflow string // the slug
}

// groupFacts are the names of GroupFacts in an expression.
func groupFacts() []string { return []string{"source", "version", "workflow"} }

// EnterGroup returns the group of an execution with these inputs, as ValidateInputs returns them; nil without one. A name that is empty or
// too long, or that cannot be evaluated, is errs.Validation.
func (d *Definition) EnterGroup(inputs map[string]any, facts GroupFacts) (*Group, error) {
	if d.Concurrency == nil {
		return nil, nil //nolint:nilnil // no group is not an error
	}
	name, err := d.Concurrency.Group.EvalString(expr.Env{Contexts: map[string]expr.Value{
		"inputs":    inputs,
		"execution": map[string]any{"source": facts.Source, "version": float64(facts.Version), "workflow": facts.Workflow},
	}})
	if err != nil {
		return nil, errs.E(errs.Validation, "The name of the concurrency group cannot be evaluated: %s.", strings.TrimSuffix(errs.MessageOf(err, err.Error()), ".")).Because(err)
	}
	name = strings.ReplaceAll(strings.ToValidUTF8(name, "\uFFFD"), "\x00", "\uFFFD")
	if _, problem := groupProblem(name); problem != "" {
		return nil, errs.E(errs.Validation, "%s", problem)
	}
	return &Group{Name: name, Limit: d.Concurrency.Limit, OnConflict: d.Concurrency.OnConflict}, nil
}

// groupProblem is the code of a diagnostic and a sentence about a name that no group can have, or nothing.
func groupProblem(name string) (code, problem string) {
	if strings.TrimSpace(name) == "" {
		return "bad_value", "The name of the concurrency group is empty."
	}
	if n := utf8.RuneCountInString(name); n > MaxGroup {
		return "too_large", fmt.Sprintf("The name of a concurrency group has at most %d characters; this one has %d.", MaxGroup, n)
	}
	return "", ""
}

func (c *compiler) concurrencyFields(g *Concurrency) []field {
	return []field{
		{"group", func(v *value) { g.Group = c.groupName(v) }},
		{"limit", func(v *value) { g.Limit = c.integer(v, 1, MaxGroupLimit, 1) }},
		{"on-conflict", func(v *value) {
			g.OnConflict = OnConflict(c.word(v, string(ConflictQueue), string(ConflictCancelRunning), string(ConflictReject)))
		}},
	}
}

// concurrency reads a name alone, or a mapping.
func (c *compiler) concurrency(v *value) *Concurrency {
	g := &Concurrency{Limit: 1, OnConflict: ConflictQueue}
	switch v.shape {
	case shapeString:
		g.Group = c.groupName(v)
	case shapeMap:
		c.object(v, c.concurrencyFields(g))
		c.require(v, "group")
	case shapeNull, shapeBool, shapeNumber, shapeList:
		c.fault(v.mark, v.path, "bad_type", fmt.Sprintf("Expected the name of a group or a mapping, found %s.", v.shape),
			`Write concurrency: "name", or concurrency: { group: "name", limit: 2 }.`)
	case shapeInvalid:
	}
	return g
}

// groupName reads a name. One with an expression is looked at when an execution is queued.
func (c *compiler) groupName(v *value) *expr.Template {
	if !c.shaped(v, shapeString) {
		return nil
	}
	if code, problem := groupProblem(v.text); problem != "" && !strings.Contains(v.text, "${{") {
		c.fault(v.mark, v.path, code, problem, "")
		return nil
	}
	return c.template(v, placeGroup, -1)
}

// groupFact checks what a group's name asks of its execution.
func (k *checker) groupFact(s site, ref expr.Reference) {
	if name := strings.ToLower(ref.Path[0]); slices.Contains([]string{"id", "number"}, name) {
		k.fault(k.place(s, ref, 0), s.v.path, "not_known_yet", fmt.Sprintf("An execution has no %s before it is queued, and its group is decided before.", name),
			"No two executions would share the group; leave the key out.")
		return
	}
	k.find(newNames(groupFacts(), func(name string) string { return name }), s, ref, 0, "unknown_property",
		fmt.Sprintf("Before it is queued, an execution has a workflow, a version and a source, but no %q.", ref.Path[0]))
}
