package workflow

import (
	"fmt"
	"slices"
	"strings"

	"foundry/internal/spelling"
)

// nodeText is where a node and its needs stand.
type nodeText struct {
	entry entry
	needs []*value // as Node.Needs
}

// kindFields lists, by kind, the fields that only nodes of this kind have. The first is the
// key that makes a node one of this kind. A further kind is a line here.
func (c *compiler) kindFields(n *Node, index int) map[Kind][]field {
	return map[Kind][]field{
		KindRun:      c.runFields(n, index),
		KindSet:      {{"set", func(v *value) { c.set(n, v, index) }}},
		KindApproval: c.approvalFields(n, index),
		KindWait:     {{"wait", func(v *value) { c.wait(n, v, index) }}},
		KindWorkflow: c.childFields(n, index),
	}
}

// kinds lists the kinds in the order in which messages name them.
func kinds() []Kind { return []Kind{KindRun, KindSet, KindApproval, KindWait, KindWorkflow} }

// commonFields are those of every node.
func (c *compiler) commonFields(n *Node, t *nodeText, index int) []field {
	return []field{
		{"description", func(v *value) { n.Description = c.prose(v) }},
		{"needs", func(v *value) { c.needs(n, t, v) }},
		{"if", func(v *value) { n.If = c.condition(v, index) }},
		{"continue-on-error", func(v *value) { n.ContinueOnError = c.flag(v) }},
	}
}

func (c *compiler) runFields(n *Node, index int) []field {
	return []field{
		{"run", func(v *value) { c.script(n, v) }},
		{"shell", func(v *value) {
			n.Shell = Shell(c.word(v, string(ShellBash), string(ShellSh), string(ShellPython), string(ShellNode)))
		}},
		{"env", func(v *value) { n.Env = c.env(v, placeNodeEnv, index) }},
		{"secrets", func(v *value) { n.Secrets = c.secretKeys(v) }},
		{"timeout", func(v *value) { n.Timeout = c.duration(v, 0) }},
		{"retries", func(v *value) { c.retries(n, v) }},
		{"retry-on", func(v *value) { n.RetryOn = c.exitCodes(v) }},
	}
}

// childFields are those of a node that runs another workflow.
func (c *compiler) childFields(n *Node, index int) []field {
	return []field{
		{"workflow", func(v *value) { n.Workflow = c.workflowSlug(v) }},
		{"inputs", func(v *value) { n.Inputs = c.outputs(v, placeSet, index) }},
		{"retries", func(v *value) { c.retries(n, v) }},
	}
}

// workflowSlug reads the name of another workflow. Which there are is known when the node begins.
func (c *compiler) workflowSlug(v *value) string {
	if !c.shaped(v, shapeString) {
		return ""
	}
	if !ValidSlug(v.text) {
		c.fault(v.mark, v.path, "bad_value", fmt.Sprintf("%q cannot be the slug of a workflow.", brief(v.text)), "Write the slug as foundry workflow push prints it: lower case letters, digits and hyphens.")
	}
	return v.text
}

func (c *compiler) readNodes(v *value) {
	if !c.shaped(v, shapeMap) {
		return
	}
	if len(v.entries) == 0 {
		c.fault(v.mark, v.path, "missing_key", "There are no nodes.", "A workflow has at least one.")
	}
	if len(v.entries) > MaxNodes {
		c.fault(v.entries[MaxNodes].mark, v.path, "too_large", fmt.Sprintf("A workflow has at most %d nodes; this one has %d.", MaxNodes, len(v.entries)), "")
		return
	}
	for _, e := range v.entries {
		if !c.key(e) && len(e.key) > MaxKey {
			continue // its key would be part of every path below it
		}
		index := len(c.def.Nodes)
		n := Node{Key: e.key, FailFast: true}
		t := &nodeText{entry: e}
		c.node(&n, t, index)
		c.def.Nodes = append(c.def.Nodes, n)
		c.nodes = append(c.nodes, t)
	}
}

// node reads one node by the fields of its kind. Where the kind is not clear it is read by
// those of all kinds, so that its other faults are reported too.
func (c *compiler) node(n *Node, t *nodeText, index int) {
	v := t.entry.value
	if !c.shaped(v, shapeMap) {
		return
	}
	byKind := c.kindFields(n, index)
	fields := append(c.commonFields(n, t, index), c.fanFields(n, index)...)
	var present []entry
	for _, e := range v.entries {
		if slices.Contains(kinds(), Kind(e.key)) {
			present = append(present, e)
			n.Kind = Kind(e.key)
		}
	}
	switch {
	case len(present) > 1:
		c.fault(present[1].mark, present[1].path, "two_kinds",
			fmt.Sprintf("The node %q has %q and %q, but a node does one thing.", n.Key, present[0].key, present[1].key), "Make two nodes of it.")
	case len(present) == 0 && !c.meantKind(v):
		c.fault(t.entry.mark, t.entry.path, "no_kind", fmt.Sprintf("The node %q does nothing.", n.Key), "Add run with a command, set with values, approval, wait with a duration, or workflow with the name of another.")
	}
	if len(present) == 1 {
		fields = append(fields, byKind[n.Kind]...)
	}
	for _, kind := range kinds() {
		switch {
		case len(present) != 1:
			fields = append(fields, byKind[kind]...)
		case kind != n.Kind:
			for _, f := range byKind[kind][1:] {
				fields = append(fields, c.foreign(f.key, n, byKind, v))
			}
		}
	}
	c.object(v, fields)
	c.fan(n, v)
	if e := v.entry("retry-on"); e != nil && v.entry("retries") == nil {
		c.fault(e.mark, e.path, "missing_key", "retry-on says when to retry, but there are no retries.", "Add retries, as in retries: { max: 3 }.")
	}
}

