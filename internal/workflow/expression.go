package workflow

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"foundry/internal/expr"
)

// place is where an expression stands, which decides what it can see.
type place int

const (
	placeWorkflowEnv place = iota
	placeNodeEnv
	placeIf
	placeSet
	placePause  // the message of an approval, the time of a wait
	placeMatrix // the values of a matrix, the number of iterations
	placeUntil
	placeOutputs
	placeGroup // the name of a concurrency group
)

// scope is what a place of a node can see; nil is none's. Node values of env are not part of it: a command sees
// them, the worker does not.
func (p place) scope(n *Node) expr.Scope {
	contexts := []string{"inputs", "nodes", "env", "execution"}
	switch p {
	case placeWorkflowEnv, placeGroup:
		return expr.Scope{Contexts: []string{"inputs", "execution"}}
	case placeIf:
		return expr.Scope{Contexts: contexts, Status: true}
	case placeUntil:
		return expr.Scope{Contexts: append(contexts, "repeat")}
	case placeNodeEnv, placeSet, placePause:
		if n != nil && n.Matrix != nil {
			contexts = append(contexts, "matrix")
		}
		if n != nil && n.Repeat != nil {
			contexts = append(contexts, "repeat")
		}
	case placeMatrix, placeOutputs:
	}
	return expr.Scope{Contexts: contexts}
}

// at is the place of n bytes at an offset of a scalar's text. Scalars may be written with
// escapes, folded or indented, so the place is found through what cannot be written
// otherwise: the nth ${{ of the text is the nth of the source.
func (c *compiler) at(v *value, offset, n int) mark {
	const open = "${{"
	offset = min(offset, len(v.text))
	if last := strings.LastIndex(v.text[:min(offset+len(open), len(v.text))], open); last >= 0 {
		nth := strings.Count(v.text[:last], open)
		line, column, ok := c.src.find(v.mark.line, v.mark.column, open, nth)
		if !ok {
			return v.mark
		}
		return c.follow(line, column, v.text[last:offset], n)
	}
	line, column := c.src.within(v.mark.line, v.mark.column)
	if v.block {
		line, column = line+1, 1
	} else if strings.IndexByte(`'"`, (c.src.at(line, column) + " ")[0]) >= 0 {
		column++
	}
	return c.follow(line, column, v.text[:offset], n)
}

// follow walks from a position over text, as long as the source reads like it; across
// lines it skips the indentation.
func (c *compiler) follow(line, column int, text string, n int) mark {
	lines := strings.Split(text, "\n")
	for i, part := range lines {
		here := c.src.at(line, column)
		if !strings.HasPrefix(here, part) {
			trimmed := strings.TrimLeft(here, " \t")
			if !strings.HasPrefix(trimmed, part) {
				return mark{line: line, column: column}
			}
			column += len(here) - len(trimmed)
		}
		if i == len(lines)-1 {
			return mark{line, column + utf8.RuneCountInString(part), n}
		}
		if line == len(c.src.lines) {
			break
		}
		line, column = line+1, 1
	}
	return mark{line: line, column: column}
}

// exprFault reports a fault of an expression that begins at base in v's text, on the word
// or character where it is.
func (c *compiler) exprFault(v *value, base int, err *expr.Error) {
	pos := min(base+err.Pos, len(v.text))
	word := leadingKey.FindString(v.text[pos:])
	c.fault(c.at(v, pos, max(len(word), 1)), v.path, string(err.Code), err.Msg, err.Hint)
}

