package queue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/graph"
	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/workflow"
)

// nodeEnd is how a node of an earlier execution has ended. The zero value is that of a node which never began.
type nodeEnd struct {
	runs      []uuid.UUID // the last of each index
	done      []uuid.UUID // those of them that have completed
	completed bool        // all of them
	skipped   bool        // all of them
}

// endsOf collects how nodes have ended, by key.
func endsOf(runs []dbsqlc.RerunNodeRunListRow) map[string]nodeEnd {
	ends := map[string]nodeEnd{}
	for _, run := range runs {
		end, seen := ends[run.NodeKey]
		status := execution.NodeStatus(run.Status)
		if status == execution.NodeCompleted {
			end.done = append(end.done, run.ID)
		}
		ends[run.NodeKey] = nodeEnd{
			runs:      append(end.runs, run.ID),
			done:      end.done,
			completed: status == execution.NodeCompleted && (end.completed || !seen),
			skipped:   status == execution.NodeSkipped && (end.skipped || !seen),
		}
	}
	return ends
}

// chooseNodes divides the nodes into those that are reused and those that run. What runs is the chosen node, every node that did not
// complete, a matrix that the version writes otherwise, and all that needs one of them, so that what is reused rests on nothing that
// runs. A skipped node is decided on anew; it takes none with it, since it is skipped again unless something that it needs runs.
func (p *RerunPlan) chooseNodes(old *workflow.Definition, ends map[string]nodeEnd) error {
	if p.From != FromFailed {
		if _, ok := p.text.Node(p.From); !ok {
			return refusedFrom(fmt.Sprintf("Version %d has no node %q.", p.Version, p.From))
		}
	}
	before := p.runs(old.Graph, func(key string) bool {
		return !ends[key].completed && !ends[key].skipped || ends[key].completed && p.hasOtherMatrix(old, key)
	})
	kept := map[string]bool{}
	refused := errs.E(errs.Validation, "")
	for i := range old.Nodes {
		n := &old.Nodes[i]
		if before[n.Key] || !ends[n.Key].completed {
			continue
		}
		kept[n.Key] = true
		p.checkKept(n, refused)
	}
	if len(refused.Details) > 0 {
		refused.Message = refused.Details[0].Detail
		return refused
	}
	now := p.runs(p.text.Graph, func(key string) bool { return !kept[key] && (before[key] || !ends[key].skipped) })
	for i := range p.text.Nodes {
		node := RerunNode{Key: p.text.Nodes[i].Key}
		if kept[node.Key] && !now[node.Key] {
			node.Reused = ends[node.Key].runs
		} else if p.goesOn(old, i, now) {
			node.Kept = ends[node.Key].done
		}
		p.Nodes = append(p.Nodes, node)
	}
	p.idle = len(now) == 0
	return nil
}

// goesOn reports whether a node that runs again is a matrix or a repeat which goes on where it was: it was not chosen, and rests on nothing
// that runs.
func (p *RerunPlan) goesOn(old *workflow.Definition, node int, now map[string]bool) bool {
	n := &p.text.Nodes[node]
	before, ok := old.Node(n.Key)
	switch {
	case n.Key == p.From && p.From != FromFailed, !ok, before.Kind != n.Kind, !sameNeeds(before.Needs, n.Needs):
		return false
	case !n.Fans() || !sameFan(before, n):
		return false
	}
	return !slices.ContainsFunc(p.text.Graph.Ancestors(node), func(above int) bool { return now[p.text.Graph.Key(above)] })
}

// hasOtherMatrix reports whether the version may run a matrix under other combinations: it goes on with those that are left.
func (p *RerunPlan) hasOtherMatrix(old *workflow.Definition, key string) bool {
	before, _ := old.Node(key)
	now, ok := p.text.Node(key)
	return ok && before.Matrix != nil && now.Matrix != nil && !before.Matrix.Equal(now.Matrix)
}

// sameFan reports whether two nodes run under the same indexes, as far as their text tells.
func sameFan(a, b *workflow.Node) bool {
	return (a.Matrix == nil) == (b.Matrix == nil) && (a.Repeat == nil) == (b.Repeat == nil)
}

