package workflow

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"foundry/internal/errs"
	"foundry/internal/expr"
)

// Matrix runs a node once for each combination of a value of every axis.
type Matrix struct {
	Axes []Axis // in text order; the last turns fastest
}

// Axis is a name and its values. Its expressions may use inputs, nodes, env and execution.
type Axis struct {
	Name   string
	Values []*expr.Template // written one by one
	List   *expr.Template   // or all in one: an expression that gives a list; nil where Values are written
}

// Repeat runs a node again and again, one iteration after the other.
type Repeat struct {
	Times *expr.Template // how often at most; nil is MaxRepeat
	// Until is asked after each iteration, as repeat.index and repeat.outputs; nil goes on to the end.
	Until *expr.Expr
}

// Fans reports whether the node runs under more than one index.
func (n *Node) Fans() bool { return n.Matrix != nil || n.Repeat != nil }

// Equal reports whether both are written alike, so that they give the same combinations where the contexts are the same.
func (m *Matrix) Equal(other *Matrix) bool {
	return slices.EqualFunc(m.Axes, other.Axes, func(a, b Axis) bool {
		return a.Name == b.Name && a.List.Equal(b.List) && slices.EqualFunc(a.Values, b.Values, (*expr.Template).Equal)
	})
}

// Combinations evaluates the matrix: by index, the values by axis; none where an axis is empty. The error is a sentence.
func (m *Matrix) Combinations(env expr.Env) ([]map[string]any, error) {
	all := []map[string]any{{}}
	for _, axis := range m.Axes {
		values, err := axis.values(env)
		if err != nil {
			return nil, err
		}
		if n := len(all) * len(values); n > MaxMatrix {
			return nil, tooManyCombinations(n)
		}
		crossed := make([]map[string]any, 0, len(all)*len(values))
		for _, before := range all {
			for _, value := range values {
				c := make(map[string]any, len(m.Axes))
				for name, v := range before {
					c[name] = v
				}
				c[axis.Name] = value
				crossed = append(crossed, c)
			}
		}
		all = crossed
	}
	return all, nil
}

func tooManyCombinations(n int) error {
	return errs.E(errs.Validation, "A matrix has at most %d combinations; this one has %d.", MaxMatrix, n)
}

func (a *Axis) values(env expr.Env) ([]any, error) {
	if a.List == nil {
		values := make([]any, 0, len(a.Values))
		for _, t := range a.Values {
			v, err := t.Eval(env)
			if err != nil {
				return nil, errs.E(errs.Validation, "A value of the matrix axis %q cannot be evaluated: %s.", a.Name, err)
			}
			values = append(values, v)
		}
		return values, nil
	}
	v, err := a.List.Eval(env)
	if err != nil {
		return nil, errs.E(errs.Validation, "The matrix axis %q cannot be evaluated: %s.", a.Name, err)
	}
	values, ok := v.([]any)
	if !ok {
		return nil, errs.E(errs.Validation, "The matrix axis %q must be a list; it is %s.", a.Name, kindOf(v))
	}
	if len(values) > MaxMatrix {
		return nil, tooManyCombinations(len(values))
	}
	return values, nil
}

// Count evaluates how often the node runs at most, 0 to MaxRepeat. The error is a sentence.
func (p *Repeat) Count(env expr.Env) (int, error) {
	if p.Times == nil {
		return MaxRepeat, nil
	}
	v, err := p.Times.Eval(env)
	if err != nil {
		return 0, errs.E(errs.Validation, "The number of iterations cannot be evaluated: %s.", err)
	}
	text := expr.String(v) // outputs of commands are text
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n != math.Trunc(n) {
		return 0, errs.E(errs.Validation, "The number of iterations must be a whole number; it is %q.", brief(text))
	}
	if n < 0 || n > MaxRepeat {
		return 0, errs.E(errs.Validation, "A node has from 0 to %d iterations; this one would have %s.", MaxRepeat, brief(text))
	}
	return int(n), nil
}

// kindOf names the JSON type of a value.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case float64:
		return "a number"
	case []any:
		return "a list"
	}
	return "an object"
}

// fanFields are those of a node that may run under more than one index.
func (c *compiler) fanFields(n *Node, index int) []field {
	return []field{
		{"matrix", func(v *value) { n.Matrix = c.matrix(v, index) }},
		{"repeat", func(v *value) { n.Repeat = c.repeat(v, index) }},
		{"max-parallel", func(v *value) { n.MaxParallel = c.integer(v, 1, MaxParallel, 0) }},
		{"fail-fast", func(v *value) { n.FailFast = c.flag(v) }},
	}
}

