package check

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"foundry/chaos/plan"
)

// rule looks for one kind of violation; say reports one.
type rule struct {
	name string
	look func(e *Evidence, say func(format string, args ...any))
}

func rules() []rule {
	return []rule{
		{"lost", lost},
		{"rest", rest},
		{"repeated", repeated},
		{"late", late},
		{"attempts", attempts},
		{"parallel", parallel},
		{"hasty", hasty},
		{"ends", ends},
		{"verdict", verdict},
		{"values", values},
		{"output", output},
		{"offsets", offsets},
		{"artifacts", artifacts},
		{"checkpoints", checkpoints},
		{"restored", restored},
		{"secrets", secrets},
		{"audit", audit},
		{"cancel", cancel},
		{"decisions", decisions},
		{"claims", claims},
		{"groups", groups},
		{"children", children},
		{"sandboxes", sandboxes},
		{"leftovers", leftovers},
		{"misplaced", misplaced},
	}
}

// Rules are the names of all rules.
func Rules() []string {
	var names []string
	for _, r := range rules() {
		names = append(names, r.name)
	}
	return names
}

// Violations applies all rules. Beside them, pgtest.Violations looks at places and sequences.
func Violations(e *Evidence) []Violation {
	var found []Violation
	for _, r := range rules() {
		r.look(e, func(format string, args ...any) {
			found = append(found, Violation{Rule: r.name, Text: fmt.Sprintf(format, args...)})
		})
	}
	return found
}

// lost: what was promised is there, of the workflow that was asked for.
func lost(e *Evidence, say func(string, ...any)) {
	seen := map[uuid.UUID]bool{}
	for _, a := range e.Accepted {
		x := e.World.Executions[a.ID]
		switch {
		case x == nil:
			say("execution %s was accepted and does not exist", a.ID)
		case x.Workflow != a.Workflow:
			say("execution %s is of %s, not of %s", a.ID, x.Workflow, a.Workflow)
		case seen[a.ID]:
			say("execution %s was promised to two requests", a.ID)
		case a.Child != (x.Parent != nil):
			say("execution %s was promised to a request: %v, and is run by the node of another: %v", a.ID, !a.Child, x.Parent != nil)
		}
		seen[a.ID] = true
	}
	for id, x := range e.World.Executions {
		if !seen[id] && x.Parent == nil {
			say("execution %s exists and no request was promised one", id)
		}
	}
}

// rest: everything has ended, and nothing is left where work waits.
func rest(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		if x.FinishedAt == nil {
			say("execution %s is %s", x.ID, x.Status)
			continue
		}
		for _, n := range x.NodeRuns {
			if n.FinishedAt == nil {
				say("execution %s has ended and node %s, attempt %d, is %s", x.ID, n.Key, n.Attempt, n.Status)
			}
		}
	}
	for _, id := range e.World.Queued {
		say("execution %s is still in the queue, among the timers or in a group", id)
	}
}

// cancel: what was answered with success has come true, and nothing was canceled that nobody has asked to.
func cancel(e *Evidence, say func(string, ...any)) {
	asked := map[uuid.UUID]bool{}
	for _, a := range e.Accepted {
		asked[a.ID] = a.Asked || a.Canceled
		if x := e.World.Executions[a.ID]; a.Canceled && x != nil && x.Status != "canceled" {
			say("the cancel of execution %s was accepted, and it is %s", a.ID, x.Status)
		}
	}
	for _, x := range e.World.Executions {
		switch {
		case x.Status == "canceled" && !x.Canceled:
			say("execution %s is canceled without a request", x.ID)
		case x.Canceled && !asked[x.ID] && !e.replaced(x) && !e.unwanted(x):
			say("execution %s was requested to end by nobody", x.ID)
		}
	}
}

// replaced reports whether an execution may have been canceled for a later one of its group.
func (e *Evidence) replaced(x *Execution) bool {
	for _, other := range e.World.Executions {
		w := e.Workflows[other.Workflow]
		if x.Group != "" && other.Group == x.Group && w != nil && w.Group != nil && w.Group.Conflict == plan.Replace && other.later(x) {
			return true
		}
	}
	return false
}

// later reports whether an execution was queued after another, by the clock of the database. Ids are made before that by many processes, any of which may
// take its time.
func (x *Execution) later(other *Execution) bool {
	return cmp.Or(x.QueuedAt.Compare(other.QueuedAt), strings.Compare(x.ID.String(), other.ID.String())) > 0
}

// groups: executions are in the group that their workflow names, and no group was ever fuller than its limit.
func groups(e *Evidence, say func(string, ...any)) {
	limits := map[string]int{}
	for _, x := range e.World.Executions {
		w, name := e.Workflows[x.Workflow], ""
		if w != nil && w.Group != nil {
			name = w.Group.Name
			limits[name] = w.Group.Limit
		}
		if w != nil && x.Group != name {
			say("execution %s is in the group %q, not in %q", x.ID, x.Group, name)
		}
	}
	for _, crowd := range e.World.Crowds {
		if limit, ok := limits[crowd.Group]; ok && crowd.Most > limit {
			say("%d executions were in the group %s at one time, which has room for %d", crowd.Most, crowd.Group, limit)
		}
	}
}

// claims: the right rises with every claim.
func claims(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		last := int64(0)
		for _, event := range x.Events {
			if event.Type != "execution.claimed" {
				continue
			}
			claim := field[int64](event.Data, "claim")
			if claim <= last || claim > x.Claim {
				say("execution %s was claimed with %d after %d, and has %d", x.ID, claim, last, x.Claim)
			}
			last = claim
		}
	}
}

// sandboxes: rows have come to an end or are kept, and nothing is there that has no such row.
func sandboxes(e *Evidence, say func(string, ...any)) {
	kept := map[string]bool{}
	for _, s := range e.World.Sandboxes {
		switch s.State {
		case "destroyed", "failed":
		case "kept":
			kept[s.ProviderID] = true
		default:
			say("sandbox %s of execution %s is %s", s.ID, s.ExecutionID, s.State)
		}
	}
	for _, id := range e.Sandboxes {
		if !kept[id] {
			say("the provider still has the sandbox %s", id)
		}
		delete(kept, id)
	}
	for id := range kept {
		say("the provider does not have the kept sandbox %s", id)
	}
}

// leftovers: no process is left.
func leftovers(e *Evidence, say func(string, ...any)) {
	for _, p := range e.Processes {
		say("there still is the process %s", p)
	}
}

// misplaced: nothing had to be put back into a place.
func misplaced(e *Evidence, say func(string, ...any)) {
	if e.Misplaced != 0 {
		say("%g executions had lost their place", e.Misplaced)
	}
}
