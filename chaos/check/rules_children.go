package check

import (
	"bytes"
	"slices"

	"github.com/google/uuid"

	"foundry/chaos/plan"
)

// children: every execution that a node runs is the one of that node run, and of the workflow that it calls; it ends before its parent does,
// and the node run ends as it has, with its outputs.
func children(e *Evidence, say func(string, ...any)) {
	byRun := map[uuid.UUID]*Execution{}
	for _, x := range e.World.Executions {
		if x.Parent == nil {
			continue
		}
		parent := e.World.Executions[*x.Parent]
		switch {
		case parent == nil || x.ParentRun == nil:
			say("execution %s is run by a node of %v, which does not exist", x.ID, x.Parent)
			continue
		case byRun[*x.ParentRun] != nil:
			say("executions %s and %s are run by one node run of %s", x.ID, byRun[*x.ParentRun].ID, parent.ID)
		case x.FinishedAt != nil && parent.FinishedAt != nil && x.FinishedAt.After(*parent.FinishedAt):
			say("execution %s has ended after %s, which runs it", x.ID, parent.ID)
		}
		byRun[*x.ParentRun] = x
	}
	for _, x := range e.World.Executions {
		for _, n := range x.NodeRuns {
			child := byRun[n.ID]
			delete(byRun, n.ID)
			planned := e.node(x, n.Key)
			switch calls := planned != nil && planned.Kind == plan.Call && n.Status != "skipped"; {
			case child == nil && calls:
				say("execution %s: node %s, attempt %d, is %s (%s) and has run nothing", x.ID, n.instance(), n.Attempt, n.Status, n.Failure.Code)
			case child != nil && (!calls || child.Workflow != planned.Calls):
				say("execution %s: node %s, attempt %d, has run %s of %s", x.ID, n.instance(), n.Attempt, child.ID, child.Workflow)
			case child != nil:
				follows(x, n, child, say)
			}
		}
	}
	for _, x := range byRun {
		say("execution %s is run by a node run that does not exist", x.ID)
	}
}

// follows looks whether a node run has ended as the execution that it ran.
func follows(x *Execution, n *NodeRun, child *Execution, say func(string, ...any)) {
	ends := map[string][]string{
		"completed": {"completed"}, "failed": {"failed child_failed"}, "timed_out": {"timed_out child_timed_out"},
		"canceled": {"failed child_canceled", "canceled"},
	}
	got := n.Status
	if n.Failure.Code != "" {
		got += " " + n.Failure.Code
	}
	if !slices.Contains(ends[child.Status], got) {
		say("execution %s: node %s, attempt %d, is %s; %s, which it ran, is %s", x.ID, n.instance(), n.Attempt, got, child.ID, child.Status)
	}
	if n.Status == "completed" && !bytes.Equal(n.Outputs, child.Outputs) {
		say("execution %s: node %s, attempt %d, answers %s; %s, which it ran, has answered %s", x.ID, n.instance(), n.Attempt, n.Outputs, child.ID, child.Outputs)
	}
}

// unwanted reports whether an execution may have been canceled because its parent was, or another of the matrix that it belongs to had failed.
func (e *Evidence) unwanted(x *Execution) bool {
	if x.Parent == nil || e.World.Executions[*x.Parent] == nil {
		return false
	}
	parent := e.World.Executions[*x.Parent]
	if parent.Canceled {
		return true
	}
	for key, runs := range parent.last() {
		planned := e.node(parent, key)
		if planned == nil || !planned.Fan.Matrix() || planned.Fan.Patient {
			continue
		}
		mine := slices.ContainsFunc(runs, func(n *NodeRun) bool { return x.ParentRun != nil && n.ID == *x.ParentRun })
		if mine && slices.ContainsFunc(runs, final(planned)) {
			return true
		}
	}
	return false
}
