package workflow

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"foundry/internal/expr"
	"foundry/internal/graph"
	"foundry/internal/spelling"
)

// buildGraph connects the nodes, or reports needs that do not exist and circles.
func (c *compiler) buildGraph() {
	nodes := make([]graph.Node, len(c.def.Nodes))
	keys := c.nodeNames()
	for i, n := range c.def.Nodes {
		nodes[i] = graph.Node{Key: n.Key, ContinueOnError: n.ContinueOnError, HasCondition: n.If != nil}
		for at, need := range n.Needs {
			switch v := c.nodes[i].needs[at]; {
			case need == n.Key:
				c.fault(v.mark, v.path, "self_need", fmt.Sprintf("The node %q needs itself.", need), "")
			case keys.exact(need):
				nodes[i].Needs = append(nodes[i].Needs, need)
			case !c.full():
				c.fault(v.mark, v.path, "unknown_need", fmt.Sprintf("There is no node %q.", need), keys.didYouMean(need))
			}
		}
	}
	g, err := graph.New(nodes)
	if cycle, ok := errors.AsType[*graph.CycleError](err); ok {
		c.cycle(cycle.Path)
	}
	c.def.Graph = g
}

// cycle reports a circle at the need with which its first node enters it.
func (c *compiler) cycle(path []string) {
	i := slices.IndexFunc(c.def.Nodes, func(n Node) bool { return n.Key == path[0] })
	v := c.nodes[i].needs[slices.Index(c.def.Nodes[i].Needs, path[1])]
	c.fault(v.mark, v.path, "cycle", fmt.Sprintf("Nodes wait for each other: %s.", strings.Join(path, " → ")), "Each node needs the one after it; remove one of these needs.")
}

// names are the names of one kind of thing, in text order.
type names struct {
	list   []string
	folded map[string]int // by name in lower case: the index of the first
}

func newNames[T any](things []T, name func(T) string) names {
	n := names{folded: make(map[string]int, len(things))}
	for i, thing := range things {
		n.list = append(n.list, name(thing))
		if _, taken := n.folded[strings.ToLower(name(thing))]; !taken {
			n.folded[strings.ToLower(name(thing))] = i
		}
	}
	return n
}

// find looks a name up as expressions do, without regard to case, and returns its index.
func (n names) find(name string) (int, bool) {
	i, ok := n.folded[strings.ToLower(name)]
	if ok && n.list[i] != name {
		if exact := slices.Index(n.list, name); exact >= 0 {
			return exact, true
		}
	}
	return i, ok
}

// exact reports whether there is the name as it is written.
func (n names) exact(name string) bool {
	i, ok := n.find(name)
	return ok && n.list[i] == name
}

func (n names) didYouMean(name string) string {
	if near := spelling.Nearest(name, n.list); near != "" {
		return fmt.Sprintf("Did you mean %q?", near)
	}
	return ""
}

func (c *compiler) nodeNames() names {
	return newNames(c.def.Nodes, func(n Node) string { return n.Key })
}

func outputNames(outputs []Output) names {
	return newNames(outputs, func(o Output) string { return o.Name })
}

// checker compares references with what there is.
type checker struct {
	*compiler
	inputs, env, nodes, properties names
}

// check reports what could be read but not run. It is not done for stored versions.
func (c *compiler) check() {
	k := checker{
		compiler:   c,
		inputs:     newNames(c.def.Inputs, func(in Input) string { return in.Name }),
		env:        newNames(c.def.Env, func(v EnvVar) string { return v.Name }),
		nodes:      c.nodeNames(),
		properties: newNames([]string{"outputs", "status"}, func(name string) string { return name }),
	}
	for _, s := range c.sites {
		if c.full() {
			return
		}
		var of *Node
		if s.node >= 0 {
			of = &c.def.Nodes[s.node]
		}
		scope := s.place.scope(of)
		for _, err := range s.found.Check(scope) {
			c.exprFault(s.v, s.base, err)
		}
		for _, ref := range s.found.References() {
			if slices.Contains(scope.Contexts, ref.Context) && len(ref.Path) > 0 && ref.Path[0] != "*" && !c.full() {
				k.reference(s, ref)
			}
		}
	}
}

