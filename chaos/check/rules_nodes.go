package check

import (
	"fmt"
	"slices"

	"foundry/chaos/plan"
)

// maxInterruptions is how often a node is run again that the machinery has lost.
const maxInterruptions = 5

// instance is what has one number of attempts: a node, or what runs of it under one index.
type instance struct {
	node  string
	index int
}

func (n *NodeRun) instance() instance { return instance{n.Key, n.Index} }

func (n Note) instance() instance { return instance{n.Node, n.Index} }

// String is for people: node, or node[index].
func (i instance) String() string {
	if i.index == 0 {
		return i.node
	}
	return fmt.Sprintf("%s[%d]", i.node, i.index)
}

// repeated: a command has run once a node run, and never again after its node has completed. Every completed one has run.
func repeated(e *Evidence, say func(string, ...any)) {
	type run struct {
		instance
		attempt int
	}
	for _, x := range e.World.Executions {
		begun, ended := map[run]int{}, map[run]int{}
		for _, note := range e.Notes[x.ID] {
			switch note.Word {
			case "begin":
				begun[run{note.instance(), note.Attempt}]++
			case "end":
				ended[run{note.instance(), note.Attempt}]++
			}
		}
		completed := map[instance]int{}
		exists := map[run]bool{}
		for _, n := range x.NodeRuns {
			r := run{n.instance(), n.Attempt}
			exists[r] = true
			planned := e.node(x, n.Key)
			if n.Status != "completed" || planned == nil || !planned.Kind.Runs() {
				continue
			}
			completed[r.instance] = n.Attempt
			if begun[r] != 1 || ended[r] != 1 {
				say("execution %s: node %s, attempt %d, completed; its command began %d times and ended %d times", x.ID, r.instance, n.Attempt, begun[r], ended[r])
			}
		}
		for r, times := range begun {
			switch done, ok := completed[r.instance]; {
			case times > 1:
				say("execution %s: the command of node %s, attempt %d, began %d times", x.ID, r.instance, r.attempt, times)
			case ok && r.attempt > done:
				say("execution %s: node %s completed with attempt %d and its command began again as attempt %d", x.ID, r.instance, done, r.attempt)
			case !exists[r]:
				say("execution %s: the command of node %s, attempt %d, began, and there is no such node run", x.ID, r.instance, r.attempt)
			}
		}
	}
}

// late: no command has begun after its execution or its node run had ended.
func late(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		for _, note := range e.Notes[x.ID] {
			if x.FinishedAt != nil && note.At.After(*x.FinishedAt) {
				say("execution %s had ended, and then node %s, attempt %d, noted its %s", x.ID, note.instance(), note.Attempt, note.Word)
			}
			for _, n := range x.NodeRuns {
				if n.instance() == note.instance() && n.Attempt == note.Attempt && n.FinishedAt != nil && note.At.After(*n.FinishedAt) {
					say("execution %s: node %s, attempt %d, was %s, and then noted its %s", x.ID, n.instance(), n.Attempt, n.Status, note.Word)
				}
			}
		}
	}
}

// attempts: they are numbered without a gap, and none follows on an end; failures are charged within the limit, interruptions counted.
func attempts(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		byInstance := map[instance][]*NodeRun{}
		for _, n := range x.NodeRuns {
			byInstance[n.instance()] = append(byInstance[n.instance()], n)
		}
		for in, runs := range byInstance {
			planned := e.node(x, in.node)
			if planned == nil {
				say("execution %s has a node %s, which its workflow has not", x.ID, in)
				continue
			}
			charged, interrupted := 0, 0
			for i, n := range runs {
				if n.Attempt != i+1 {
					say("execution %s: node %s has the attempt %d where %d is next", x.ID, in, n.Attempt, i+1)
				}
				switch n.Status {
				case "failed", "timed_out":
					charged++
				case "interrupted":
					interrupted++
				default:
					if i < len(runs)-1 {
						say("execution %s: node %s was %s with attempt %d and was run again", x.ID, in, n.Status, n.Attempt)
					}
				}
			}
			gaveUp := runs[len(runs)-1].Failure.Code == "infrastructure"
			if gaveUp {
				charged--
			}
			if charged > planned.Fails+1 {
				say("execution %s: node %s failed %d times, and may be retried %d times", x.ID, in, charged, planned.Fails)
			}
			if interrupted > maxInterruptions || gaveUp && interrupted != maxInterruptions {
				say("execution %s: node %s was interrupted %d times; given up: %v", x.ID, in, interrupted, gaveUp)
			}
		}
	}
}