// meantKind reports whether an unknown key of the node stands for its kind; that key's own
// fault is enough.
func (c *compiler) meantKind(v *value) bool {
	return slices.ContainsFunc(v.entries, func(e entry) bool {
		var words []string
		for _, kind := range kinds() {
			words = append(words, string(kind))
		}
		return spelling.Nearest(e.key, words) != "" || e.key == "uses" || e.key == "steps"
	})
}

// foreign is a field that only other kinds have. Where the node's own kind has it too, that one comes before.
func (c *compiler) foreign(key string, n *Node, byKind map[Kind][]field, of *value) field {
	return field{key, func(*value) {
		var owners []string
		for _, kind := range kinds() {
			if slices.ContainsFunc(byKind[kind], func(f field) bool { return f.key == key }) {
				owners = append(owners, string(kind))
			}
		}
		article := "a"
		if n.Kind == KindApproval {
			article = "an"
		}
		e := of.entry(key)
		c.fault(e.mark, e.path, "wrong_kind",
			fmt.Sprintf("The key %q is for %s nodes; %q is %s %s node.", key, strings.Join(owners, " and "), n.Key, article, n.Kind), "")
	}}
}

// needs reads a list of keys, or one key.
func (c *compiler) needs(n *Node, t *nodeText, v *value) {
	items := []*value{v}
	if v.shape != shapeString {
		items = c.strings(v)
	}
	for _, item := range items {
		if slices.Contains(n.Needs, item.text) {
			c.fault(item.mark, item.path, "duplicate_need", fmt.Sprintf("%q is listed twice.", item.text), "")
			continue
		}
		n.Needs = append(n.Needs, item.text)
		t.needs = append(t.needs, item)
	}
}

// script reads a command. Values never become part of a script's text: a value with a quote
// in it would be code.
func (c *compiler) script(n *Node, v *value) {
	if !c.shaped(v, shapeString) {
		return
	}
	if strings.TrimSpace(v.text) == "" {
		c.fault(v.mark, v.path, "bad_value", "The command is empty.", "")
	}
	if at := strings.Index(v.text, "${{"); at >= 0 {
		c.fault(c.at(v, at, 3), v.path, "expression_in_run", "Expressions are not evaluated inside run.",
			"Pass the value through env, as in env: { VALUE: ${{ … }} }, and use \"$VALUE\".")
	}
	n.Script = v.text
}

func (c *compiler) set(n *Node, v *value, index int) {
	n.Set = c.outputs(v, placeSet, index)
	if v.shape == shapeMap && len(v.entries) == 0 {
		c.fault(v.mark, v.path, "bad_value", "There is nothing to set.", "Write name: value.")
	}
}

func (c *compiler) retries(n *Node, v *value) {
	r := Retries{Backoff: Exponential, Initial: DefaultInitial, MaxDelay: DefaultMaxDelay}
	c.object(v, c.retryFields(&r))
	if v.shape == shapeMap {
		c.require(v, "max")
	}
	if e := v.entry("max-delay"); e == nil {
		r.MaxDelay = max(r.MaxDelay, r.Initial)
	} else if r.MaxDelay < r.Initial {
		c.fault(e.value.mark, e.path, "out_of_range", fmt.Sprintf("The longest pause (%s) is shorter than the first (%s).", r.MaxDelay, r.Initial), "")
	}
	n.Retries = r
}

func (c *compiler) retryFields(r *Retries) []field {
	return []field{
		{"max", func(v *value) { r.Max = c.integer(v, 0, MaxRetries, 0) }},
		{"backoff", func(v *value) { r.Backoff = Backoff(c.word(v, string(Exponential), string(Constant))) }},
		{"initial", func(v *value) { r.Initial = c.duration(v, DefaultInitial) }},
		{"max-delay", func(v *value) { r.MaxDelay = c.duration(v, DefaultMaxDelay) }},
	}
}

// secretKeys reads a list of names; which of them exist is known when the node runs. An empty list is none.
func (c *compiler) secretKeys(v *value) []string {
	if !c.shaped(v, shapeList) {
		return nil
	}
	keys := []string{}
	for _, item := range c.strings(v) {
		switch {
		case !validVariable.MatchString(item.text):
			c.fault(item.mark, item.path, "bad_key", fmt.Sprintf("%q cannot be the key of a secret.", item.text), "A key is made of letters, digits and _.")
		case len(item.text) > MaxKey:
			c.fault(item.mark, item.path, "too_large", fmt.Sprintf("A key has at most %d characters; this one has %d.", MaxKey, len(item.text)), "")
		case slices.Contains(keys, item.text):
			c.fault(item.mark, item.path, "duplicate_secret", fmt.Sprintf("%q is listed twice.", item.text), "")
		default:
			keys = append(keys, item.text)
		}
	}
	return keys
}

func (c *compiler) exitCodes(v *value) []int {
	if !c.shaped(v, shapeList) {
		return nil
	}
	if len(v.items) == 0 {
		c.fault(v.mark, v.path, "bad_value", "The list of exit codes is empty.", "Leave the key out to retry on every failure.")
	}
	var codes []int
	for _, item := range v.items {
		if code := c.integer(item, 1, 255, 0); code != 0 {
			codes = append(codes, code)
		}
	}
	return codes
}