// reference checks a name that is known before evaluation.
func (k *checker) reference(s site, ref expr.Reference) {
	name := ref.Path[0]
	switch ref.Context {
	case "inputs":
		k.find(k.inputs, s, ref, 0, "unknown_input", fmt.Sprintf("The workflow has no input %q.", name))
	case "env":
		k.find(k.env, s, ref, 0, "unknown_env", fmt.Sprintf("The workflow's env has no variable %q.", name))
	case "nodes":
		k.node(s, ref)
	case "execution":
		if s.place == placeGroup {
			k.groupFact(s, ref)
		}
	case "matrix":
		axes := newNames(k.def.Nodes[s.node].Matrix.Axes, func(a Axis) string { return a.Name })
		k.find(axes, s, ref, 0, "unknown_axis", fmt.Sprintf("The node's matrix has no axis %q.", name))
	case "repeat":
		known := newNames([]string{"index", "outputs"}, func(name string) string { return name })
		k.find(known, s, ref, 0, "unknown_property", fmt.Sprintf("A repeat has an index and outputs, but no %q.", name))
	}
}

// find returns the index of one part of a reference among names, or reports that there is
// no such name.
func (k *checker) find(among names, s site, ref expr.Reference, part int, code, message string) (int, bool) {
	i, ok := among.find(ref.Path[part])
	if !ok {
		k.fault(k.place(s, ref, part), s.v.path, code, message, among.didYouMean(ref.Path[part]))
	}
	return i, ok
}

func (k *checker) place(s site, ref expr.Reference, part int) mark {
	return k.at(s.v, s.base+ref.PathPos[part], len(ref.Path[part]))
}

func (k *checker) node(s site, ref expr.Reference) {
	i, ok := k.find(k.nodes, s, ref, 0, "unknown_node", fmt.Sprintf("There is no node %q.", ref.Path[0]))
	if !ok {
		return
	}
	key := k.def.Nodes[i].Key
	switch {
	case s.node == i:
		k.fault(k.place(s, ref, 0), s.v.path, "not_upstream", fmt.Sprintf("The node %q cannot see itself.", key), "")
	case s.node >= 0 && k.def.Graph != nil && !k.def.Graph.IsAncestor(i, s.node):
		k.fault(k.place(s, ref, 0), s.v.path, "not_upstream",
			fmt.Sprintf("The node %q does not need %q, so it may run before it.", k.def.Nodes[s.node].Key, key), fmt.Sprintf("Add %q to its needs.", key))
	}
	if len(ref.Path) < 2 || ref.Path[1] == "*" {
		return
	}
	property, ok := k.find(k.properties, s, ref, 1, "unknown_property", fmt.Sprintf("A node has outputs and a status, but no %q.", ref.Path[1]))
	if ok && k.properties.list[property] == "outputs" {
		k.output(s, ref, &k.def.Nodes[i])
	}
}

// output checks the outputs that are known before; those of commands are not.
func (k *checker) output(s site, ref expr.Reference, n *Node) {
	if n.Kind == KindRun || n.Kind == KindWorkflow || len(ref.Path) < 3 || ref.Path[2] == "*" {
		return
	}
	known, message := outputNames(n.Set), fmt.Sprintf("The node %q does not set %q.", n.Key, ref.Path[2])
	switch n.Kind {
	case KindApproval:
		known = newNames(ApprovalOutputs(), func(name string) string { return name })
		message = fmt.Sprintf("An approval has the outputs approved, by and comment, but no %q.", ref.Path[2])
	case KindWait:
		message = fmt.Sprintf("The node %q only waits: it has no outputs.", n.Key)
	case KindRun, KindSet, KindWorkflow:
	}
	k.find(known, s, ref, 2, "unknown_output", message)
}
