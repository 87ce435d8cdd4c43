package plan

import (
	"bytes"
	"fmt"
	"strconv"
)

// Masked stands in stored output for a secret.
const Masked = "***"

// Value is the output "value" of a command that ends well under the index. Under one of a matrix it names the combination, and in an iteration
// how long the value of the one before was.
func (n *Node) Value(index int) string {
	value := n.base()
	switch {
	case n.Fan.Matrix():
		value += "-" + n.Fan.Item(index)
	case n.Fan.Times > 0 && index == 0:
		value += "-0-0"
	case n.Fan.Times > 0:
		value += fmt.Sprintf("-%d-%d", index, len(n.Value(index-1)))
	}
	return value
}

// Answer is the name of the output that says what the node has done: of a Call, that of the workflow.
func (n *Node) Answer() string {
	if n.Kind == Call {
		return "result"
	}
	return "value"
}

func (n *Node) base() string { return fmt.Sprintf("%s-%d-%d", n.Key, n.Lines, n.Padding) }

// Label is what the value of a Set node that fans out ends with under the index.
func (n *Node) Label(index int) string {
	switch {
	case n.Fan.Matrix():
		return n.Fan.Item(index)
	case n.Fan.Fans():
		return strconv.Itoa(index)
	}
	return ""
}

// Output is all that a run of the command under the index writes to both streams, as Foundry stores it. It is the same for every attempt that
// comes to its own end, and what one that was cut short has written is a beginning of it.
func (n *Node) Output(index int) (stdout, stderr []byte) {
	name := fmt.Sprintf("%s.%d", n.Key, index)
	var out, err bytes.Buffer
	if n.Secret {
		fmt.Fprintf(&out, "the token is %s.\n", Masked)
	}
	for i := 1; i <= n.Lines; i++ {
		if n.Kind == Odd {
			out.WriteString("\xff\x00\r\xc2\n \xc3")
			continue
		}
		fmt.Fprintf(&out, "%s %d %s\n", name, i, n.padding())
		if i%stderrEvery == 0 {
			fmt.Fprintf(&err, "%s %d\n", name, i)
		}
	}
	return out.Bytes(), err.Bytes()
}

// Ends are the statuses in which a node, unless it is a Call, may end under the index that is not canceled, skipped or given up for want of a working machine.
func (n *Node) Ends(index int) []string {
	switch n.Kind {
	case Steady, Burst, Odd, Flaky, Set, Wait:
		return []string{"completed"}
	case Broken:
		if n.Fan.Fans() && index != n.FailsAt {
			return []string{"completed"}
		}
		return []string{"failed"}
	case Full:
		return []string{"failed"}
	case Stuck:
		return []string{"timed_out"}
	case Approval:
		if n.Approve {
			return []string{"completed"}
		}
		return []string{"failed"}
	case Call:
	}
	return nil
}
