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
	keys := make([]string, len(c.def.Nodes))
	for i, n := range c.def.Nodes {
		keys[i] = n.Key
	}
	known := make(map[string]bool, len(keys))
	for _, key := range keys {
		known[key] = true
	}
	for i, n := range c.def.Nodes {
		nodes[i] = graph.Node{Key: n.Key, ContinueOnError: n.ContinueOnError, HasCondition: n.If != nil}
		for at, need := range n.Needs {
			switch v := c.nodes[i].needs[at]; {
			case need == n.Key:
				c.fault(v.span, v.path, "self_need", fmt.Sprintf("The node %q needs itself.", need), "")
			case !known[need]:
				c.fault(v.span, v.path, "unknown_need", fmt.Sprintf("There is no node %q.", need), didYouMean(need, keys))
			default:
				nodes[i].Needs = append(nodes[i].Needs, need)
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
	c.fault(v.span, v.path, "cycle", fmt.Sprintf("Nodes wait for each other: %s.", strings.Join(path, " → ")), "Each node needs the one after it; remove one of these needs.")
}

func didYouMean(word string, candidates []string) string {
	if near := spelling.Nearest(word, candidates); near != "" {
		return fmt.Sprintf("Did you mean %q?", near)
	}
	return ""
}

// check reports what could be read but not run. It is not done for stored versions.
func (c *compiler) check() {
	for _, s := range c.sites {
		for _, err := range s.found.Check(s.place.scope()) {
			c.exprFault(s.v, s.base, err)
		}
		for _, ref := range s.found.References() {
			if len(ref.Path) > 0 && ref.Path[0] != "*" {
				c.reference(s, ref)
			}
		}
	}
}

// reference checks a name that is known before evaluation. GitHub looks names up without
// regard to case, and so do we.
func (c *compiler) reference(s site, ref expr.Reference) {
	name := ref.Path[0]
	switch ref.Context {
	case "inputs":
		names := make([]string, len(c.def.Inputs))
		for i, in := range c.def.Inputs {
			names[i] = in.Name
		}
		c.named(s, ref, 0, "unknown_input", fmt.Sprintf("The workflow has no input %q.", name), names)
	case "env":
		if s.place != placeWorkflowEnv {
			c.named(s, ref, 0, "unknown_env", fmt.Sprintf("The workflow's env has no variable %q.", name), envNames(c.def.Env))
		}
	case "nodes":
		if s.place != placeWorkflowEnv {
			c.nodeReference(s, ref)
		}
	}
}

func envNames(env []EnvVar) []string {
	names := make([]string, len(env))
	for i, v := range env {
		names[i] = v.Name
	}
	return names
}

// named reports a part of a reference that is none of the names.
func (c *compiler) named(s site, ref expr.Reference, part int, code, message string, names []string) bool {
	if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, ref.Path[part]) }) {
		return true
	}
	c.fault(c.at(s.v, s.base+ref.PathPos[part], len(ref.Path[part])), s.v.path, code, message, didYouMean(ref.Path[part], names))
	return false
}

func (c *compiler) nodeReference(s site, ref expr.Reference) {
	keys := make([]string, len(c.def.Nodes))
	for i, n := range c.def.Nodes {
		keys[i] = n.Key
	}
	if !c.named(s, ref, 0, "unknown_node", fmt.Sprintf("There is no node %q.", ref.Path[0]), keys) {
		return
	}
	index := slices.Index(keys, ref.Path[0])
	if index < 0 {
		index = slices.IndexFunc(keys, func(key string) bool { return strings.EqualFold(key, ref.Path[0]) })
	}
	at := c.at(s.v, s.base+ref.PathPos[0], len(ref.Path[0]))
	switch {
	case s.node == index:
		c.fault(at, s.v.path, "not_upstream", fmt.Sprintf("The node %q cannot see itself.", keys[index]), "")
	case s.node >= 0 && c.def.Graph != nil && !c.def.Graph.IsAncestor(index, s.node):
		c.fault(at, s.v.path, "not_upstream", fmt.Sprintf("The node %q does not need %q, so it may run before it.", keys[s.node], keys[index]),
			fmt.Sprintf("Add %q to its needs.", keys[index]))
	}
	if len(ref.Path) < 2 || ref.Path[1] == "*" {
		return
	}
	if !c.named(s, ref, 1, "unknown_property", fmt.Sprintf("A node has outputs and a status, but no %q.", ref.Path[1]), []string{"outputs", "status"}) {
		return
	}
	c.outputReference(s, ref, &c.def.Nodes[index])
}

// outputReference checks the outputs of set nodes; those of commands are not known before.
func (c *compiler) outputReference(s site, ref expr.Reference, n *Node) {
	if n.Kind != KindSet || len(ref.Path) < 3 || ref.Path[2] == "*" || !strings.EqualFold(ref.Path[1], "outputs") {
		return
	}
	names := make([]string, len(n.Set))
	for i, out := range n.Set {
		names[i] = out.Name
	}
	c.named(s, ref, 2, "unknown_output", fmt.Sprintf("The node %q does not set %q.", n.Key, ref.Path[2]), names)
}