// fan reports keys that say something about a matrix which is not there, and two ways of running often.
func (c *compiler) fan(n *Node, v *value) {
	if n.Matrix != nil && n.Repeat != nil {
		e := v.entry("repeat")
		c.fault(e.mark, e.path, "conflict", "A node has a matrix or a repeat, not both.", "Put the inner one into a workflow of its own, and call that.")
	}
	for _, key := range []string{"max-parallel", "fail-fast"} {
		if e := v.entry(key); e != nil && v.entry("matrix") == nil {
			c.fault(e.mark, e.path, "missing_key", fmt.Sprintf("%s is about a matrix, which the node %q does not have.", key, n.Key), "")
		}
	}
}

func (c *compiler) matrix(v *value, index int) *Matrix {
	m := &Matrix{}
	if !c.shaped(v, shapeMap) {
		return m
	}
	if len(v.entries) == 0 {
		c.fault(v.mark, v.path, "bad_value", "The matrix has no axis.", "Write name: [values].")
	}
	combinations := 1
	for _, e := range v.entries {
		switch {
		case c.full() || !c.key(e):
			continue
		case slices.Contains([]string{"include", "exclude"}, e.key):
			c.fault(e.mark, e.path, "unknown_key", fmt.Sprintf("A matrix has no %q.", e.key), "Write one axis whose values are objects, and use their fields.")
			continue
		}
		axis := c.axis(e, index)
		if axis.List == nil {
			combinations *= max(len(axis.Values), 1)
		}
		m.Axes = append(m.Axes, axis)
		if combinations > MaxMatrix {
			c.fault(e.mark, e.path, "too_large", errs.MessageOf(tooManyCombinations(combinations), ""), "")
			break
		}
	}
	return m
}

// axis reads a list of values, or an expression that gives one.
func (c *compiler) axis(e entry, index int) Axis {
	axis := Axis{Name: e.key}
	v := e.value
	switch v.shape {
	case shapeString:
		axis.List = c.template(v, placeMatrix, index)
		if axis.List != nil && axis.List.Single() == nil {
			c.fault(v.mark, v.path, "bad_type", "Expected a list, or one expression that gives one, found a string.", "Write ${{ fromJSON(…) }} alone, or [a, b].")
		}
	case shapeList:
		if len(v.items) == 0 {
			c.fault(v.mark, v.path, "bad_value", "The axis has no values.", "")
		}
		for _, item := range v.items {
			if t := c.element(item, index); t != nil {
				axis.Values = append(axis.Values, t)
			}
		}
	case shapeMap, shapeNull, shapeBool, shapeNumber:
		c.fault(v.mark, v.path, "bad_type", fmt.Sprintf("Expected a list, found %s.", v.shape), "Write [a, b], or ${{ fromJSON(…) }}.")
	case shapeInvalid:
	}
	return axis
}

// element reads one value of an axis. Objects and lists are taken as they are.
func (c *compiler) element(v *value, index int) *expr.Template {
	if v.shape == shapeMap || v.shape == shapeList {
		return expr.Constant(v.data(), "")
	}
	return c.template(v, placeMatrix, index)
}

func (c *compiler) repeat(v *value, index int) *Repeat {
	p := &Repeat{}
	if v.shape == shapeNumber {
		p.Times = c.times(v, index)
		return p
	}
	c.object(v, c.repeatFields(p, index))
	if v.shape == shapeMap && len(v.entries) == 0 {
		c.fault(v.mark, v.path, "missing_key", "The repeat has no end.", "Write times, until, or both.")
	}
	return p
}

func (c *compiler) repeatFields(p *Repeat, index int) []field {
	return []field{
		{"times", func(v *value) { p.Times = c.times(v, index) }},
		{"until", func(v *value) { p.Until = c.predicate(v, placeUntil, index) }},
	}
}

// times reads a number, or an expression that gives one.
func (c *compiler) times(v *value, index int) *expr.Template {
	if v.shape == shapeNumber {
		c.integer(v, 1, MaxRepeat, 1)
	} else if !c.shaped(v, shapeString) {
		return nil
	}
	t := c.template(v, placeMatrix, index)
	if v.shape == shapeString && t != nil && t.Single() == nil {
		c.fault(v.mark, v.path, "bad_type", "Expected a number, or one expression that gives one, found a string.", "")
	}
	return t
}
