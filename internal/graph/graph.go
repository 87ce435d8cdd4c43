package graph

import (
	"fmt"
	"strings"
)

// Node is a vertex as the text gives it.
type Node struct {
	Key             string
	Needs           []string // keys of the nodes that must be terminal first
	ContinueOnError bool
	HasCondition    bool
}

// Graph is an acyclic graph of nodes. It is immutable and safe for concurrent use.
type Graph struct {
	nodes     []vertex
	index     map[string]int
	order     []int
	ancestors [][]uint64 // by node: a bit per node that it needs, directly or not
}

type vertex struct {
	key             string
	needs           []int
	continueOnError bool
	hasCondition    bool
}

// CycleError reports nodes that wait for each other.
type CycleError struct {
	// Path starts and ends with the same key; each key needs the one after it.
	Path []string
}

func (e *CycleError) Error() string {
	return "nodes need each other in a circle: " + strings.Join(e.Path, " → ")
}

// New builds the graph. Keys must be unique and needs must name nodes of the list; a
// circle is a *CycleError. A need that is listed twice counts once.
func New(nodes []Node) (*Graph, error) {
	g := &Graph{nodes: make([]vertex, len(nodes)), index: make(map[string]int, len(nodes))}
	for i, n := range nodes {
		if _, taken := g.index[n.Key]; taken {
			return nil, fmt.Errorf("two nodes have the key %q", n.Key)
		}
		g.index[n.Key] = i
	}
	for i, n := range nodes {
		v := vertex{key: n.Key, continueOnError: n.ContinueOnError, hasCondition: n.HasCondition}
		seen := make(map[int]bool, len(n.Needs))
		for _, key := range n.Needs {
			need, ok := g.index[key]
			if !ok {
				return nil, fmt.Errorf("node %q needs %q, which does not exist", n.Key, key)
			}
			if !seen[need] {
				seen[need] = true
				v.needs = append(v.needs, need)
			}
		}
		g.nodes[i] = v
	}
	if err := g.sort(); err != nil {
		return nil, err
	}
	g.close()
	return g, nil
}

// Len is the number of nodes.
func (g *Graph) Len() int { return len(g.nodes) }

// Key returns the key of a node.
func (g *Graph) Key(node int) string { return g.nodes[node].key }

// Index returns the index of the node with the key.
func (g *Graph) Index(key string) (int, bool) {
	i, ok := g.index[key]
	return i, ok
}

// Needs returns what a node needs directly, in text order of the needs. Read only.
func (g *Graph) Needs(node int) []int { return g.nodes[node].needs }

// Order returns all nodes, each after what it needs and otherwise in text order. Read only.
func (g *Graph) Order() []int { return g.order }

// IsAncestor reports whether node needs ancestor, directly or through others.
func (g *Graph) IsAncestor(ancestor, node int) bool {
	return g.ancestors[node][ancestor/64]&(1<<(ancestor%64)) != 0
}

// Ancestors returns all that a node needs, directly or through others, in text order.
func (g *Graph) Ancestors(node int) []int {
	var list []int
	for i := range g.nodes {
		if g.IsAncestor(i, node) {
			list = append(list, i)
		}
	}
	return list
}

// sort fills order by Kahn's algorithm. The set of nodes that could come next is kept as a
// heap of indices, so that the first in the text goes first.
func (g *Graph) sort() error {
	open := make([]int, len(g.nodes)) // needs that are not yet in order
	dependents := make([][]int, len(g.nodes))
	var next minHeap
	for i, v := range g.nodes {
		open[i] = len(v.needs)
		for _, need := range v.needs {
			dependents[need] = append(dependents[need], i)
		}
		if open[i] == 0 {
			next.push(i)
		}
	}
	g.order = make([]int, 0, len(g.nodes))
	for len(next) > 0 {
		i := next.pop()
		g.order = append(g.order, i)
		for _, d := range dependents[i] {
			if open[d]--; open[d] == 0 {
				next.push(d)
			}
		}
	}
	if len(g.order) < len(g.nodes) {
		return &CycleError{Path: g.cycle(open)}
	}
	return nil
}

// cycle walks from the first node that could not be ordered to one of its needs that could
// not be ordered either; such a walk must come back to where it has been.
func (g *Graph) cycle(open []int) []string {
	at := 0
	for open[at] == 0 {
		at++
	}
	var walk []int
	place := make(map[int]int) // node → its place in walk
	for {
		if start, ok := place[at]; ok {
			return g.path(walk[start:])
		}
		place[at] = len(walk)
		walk = append(walk, at)
		for _, need := range g.nodes[at].needs {
			if open[need] > 0 {
				at = need
				break
			}
		}
	}
}

// path names the nodes of a circle, beginning (and ending) with the first in the text.
func (g *Graph) path(circle []int) []string {
	first := 0
	for i, node := range circle {
		if node < circle[first] {
			first = i
		}
	}
	keys := make([]string, 0, len(circle)+1)
	for i := range circle {
		keys = append(keys, g.nodes[circle[(first+i)%len(circle)]].key)
	}
	return append(keys, keys[0])
}

// close computes who is above whom, one bit per pair (125 kB for 1,000 nodes).
func (g *Graph) close() {
	words := (len(g.nodes) + 63) / 64
	bits := make([]uint64, words*len(g.nodes))
	g.ancestors = make([][]uint64, len(g.nodes))
	for i := range g.nodes {
		g.ancestors[i] = bits[i*words : (i+1)*words]
	}
	for _, i := range g.order {
		own := g.ancestors[i]
		for _, need := range g.nodes[i].needs {
			own[need/64] |= 1 << (need % 64)
			for w, above := range g.ancestors[need] {
				own[w] |= above
			}
		}
	}
}
