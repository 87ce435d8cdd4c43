package check

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"foundry/chaos/plan"
)

// output: what is stored is what the commands have written: all of it where they came to their own end and the history does not say that
// the sandbox's disk stayed full, and else a beginning.
func output(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		streams := x.streams()
		for _, n := range x.NodeRuns {
			planned := e.node(x, n.Key)
			got := streams[n.ID]
			delete(streams, n.ID)
			if planned == nil || !planned.Kind.Runs() {
				if len(got) > 0 {
					say("execution %s: node %s runs no command and has output", x.ID, n.Key)
				}
				continue
			}
			stdout, stderr := planned.Output(n.Index)
			for _, s := range []struct {
				name string
				want []byte
			}{{"stdout", stdout}, {"stderr", stderr}} {
				if n.whole() && !x.told(n, "output_lost") && !bytes.Equal(got[s.name], s.want) || !bytes.HasPrefix(s.want, got[s.name]) {
					say("execution %s: node %s, attempt %d, %s: %s %s", x.ID, n.instance(), n.Attempt, n.Status, s.name, difference(s.want, got[s.name]))
				}
			}
		}
		for id := range streams {
			say("execution %s has output of the node run %s, which does not exist", x.ID, id)
		}
	}
}

// whole reports whether the command came to its own end.
func (n *NodeRun) whole() bool {
	return n.Status == "completed" || n.Status == "failed" && n.Failure.Code == "exit_code"
}

// told reports whether the history warns of something about a node run.
func (x *Execution) told(n *NodeRun, code string) bool {
	return slices.ContainsFunc(x.Events, func(e Event) bool {
		return e.Type == "warning" && e.NodeRunID != nil && *e.NodeRunID == n.ID && field[string](e.Data, "code") == code
	})
}

// difference says where two texts part.
func difference(want, got []byte) string {
	at := 0
	for at < len(want) && at < len(got) && want[at] == got[at] {
		at++
	}
	cut := func(b []byte) string { return fmt.Sprintf("%.60q", b[min(at, len(b)):]) }
	return fmt.Sprintf("has %d bytes of %d, and differs at %d: %s instead of %s", len(got), len(want), at, cut(got), cut(want))
}

// offsets: the chunks of a stream follow each other without gap or overlap, and are counted.
func offsets(e *Evidence, say func(string, ...any)) {
	type stream struct {
		nodeRun uuid.UUID
		name    string
	}
	for _, x := range e.World.Executions {
		next := map[stream]int64{}
		for _, c := range x.Chunks {
			s := stream{c.NodeRunID, c.Stream}
			if c.Offset != next[s] {
				say("execution %s: record %d of %s of %s is at %d, not at %d", x.ID, c.Seq, c.Stream, c.NodeRunID, c.Offset, next[s])
			}
			next[s] = c.Offset + int64(len(c.Data))
		}
		for _, n := range x.NodeRuns {
			if out, err := next[stream{n.ID, "stdout"}], next[stream{n.ID, "stderr"}]; n.StdoutBytes != out || n.StderrBytes != err {
				say("execution %s: node %s, attempt %d, counts %d and %d bytes of %d and %d", x.ID, n.Key, n.Attempt, n.StdoutBytes, n.StderrBytes, out, err)
			}
		}
	}
}

// values: outputs are those that follow from the text.
func values(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		w := e.Workflows[x.Workflow]
		if w == nil {
			continue
		}
		last := x.last()
		for _, n := range x.NodeRuns {
			planned := w.Node(n.Key)
			if planned == nil || n.Status != "completed" || planned.Kind == plan.Approval || planned.Kind == plan.Wait {
				continue
			}
			if got, want := field[any](n.Outputs, planned.Answer()), answer(w, planned, last, n.Index); got != want {
				say("execution %s: node %s answers %v, want %v", x.ID, n.instance(), got, want)
			}
		}
		if x.Status != "completed" {
			continue
		}
		if got, want := field[any](x.Outputs, "result"), value(w, w.Node(w.Output), last); got != want {
			say("execution %s answers %v, want %v", x.ID, got, want)
		}
	}
}

// value is what the expression plan.Workflow has for a node is worth: nil for a node that did not complete, but for a refusal and for one that
// fans out.
func value(w *plan.Workflow, planned *plan.Node, last map[string][]*NodeRun) any {
	runs := last[planned.Key]
	switch {
	case planned.Fan.Matrix():
		return joined(w, planned, last)
	case planned.Fan.Fans():
		for _, n := range slices.Backward(runs) {
			if n.Status == "completed" {
				return answer(w, planned, last, n.Index)
			}
		}
		return nil
	case len(runs) == 0:
		return nil
	}
	switch n := runs[0]; {
	case planned.Kind == plan.Wait:
		return n.Status
	case planned.Kind == plan.Approval && len(n.Decision) > 0:
		return n.Status == "completed"
	case n.Status != "completed":
		return nil
	}
	return answer(w, planned, last, 0)
}