// ends: every node has ended as its text and what it needs make it, under each index that it ran for.
func ends(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		w := e.Workflows[x.Workflow]
		if w == nil || x.FinishedAt == nil {
			continue
		}
		last := x.last()
		for i := range w.Nodes {
			planned := &w.Nodes[i]
			runs := last[planned.Key]
			switch {
			case len(runs) == 0:
				if !x.Canceled { // one that is canceled before its first claim has no node runs
					say("execution %s has ended without node %s", x.ID, planned.Key)
				}
			case skipped(runs) != (!planned.Always && troubled(w, planned, last)):
				if !x.Canceled || !slices.Contains([]string{"skipped", "canceled", "interrupted"}, status(planned, runs)) {
					say("execution %s: node %s is %s; what it needs is %v", x.ID, planned.Key, status(planned, runs), needs(w, planned, last))
				}
			case skipped(runs):
			default:
				endsOf(x, planned, runs, say)
			}
		}
	}
}

// endsOf looks at each instance of a node that has begun.
func endsOf(x *Execution, planned *plan.Node, runs []*NodeRun, say func(string, ...any)) {
	for _, problem := range gaps(planned, runs) {
		if !x.Canceled {
			say("execution %s: node %s %s", x.ID, planned.Key, problem)
		}
	}
	hasty := planned.Fan.Matrix() && !planned.Fan.Patient && !planned.ContinueOnError && slices.ContainsFunc(runs, final(planned))
	for _, n := range runs {
		// What was not brought to its end because of the cancel, or of another's failure.
		given := x.Canceled || hasty && !final(planned)(n)
		switch {
		case given && slices.Contains([]string{"skipped", "canceled", "interrupted"}, n.Status):
		case given && planned.Kind == plan.Flaky && n.Status == "failed": // it is not retried
		case n.Status == "failed" && n.Failure.Code == "infrastructure":
		case planned.Kind == plan.Call && slices.Contains([]string{"completed", "failed", "timed_out"}, n.Status): // as what it has run: rule children
		case !slices.Contains(planned.Ends(n.Index), n.Status):
			say("execution %s: node %s (%s) is %s (%s)", x.ID, n.instance(), planned.Kind, n.Status, n.Failure.Code)
		case n.Status != "completed" && planned.ExitCode != 0 && (n.ExitCode == nil || *n.ExitCode != planned.ExitCode):
			say("execution %s: node %s does not end with exit code %d", x.ID, n.instance(), planned.ExitCode)
		}
	}
}

// gaps says which indexes are missing, or too many, and which iterations follow on one that has not completed.
func gaps(planned *plan.Node, runs []*NodeRun) (problems []string) {
	for i, n := range runs {
		if n.Index != i {
			return []string{fmt.Sprintf("has the index %d where %d is next", n.Index, i)}
		}
		if !planned.Fan.Matrix() && i < len(runs)-1 && n.Status != "completed" {
			problems = append(problems, fmt.Sprintf("goes on behind iteration %d, which is %s", i, n.Status))
		}
	}
	short := len(runs) < planned.Fan.Count() && (planned.Fan.Matrix() || runs[len(runs)-1].Status == "completed")
	if short || len(runs) > planned.Fan.Count() {
		problems = append(problems, fmt.Sprintf("has run for %d indexes, not for %d", len(runs), planned.Fan.Count()))
	}
	return problems
}

// final reports whether a node run is a failure that is not retried, whatever else happens.
func final(planned *plan.Node) func(*NodeRun) bool {
	return func(n *NodeRun) bool {
		return (n.Status == "failed" || n.Status == "timed_out") && (planned.Kind != plan.Flaky || n.Failure.Code == "infrastructure")
	}
}

// skipped reports whether the node has not begun.
func skipped(runs []*NodeRun) bool {
	return len(runs) == 1 && runs[0].Index == 0 && runs[0].Status == "skipped"
}

// status is what a node is of which these are the newest attempts: the worst that any of them is.
func status(planned *plan.Node, runs []*NodeRun) string {
	if !planned.Fan.Fans() || skipped(runs) {
		if len(runs) == 0 {
			return ""
		}
		return runs[0].Status
	}
	for _, worst := range []string{"failed", "timed_out", "interrupted", "canceled", "skipped"} {
		if slices.ContainsFunc(runs, func(n *NodeRun) bool { return n.Status == worst }) {
			return worst
		}
	}
	return "completed"
}

// troubled reports whether something that the node needs keeps it from running.
func troubled(w *plan.Workflow, planned *plan.Node, last map[string][]*NodeRun) bool {
	return slices.ContainsFunc(planned.Needs, func(key string) bool { return !fine(w.Node(key), last[key]) })
}

// fine reports whether what needs the node may run.
func fine(planned *plan.Node, runs []*NodeRun) bool {
	s := status(planned, runs)
	return s == "completed" || planned.ContinueOnError && (s == "failed" || s == "timed_out")
}

func needs(w *plan.Workflow, planned *plan.Node, last map[string][]*NodeRun) map[string]string {
	statuses := map[string]string{}
	for _, key := range planned.Needs {
		statuses[key] = status(w.Node(key), last[key])
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
			s := status(&w.Nodes[i], last[w.Nodes[i].Key])
			if (s == "failed" || s == "timed_out") && !w.Nodes[i].ContinueOnError {
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
