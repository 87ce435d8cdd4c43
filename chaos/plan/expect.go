package plan

import (
	"bytes"
	"fmt"
)

// Masked stands in stored output for a secret.
const Masked = "***"

// Value is the output "value" of a command that ends well.
func (n *Node) Value() string { return fmt.Sprintf("%s-%d-%d", n.Key, n.Lines, n.Padding) }

// Output is all that a run of the command writes to both streams, as Foundry stores it. It is the same for every attempt that comes to
// its own end, and what one that was cut short has written is a beginning of it.
func (n *Node) Output() (stdout, stderr []byte) {
	var out, err bytes.Buffer
	if n.Secret {
		fmt.Fprintf(&out, "the token is %s.\n", Masked)
	}
	for i := 1; i <= n.Lines; i++ {
		if n.Kind == Odd {
			out.WriteString("\xff\x00\r\xc2\n \xc3")
			continue
		}
		fmt.Fprintf(&out, "%s %d %s\n", n.Key, i, n.padding())
		if i%stderrEvery == 0 {
			fmt.Fprintf(&err, "%s %d\n", n.Key, i)
		}
	}
	return out.Bytes(), err.Bytes()
}

// Ends are the statuses in which a node may end that is not canceled, skipped or given up for want of a working machine.
func (n *Node) Ends() []string {
	switch n.Kind {
	case Steady, Burst, Odd, Flaky, Set, Wait:
		return []string{"completed"}
	case Broken, Full:
		return []string{"failed"}
	case Stuck:
		return []string{"timed_out"}
	case Approval:
		if n.Approve {
			return []string{"completed"}
		}
		return []string{"failed"}
	}
	return nil
}
