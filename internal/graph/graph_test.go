package graph

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// parseGraph reads "a; b: a; c?: a b; d!: c": keys with what they need, ? for a condition
// and ! for continue-on-error.
func parseGraph(t testing.TB, text string) *Graph {
	t.Helper()
	g, err := New(parseNodes(text))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func parseNodes(text string) []Node {
	var nodes []Node
	for part := range strings.SplitSeq(text, ";") {
		name, needs, _ := strings.Cut(strings.TrimSpace(part), ":")
		key := strings.TrimRight(name, "?!")
		nodes = append(nodes, Node{
			Key: key, Needs: strings.Fields(needs),
			HasCondition: strings.Contains(name, "?"), ContinueOnError: strings.Contains(name, "!"),
		})
	}
	return nodes
}

func keys(g *Graph, nodes []int) string {
	var list []string
	for _, n := range nodes {
		list = append(list, g.Key(n))
	}
	return strings.Join(list, " ")
}

func TestOrderIsTopologicalAndOtherwiseThatOfTheText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a; b; c":                            "a b c",
		"c; b; a":                            "c b a",
		"z: a; y; a; x: z y":                 "y a z x",
		"last: one two; two; one; free":      "two one last free",
		"a: b b b; b":                        "b a",
		"d: c; c: b; b: a; a; e":             "a b c d e",
		"m: k; k; l; n; o: n m; p: l; q; r:": "k m l n o p q r",
	} {
		g := parseGraph(t, text)
		if got := keys(g, g.Order()); got != want {
			t.Errorf("%s: order %s, want %s", text, got, want)
		}
	}
}

func TestCycleCarriesItsPath(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"a: a":                         {"a", "a"},
		"a: b; b: a":                   {"a", "b", "a"},
		"x; a: c x; b: a; c: b; y: c":  {"a", "c", "b", "a"},
		"above: a; a: b; b: c; c: b":   {"b", "c", "b"},
		"c: b; b: a; a: c; d: a":       {"c", "b", "a", "c"},
		"free; p: q; q: p; r: s; s: r": {"p", "q", "p"},
	} {
		_, err := New(parseNodes(text))
		cycle, ok := errors.AsType[*CycleError](err)
		if !ok {
			t.Errorf("%s: error %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, cycle.Path); diff != "" {
			t.Errorf("%s: -want +got\n%s", text, diff)
		}
		if !strings.Contains(err.Error(), strings.Join(want, " → ")) {
			t.Errorf("%s: %q does not name the path", text, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a; a":       `two nodes have the key "a"`,
		"a: missing": `node "a" needs "missing", which does not exist`,
	} {
		if _, err := New(parseNodes(text)); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

func TestAncestors(t *testing.T) {
	t.Parallel()
	g := parseGraph(t, "a; b: a; c: b; d: a; e: c d; f")
	for key, want := range map[string]string{"a": "", "b": "a", "c": "a b", "d": "a", "e": "a b c d", "f": ""} {
		node, ok := g.Index(key)
		if !ok {
			t.Fatalf("no node %s", key)
		}
		if got := keys(g, g.Ancestors(node)); got != want {
			t.Errorf("above %s: %q, want %q", key, got, want)
		}
	}
	if _, ok := g.Index("g"); ok {
		t.Error("there is a node g")
	}
	b, _ := g.Index("b")
	if got := keys(g, g.Needs(b)); got != "a" {
		t.Errorf("b needs %q", got)
	}
	if g.Len() != 6 {
		t.Errorf("Len() = %d", g.Len())
	}
}

// TestAncestorsBeyondOneWord compares the bits with a search, where they span words.
func TestAncestorsBeyondOneWord(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		g, err := New(drawNodes(t, 150))
		if err != nil {
			t.Fatal(err)
		}
		node := rapid.IntRange(0, g.Len()-1).Draw(t, "node")
		found := make(map[int]bool)
		var search func(int)
		search = func(n int) {
			for _, need := range g.Needs(n) {
				if !found[need] {
					found[need] = true
					search(need)
				}
			}
		}
		search(node)
		for i := range g.Len() {
			if g.IsAncestor(i, node) != found[i] {
				t.Fatalf("IsAncestor(%d, %d) = %v", i, node, !found[i])
			}
		}
	})
}

func TestStatusTerminal(t *testing.T) {
	t.Parallel()
	for status, want := range map[Status]bool{
		Pending: false, Running: false, Waiting: false, Interrupted: false, "": false,
		Completed: true, Failed: true, Skipped: true, Canceled: true, TimedOut: true,
	} {
		if status.Terminal() != want {
			t.Errorf("%q: %v", status, !want)
		}
	}
}

// drawNodes makes an acyclic graph whose text order is not its topological order.
func drawNodes(t *rapid.T, most int) []Node {
	n := rapid.IntRange(1, most).Draw(t, "nodes")
	place := rapid.Permutation(numbers(n)).Draw(t, "order")
	nodes := make([]Node, n)
	for i := range n {
		node := Node{
			Key:             fmt.Sprintf("n%d", place[i]),
			ContinueOnError: rapid.Bool().Draw(t, "continue"),
			HasCondition:    rapid.Bool().Draw(t, "condition"),
		}
		if i > 0 {
			for _, need := range rapid.SliceOfNDistinct(rapid.IntRange(0, i-1), 0, min(i, 4), rapid.ID).Draw(t, "needs") {
				node.Needs = append(node.Needs, fmt.Sprintf("n%d", place[need]))
			}
		}
		nodes[place[i]] = node
	}
	return nodes
}

func numbers(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func TestHeapSorts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOf(rapid.Int()).Draw(t, "list")
		var h minHeap
		for _, v := range list {
			h.push(v)
		}
		var got []int
		for range list {
			got = append(got, h.pop())
		}
		slices.Sort(list)
		if !slices.Equal(got, list) {
			t.Fatalf("got %v, want %v", got, list)
		}
	})
}
