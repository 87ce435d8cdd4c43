package expr

import (
	"reflect"
	"slices"
	"strings"
)

// Template is text with `${{ }}` in it. It is immutable and safe for concurrent use.
type Template struct {
	parts  []part
	source string
}

// part is literal text or, where expr is set, an expression.
type part struct {
	text string
	expr *Expr
}

// Constant is a template that evaluates to v whatever it looks like; text is what String
// returns.
func Constant(v Value, text string) *Template {
	return &Template{source: text, parts: []part{{expr: &Expr{root: &literal{value: v}, source: text}}}}
}

// ParseTemplate reads text in which each `${{ }}` is an expression. Positions of errors
// count from the beginning of the text.
func ParseTemplate(text string) (*Template, *Error) {
	t := &Template{source: text}
	for at := 0; at < len(text); {
		open := strings.Index(text[at:], "${{")
		if open < 0 {
			t.parts = append(t.parts, part{text: text[at:]})
			break
		}
		if open > 0 {
			t.parts = append(t.parts, part{text: text[at : at+open]})
		}
		start := at + open
		p := parser{lex: lexer{src: text, pos: start + len("${{"), template: true}}
		root, err := p.whole()
		if err != nil {
			return nil, err
		}
		end := p.tok.pos
		if end == len(text) {
			return nil, &Error{Code: BadExpression, Pos: start, Msg: "The expression is not closed.", Hint: "Add }} at its end."}
		}
		e := &Expr{root: root, source: strings.TrimSpace(text[start+len("${{") : end])}
		t.parts = append(t.parts, part{expr: e})
		at = end + len("}}")
	}
	return t, nil
}

// String returns the text of the template as it was given.
func (t *Template) String() string { return t.source }

// Equal reports whether two templates have the same value wherever they are evaluated, as far as their texts tell. nil equals nil only.
func (t *Template) Equal(other *Template) bool {
	if t == nil || other == nil {
		return t == other
	}
	return slices.EqualFunc(t.parts, other.parts, func(a, b part) bool {
		if a.expr == nil || b.expr == nil {
			return a == b
		}
		x, constant := a.expr.root.(*literal)
		y, too := b.expr.root.(*literal)
		if constant && too {
			return reflect.DeepEqual(x.value, y.value)
		}
		return constant == too && a.expr.source == b.expr.source
	})
}

// Single returns the expression of a template that is exactly one `${{ }}`, else nil.
func (t *Template) Single() *Expr {
	if len(t.parts) == 1 {
		return t.parts[0].expr
	}
	return nil
}

// Eval computes the value: that of the expression, with its type, when the template is
// exactly one `${{ }}`, else a string of at most MaxSize bytes. The error is an *Error with
// code Failed.
func (t *Template) Eval(env Env) (Value, error) {
	if e := t.Single(); e != nil {
		return e.Eval(env)
	}
	ev := evaluator{env: env}
	var out strings.Builder
	for _, p := range t.parts {
		text := p.text
		pos := 0
		if p.expr != nil {
			v, err := ev.eval(p.expr.root)
			if err != nil {
				return nil, err
			}
			text, pos = toString(plain(v)), p.expr.root.at()
		}
		if err := ev.made(pos, out.Len()+len(text), len(text)); err != nil {
			return nil, err
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

// EvalString is Eval, with the value converted as in text: null is "", objects and arrays
// are "Object" and "Array".
func (t *Template) EvalString(env Env) (string, error) {
	v, err := t.Eval(env)
	return toString(v), err
}