// template reads a string with expressions, or a number or boolean as it is.
func (c *compiler) template(v *value, p place, node int) *expr.Template {
	switch v.shape {
	case shapeString:
		t, err := expr.ParseTemplate(v.text)
		if err != nil {
			c.exprFault(v, 0, err)
			return nil
		}
		c.sites = append(c.sites, site{v: v, place: p, node: node, found: t})
		return t
	case shapeNumber, shapeBool:
		if p == placeNodeEnv || p == placeWorkflowEnv {
			return expr.Constant(v.text, v.text) // an environment has strings only; 1.10 stays 1.10
		}
		return expr.Constant(v.data(), v.text)
	case shapeNull, shapeMap, shapeList:
		hint := "Write '' for an empty string."
		if v.shape != shapeNull {
			hint = "Write it as JSON in a string; fromJSON() reads it."
		}
		c.fault(v.mark, v.path, "bad_type", fmt.Sprintf("Expected a string, a number, true or false, found %s.", v.shape), hint)
	case shapeInvalid:
	}
	return nil
}

// condition reads an `if`: an expression with or without ${{ }}.
func (c *compiler) condition(v *value, node int) *expr.Expr { return c.predicate(v, placeIf, node) }

// predicate reads an expression with or without ${{ }}.
func (c *compiler) predicate(v *value, p place, node int) *expr.Expr {
	switch v.shape {
	case shapeString, shapeBool, shapeNumber:
	case shapeNull, shapeMap, shapeList:
		hint := ""
		if v.shape == shapeNull {
			hint = "An expression that starts with ! needs quotes or ${{ }}." // YAML takes it for a tag
		}
		c.fault(v.mark, v.path, "bad_type", fmt.Sprintf("Expected an expression, found %s.", v.shape), hint)
		return nil
	case shapeInvalid:
		return nil
	}
	base := len(v.text) - len(strings.TrimLeft(v.text, " \t\n"))
	text := strings.TrimSpace(v.text)
	e, err := parseCondition(text)
	if err != nil {
		c.exprFault(v, base, err)
		return nil
	}
	c.sites = append(c.sites, site{v: v, place: p, node: node, found: e, base: base})
	return e
}

func parseCondition(text string) (*expr.Expr, *expr.Error) {
	if !strings.Contains(text, "${{") {
		return expr.Parse(text)
	}
	t, err := expr.ParseTemplate(text)
	if err != nil {
		return nil, err
	}
	if e := t.Single(); e != nil {
		return e, nil
	}
	return nil, &expr.Error{
		Code: expr.BadExpression, Pos: strings.Index(text, "${{"),
		Msg:  "A condition is one expression; text around ${{ }} would always be true.",
		Hint: "Put everything inside one ${{ }}.",
	}
}

// env reads environment variables.
func (c *compiler) env(v *value, p place, node int) []EnvVar {
	if !c.shaped(v, shapeMap) {
		return nil
	}
	var vars []EnvVar
	for _, e := range v.entries {
		switch {
		case c.full():
			return vars
		case !validVariable.MatchString(e.key):
			c.fault(e.mark, e.path, "bad_key", fmt.Sprintf("%q cannot be the name of a variable.", e.key), "A name begins with a letter or _ and goes on with letters, digits and _.")
		case len(e.key) > MaxKey:
			c.fault(e.mark, e.path, "too_large", fmt.Sprintf("A name has at most %d characters; this one has %d.", MaxKey, len(e.key)), "")
		case strings.HasPrefix(e.key, "FOUNDRY_"):
			c.fault(e.mark, e.path, "reserved_name", fmt.Sprintf("The name %q is reserved: FOUNDRY_ is set by Foundry.", e.key), "Choose another prefix.")
		default:
			if t := c.template(e.value, p, node); t != nil {
				vars = append(vars, EnvVar{Name: e.key, Value: t})
			}
		}
	}
	return vars
}

// outputs reads named values.
func (c *compiler) outputs(v *value, p place, node int) []Output {
	if !c.shaped(v, shapeMap) {
		return nil
	}
	var list []Output
	for _, e := range v.entries {
		if c.full() || !c.key(e) {
			continue
		}
		if t := c.template(e.value, p, node); t != nil {
			list = append(list, Output{Name: e.key, Value: t})
		}
	}
	return list
}
