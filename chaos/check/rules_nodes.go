package check

import (
	"slices"

	"foundry/chaos/plan"
)

// maxInterruptions is how often a node is run again that the machinery has lost.
const maxInterruptions = 5

// repeated: a command has run once a node run, and never again after its node has completed. Every completed one has run.
func repeated(e *Evidence, say func(string, ...any)) {
	type run struct {
		node    string
		attempt int
	}
	for _, x := range e.World.Executions {
		begun, ended := map[run]int{}, map[run]int{}
		for _, note := range e.Notes[x.ID] {
			if note.Word == "begin" {
				begun[run{note.Node, note.Attempt}]++
			} else {
				ended[run{note.Node, note.Attempt}]++
			}
		}
		completed := map[string]int{}
		for _, n := range x.NodeRuns {
			r := run{n.Key, n.Attempt}
			planned := e.node(x, n.Key)
			if n.Status != "completed" || planned == nil || !planned.Kind.Runs() {
				continue
			}
			completed[n.Key] = n.Attempt
			if begun[r] != 1 || ended[r] != 1 {
				say("execution %s: node %s, attempt %d, completed; its command began %d times and ended %d times", x.ID, n.Key, n.Attempt, begun[r], ended[r])
			}
		}
		for r, times := range begun {
			switch done, ok := completed[r.node]; {
			case times > 1:
				say("execution %s: the command of node %s, attempt %d, began %d times", x.ID, r.node, r.attempt, times)
			case ok && r.attempt > done:
				say("execution %s: node %s completed with attempt %d and its command began again as attempt %d", x.ID, r.node, done, r.attempt)
			case !slices.ContainsFunc(x.NodeRuns, func(n *NodeRun) bool { return n.Key == r.node && n.Attempt == r.attempt }):
				say("execution %s: the command of node %s, attempt %d, began, and there is no such node run", x.ID, r.node, r.attempt)
			}
		}
	}
}

// late: no command has begun after its execution or its node run had ended.
func late(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		for _, note := range e.Notes[x.ID] {
			if x.FinishedAt != nil && note.At.After(*x.FinishedAt) {
				say("execution %s had ended, and then node %s, attempt %d, noted its %s", x.ID, note.Node, note.Attempt, note.Word)
			}
			for _, n := range x.NodeRuns {
				if n.Key == note.Node && n.Attempt == note.Attempt && n.FinishedAt != nil && note.At.After(*n.FinishedAt) {
					say("execution %s: node %s, attempt %d, was %s, and then noted its %s", x.ID, n.Key, n.Attempt, n.Status, note.Word)
				}
			}
		}
	}
}

// attempts: they are numbered without a gap, and none follows on an end; failures are charged within the limit, interruptions counted.
func attempts(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		byKey := map[string][]*NodeRun{}
		for _, n := range x.NodeRuns {
			byKey[n.Key] = append(byKey[n.Key], n)
		}
		for key, runs := range byKey {
			planned := e.node(x, key)
			if planned == nil {
				say("execution %s has a node %s, which its workflow has not", x.ID, key)
				continue
			}
			charged, interrupted := 0, 0
			for i, n := range runs {
				if n.Attempt != i+1 {
					say("execution %s: node %s has the attempt %d where %d is next", x.ID, key, n.Attempt, i+1)
				}
				switch n.Status {
				case "failed", "timed_out":
					charged++
				case "interrupted":
					interrupted++
				default:
					if i < len(runs)-1 {
						say("execution %s: node %s was %s with attempt %d and was run again", x.ID, key, n.Status, n.Attempt)
					}
				}
			}
			gaveUp := runs[len(runs)-1].Failure.Code == "infrastructure"
			if gaveUp {
				charged--
			}
			if charged > planned.Fails+1 {
				say("execution %s: node %s failed %d times, and may be retried %d times", x.ID, key, charged, planned.Fails)
			}
			if interrupted > maxInterruptions || gaveUp && interrupted != maxInterruptions {
				say("execution %s: node %s was interrupted %d times; given up: %v", x.ID, key, interrupted, gaveUp)
			}
		}
	}
}

// ends: every node has ended as its text and what it needs make it.
func ends(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		w := e.Workflows[x.Workflow]
		if w == nil || x.FinishedAt == nil {
			continue
		}
		last := x.last()
		for i := range w.Nodes {
			planned := &w.Nodes[i]
			n := last[planned.Key]
			switch {
			case n == nil:
				if !x.Canceled { // one that is canceled before its first claim has no node runs
					say("execution %s has ended without node %s", x.ID, planned.Key)
				}
			case x.Canceled && slices.Contains([]string{"skipped", "canceled", "interrupted"}, n.Status):
			case x.Canceled && planned.Kind == plan.Flaky && n.Status == "failed": // it is not retried after a cancel
			case n.Status == "failed" && n.Failure.Code == "infrastructure":
			case n.Status == "skipped" || !planned.Always && troubled(w, planned, last):
				if n.Status != "skipped" || planned.Always || !troubled(w, planned, last) {
					say("execution %s: node %s is %s; what it needs is %v", x.ID, n.Key, n.Status, needs(planned, last))
				}
			case !slices.Contains(planned.Ends(), n.Status):
				say("execution %s: node %s (%s) is %s (%s)", x.ID, n.Key, planned.Kind, n.Status, n.Failure.Code)
			case n.Status != "completed" && planned.ExitCode != 0 && (n.ExitCode == nil || *n.ExitCode != planned.ExitCode):
				say("execution %s: node %s does not end with exit code %d", x.ID, n.Key, planned.ExitCode)
			}
		}
	}
}

// troubled reports whether something that the node needs keeps it from running.
func troubled(w *plan.Workflow, planned *plan.Node, last map[string]*NodeRun) bool {
	return slices.ContainsFunc(planned.Needs, func(key string) bool { return !fine(w.Node(key), last[key]) })
}

// fine reports whether what needs the node may run.
func fine(planned *plan.Node, n *NodeRun) bool {
	if n == nil {
		return false
	}
	return n.Status == "completed" || planned.ContinueOnError && (n.Status == "failed" || n.Status == "timed_out")
}

func needs(planned *plan.Node, last map[string]*NodeRun) map[string]string {
	statuses := map[string]string{}
	for _, key := range planned.Needs {
		if n := last[key]; n != nil {
			statuses[key] = n.Status
		}
	}
	return statuses
}

// verdict: the execution has ended as its nodes make it.
func verdict(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		w := e.Workflows[x.Workflow]
		if w == nil || x.FinishedAt == nil || x.Canceled {
			continue
		}
		want := "completed"
		last := x.last()
		for i := range w.Nodes {
			n := last[w.Nodes[i].Key]
			if n != nil && (n.Status == "failed" || n.Status == "timed_out") && !w.Nodes[i].ContinueOnError {
				want = "failed"
			}
		}
		if x.Status != want {
			say("execution %s is %s (%s); its nodes make it %s", x.ID, x.Status, x.Failure.Code, want)
		}
	}
}

// node is the plan of a node of an execution, nil if there is none.
func (e *Evidence) node(x *Execution, key string) *plan.Node {
	w := e.Workflows[x.Workflow]
	if w == nil {
		return nil
	}
	return w.Node(key)
}