// joined are the answers of a matrix, nothing where there is none. Nothing at all where none has answered.
func joined(w *plan.Workflow, planned *plan.Node, last map[string][]*NodeRun) string {
	answers, some := make([]string, planned.Fan.Count()), false
	for _, n := range last[planned.Key] {
		if n.Status == "completed" && n.Index < len(answers) {
			some = true
			if v := answer(w, planned, last, n.Index); v != nil {
				answers[n.Index] = fmt.Sprint(v)
			}
		}
	}
	if !some {
		return ""
	}
	return strings.Join(answers, "+")
}

// answer is the output of a node that has completed under the index. That of a Call is what it has: rule children compares it.
func answer(w *plan.Workflow, planned *plan.Node, last map[string][]*NodeRun, index int) any {
	switch planned.Kind {
	case plan.Call:
		for _, n := range last[planned.Key] {
			if n.Index == index {
				return field[any](n.Outputs, planned.Answer())
			}
		}
		return nil
	case plan.Set:
	case plan.Steady, plan.Burst, plan.Odd, plan.Flaky, plan.Broken, plan.Stuck, plan.Full, plan.Approval, plan.Wait:
		return planned.Value(index)
	}
	var joined strings.Builder
	for _, need := range planned.Needs {
		if v := value(w, w.Node(need), last); v != nil {
			fmt.Fprint(&joined, v)
		}
		joined.WriteByte(';')
	}
	return joined.String() + planned.Label(index)
}

// secrets: no secret stands in anything that is stored in the clear.
func secrets(e *Evidence, say func(string, ...any)) {
	var forms []string
	for _, w := range e.Workflows {
		if w.Secret != "" {
			forms = append(forms, w.Secret, base64.StdEncoding.EncodeToString([]byte(w.Secret)))
		}
	}
	look := func(text []byte, where string, args ...any) {
		for _, form := range forms {
			if bytes.Contains(text, []byte(form)) {
				say("a secret is in "+where, args...)
			}
		}
	}
	for _, x := range e.World.Executions {
		look(x.Outputs, "the outputs of execution %s", x.ID)
		for _, event := range x.Events {
			look(event.Data, "event %d of execution %s", event.Seq, x.ID)
		}
		for _, n := range x.NodeRuns {
			look(n.Outputs, "the outputs of node %s of execution %s", n.Key, x.ID)
		}
		for id, byName := range x.streams() {
			for name, text := range byName {
				look(text, "%s of node run %s of execution %s", name, id, x.ID)
			}
		}
	}
}

// audit: under every claim under which a command was started, the workflow's secrets were read, and that stands in the record. An engine that
// was begun again under its claim has read them again.
func audit(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		w := e.Workflows[x.Workflow]
		if w == nil {
			continue
		}
		read := map[int64]bool{}
		for _, r := range x.Reads {
			read[r.Claim] = true
			if w.Secret == "" || r.Key != plan.SecretKey {
				say("execution %s read the secret %s, which its workflow has not", x.ID, r.Key)
			}
		}
		claim := int64(0)
		started := map[int64]bool{}
		for _, event := range x.Events {
			switch event.Type {
			case "execution.claimed":
				claim = field[int64](event.Data, "claim")
			case "node.started":
				started[claim] = true
			}
		}
		for claim := range started {
			if w.Secret != "" && !read[claim] {
				say("execution %s started a command under claim %d, and no read of its secret is on record", x.ID, claim)
			}
		}
	}
}

// decisions: an answer that was accepted is the one that holds.
func decisions(e *Evidence, say func(string, ...any)) {
	for _, a := range e.Accepted {
		x := e.World.Executions[a.ID]
		if x == nil {
			continue
		}
		last := x.last()
		for key, approved := range a.Decided {
			n := newest(last[key])
			if n == nil || len(n.Decision) == 0 || field[bool](n.Decision, "approved") != approved || (n.Status == "completed") != approved {
				say("execution %s: the answer %v to node %s was accepted, and it is %+v", x.ID, approved, key, n)
			}
		}
	}
}

// newest is the one there is of a node that does not fan out, nil if there is none.
func newest(runs []*NodeRun) *NodeRun {
	if len(runs) == 0 {
		return nil
	}
	return runs[0]
}

// field returns one field of a JSON object, the zero value where there is none.
func field[T any](object json.RawMessage, name string) (value T) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(object, &fields) == nil {
		_ = json.Unmarshal(fields[name], &value) // the zero value is wrong wherever it matters
	}
	return value
}
