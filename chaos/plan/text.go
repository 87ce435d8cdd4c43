package plan

import (
	"fmt"
	"strings"
)

// Place says how commands reach the ledger.
type Place struct {
	Ledger string // the folder, as commands see it
	Volume string // the name of a volume that is mounted there; empty: the folder is there by itself
}

// stuckTimeout is how long a Stuck node may run, on top of what it prints.
const stuckTimeout = 1

// Text is the workflow as it is pushed.
func (w *Workflow) Text(place Place) string {
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\nenv: { CHAOS_LEDGER: %q }\n", w.Slug, place.Ledger)
	if place.Volume != "" {
		fmt.Fprintf(&b, "sandbox: { volumes: [{ name: %s, path: %s }] }\n", place.Volume, place.Ledger)
	}
	if g := w.Group; g != nil {
		fmt.Fprintf(&b, "concurrency: { group: %s, limit: %d, on-conflict: %s }\n", g.Name, g.Limit, g.Conflict)
	}
	b.WriteString("nodes:\n")
	for i := range w.Nodes {
		w.write(&b, &w.Nodes[i])
	}
	fmt.Fprintf(&b, "outputs:\n  result: ${{ %s }}\n", w.reference(w.Output))
	return b.String()
}

// reference is the expression for what a node answers.
func (w *Workflow) reference(key string) string {
	switch w.Node(key).Kind {
	case Approval:
		return "nodes." + key + ".outputs.approved"
	case Wait:
		return "nodes." + key + ".status"
	case Steady, Burst, Odd, Flaky, Broken, Stuck, Full, Set, Call:
	}
	output := "nodes." + key + ".outputs." + w.Node(key).Answer()
	if w.Node(key).Fan.Matrix() {
		return "join(" + output + ", '+')"
	}
	return output
}

func (w *Workflow) write(b *strings.Builder, n *Node) {
	fmt.Fprintf(b, "  %s:\n", n.Key)
	if len(n.Needs) > 0 {
		fmt.Fprintf(b, "    needs: [%s]\n", strings.Join(n.Needs, ", "))
	}
	if n.Always {
		b.WriteString("    if: ${{ always() }}\n")
	}
	if n.ContinueOnError {
		b.WriteString("    continue-on-error: true\n")
	}
	n.Fan.write(b, n)
	switch n.Kind {
	case Set:
		var places, values strings.Builder
		for i, need := range n.Needs {
			fmt.Fprintf(&places, "{%d};", i)
			fmt.Fprintf(&values, ", %s", w.reference(need))
		}
		for i, part := range n.Fan.parts() {
			fmt.Fprintf(&places, "{%d}", len(n.Needs)+i)
			fmt.Fprintf(&values, ", %s", part)
		}
		fmt.Fprintf(b, "    set: { value: \"${{ format('%s'%s) }}\" }\n", places.String(), values.String())
		return
	case Approval:
		fmt.Fprintf(b, "    approval: { message: \"Go on with %s?\" }\n", n.Key)
		return
	case Wait:
		fmt.Fprintf(b, "    wait: %s\n", n.For)
		return
	case Call:
		fmt.Fprintf(b, "    workflow: %s\n", n.Calls)
		return
	case Steady, Burst, Odd, Flaky, Broken, Stuck, Full:
	}
	if n.Kind == Stuck {
		fmt.Fprintf(b, "    timeout: %ds\n", int(n.Pause.Seconds()*float64(n.Lines))+stuckTimeout)
	}
	if n.Fails > 0 {
		fmt.Fprintf(b, "    retries: { max: %d, backoff: constant, initial: 100ms, max-delay: 100ms }\n", n.Fails)
	}
	if n.Secret {
		fmt.Fprintf(b, "    secrets: [%s]\n", SecretKey)
	} else {
		b.WriteString("    secrets: []\n")
	}
	b.WriteString("    run: |\n")
	for line := range strings.SplitSeq(n.script(), "\n") {
		fmt.Fprintf(b, "      %s\n", line)
	}
}

// script notes its begin and its end in the ledger, by the clock of this machine. A line of the ledger is one write. What it keeps in the
// sandbox it keeps trying to, since the disk may be full for a while.
func (n *Node) script() string {
	var s strings.Builder
	s.WriteString(`note() { printf '%s %s %s %s %s\n' "$FOUNDRY_NODE" "$FOUNDRY_INDEX" "$FOUNDRY_ATTEMPT" "$1" "$EPOCHREALTIME" >> "$CHAOS_LEDGER/$FOUNDRY_EXECUTION_ID"; }` + "\n")
	s.WriteString(`keep() { until printf '%s\n' "$1" 2>/dev/null >> "$2"; do sleep 0.1; done; }` + "\nnote begin\n")
	n.writeFunctions(&s)
	if n.Secret {
		fmt.Fprintf(&s, "printf 'the token is %%s.\\n' \"$%s\"\n", SecretKey)
	}
	if n.Kind == Odd {
		fmt.Fprintf(&s, "for ((n = 1; n <= %d; n++)); do printf '%s'; done\n", n.Lines, oddFormat)
	} else {
		fmt.Fprintf(&s, "for ((n = 1; n <= %d; n++)); do\n", n.Lines)
		fmt.Fprintf(&s, "  printf '%%s %%d %s\\n' \"$FOUNDRY_NODE.$FOUNDRY_INDEX\" \"$n\"\n", n.padding())
		fmt.Fprintf(&s, "  if ((n %% %d == 0)); then printf '%%s %%d\\n' \"$FOUNDRY_NODE.$FOUNDRY_INDEX\" \"$n\" >&2; fi\n", stderrEvery)
		if n.Pause > 0 {
			fmt.Fprintf(&s, "  sleep %g\n", n.Pause.Seconds())
		}
		n.writeSave(&s)
		s.WriteString("done\n")
	}
	n.writeLeaves(&s)
	switch n.Kind {
	case Stuck:
		s.WriteString("while :; do sleep 1; done\n")
	case Flaky:
		// One that is interrupted behind the note and before its exit has failed for itself, and is not charged: it fails less often.
		s.WriteString("failed=failed-$FOUNDRY_NODE-$FOUNDRY_INDEX\n")
		fmt.Fprintf(&s, "if [ \"$(cat \"$failed\" 2>/dev/null | wc -l)\" -lt %d ]; then keep x \"$failed\"; note end; exit %d; fi\n", n.Fails, n.ExitCode)
	case Broken:
		condition := "true"
		if n.Fan.Fans() {
			condition = fmt.Sprintf("((FOUNDRY_INDEX == %d))", n.FailsAt)
		}
		fmt.Fprintf(&s, "if %s; then note end; exit %d; fi\n", condition, n.ExitCode)
	case Full:
		fmt.Fprintf(&s, "trap '' XFSZ\nulimit -f 64\nhead -c 1000000 /dev/zero > full 2>/dev/null || { note end; exit %d; }\n", fullCode)
	case Steady, Burst, Odd, Set, Approval, Wait, Call:
	}
	value := "'" + n.base() + "'"
	switch {
	case n.Fan.Matrix():
		value += `"-$LABEL"`
	case n.Fan.Fans():
		value += `"-$LABEL-${#BEFORE}"`
	}
	fmt.Fprintf(&s, "keep value=%s \"$FOUNDRY_OUTPUT\"\nnote end", value)
	return s.String()
}

const (
	stderrEvery = 3
	fullCode    = 28
	// oddFormat is what an Odd node prints again and again: bytes that are no UTF-8, NUL, a carriage return.
	oddFormat = `\377\000\r\302\n \303`
)

func (n *Node) padding() string { return strings.Repeat("x", n.Padding) }