// runs returns the nodes of a graph that run again: the chosen one, those of which begins is true, and all that needs one of them.
func (p *RerunPlan) runs(g *graph.Graph, begins func(key string) bool) map[string]bool {
	again := map[string]bool{}
	for _, node := range g.Order() {
		key := g.Key(node)
		chosen := key == p.From && p.From != FromFailed
		if chosen || begins(key) || slices.ContainsFunc(g.Needs(node), func(need int) bool { return again[g.Key(need)] }) {
			again[key] = true
		}
	}
	return again
}

// checkKept adds to refused why the version cannot go on from a node that the earlier version ran.
func (p *RerunPlan) checkKept(n *workflow.Node, refused *errs.Error) {
	now, ok := p.text.Node(n.Key)
	switch {
	case !ok:
		refused.With("/version", "The node %q, which would be reused, is not in version %d.", n.Key, p.Version)
	case now.Kind != n.Kind:
		refused.With("/version", "The node %q, which would be reused, is of another kind in version %d: %s, not %s.", n.Key, p.Version, now.Kind, n.Kind)
	case !sameFan(now, n):
		refused.With("/version", "The node %q, which would be reused, runs under other indexes in version %d.", n.Key, p.Version)
	case !sameNeeds(now.Needs, n.Needs):
		refused.With("/version", "The node %q, which would be reused, needs other nodes in version %d.", n.Key, p.Version)
	}
}

func sameNeeds(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// ReusedKeys are the nodes that are not run again, in text order; never nil.
func (p *RerunPlan) ReusedKeys() []string {
	keys := []string{}
	for _, n := range p.Nodes {
		if n.Reused != nil {
			keys = append(keys, n.Key)
		}
	}
	return keys
}

// checkInputs fits the earlier execution's inputs to a version that it did not run.
func (p *RerunPlan) checkInputs() error {
	var compact bytes.Buffer // the database writes JSON with spaces, which do not count
	if err := json.Compact(&compact, p.inputs); err != nil {
		return fmt.Errorf("reading the inputs of an execution: %w", err)
	}
	values, details := p.text.ValidateInputs(compact.Bytes())
	if len(details) > 0 {
		refused := errs.E(errs.Validation, "The inputs of the execution are not what version %d takes. %s", p.Version, details[0].Detail)
		for _, d := range details {
			refused.With("/version", "%s", d.Detail)
		}
		return refused
	}
	inputs, err := json.Marshal(values)
	if err != nil {
		return fmt.Errorf("encoding inputs: %w", err)
	}
	p.inputs = inputs
	return nil
}

// chooseGroup evaluates the concurrency group of the version that is run.
func (p *RerunPlan) chooseGroup(source execution.Source) error {
	if p.text.Concurrency == nil {
		return nil
	}
	var inputs map[string]any
	if err := json.Unmarshal(p.inputs, &inputs); err != nil {
		return fmt.Errorf("reading the inputs of an execution: %w", err)
	}
	var err error
	p.group, err = p.text.EnterGroup(inputs, workflow.GroupFacts{Source: string(source), Version: p.Version, Workflow: p.WorkflowSlug})
	return err
}

// chooseSandbox decides where the rerun goes on.
func (p *RerunPlan) chooseSandbox(source dbsqlc.RerunSourceRow, choice SandboxChoice) error {
	if choice == SandboxFresh {
		p.WhyFresh = "A fresh sandbox was asked for."
		return nil
	}
	switch {
	case source.SandboxState == "kept":
		p.Sandbox = &source.SandboxID
		return nil
	case source.HeirNumber > 0:
		p.WhyFresh = fmt.Sprintf("Execution %d has gone on in the sandbox.", source.HeirNumber)
	case source.SandboxID == uuid.Nil:
		p.WhyFresh = "The execution had no sandbox."
	default:
		p.WhyFresh = "The sandbox was not kept, or has been destroyed."
	}
	if choice == SandboxReuse {
		return errs.E(SandboxNotAvailable, "%s", p.WhyFresh)
	}
	return nil
}

func refusedFrom(message string) error {
	return errs.E(errs.Validation, "%s", message).With("/from", "%s", message)
}
