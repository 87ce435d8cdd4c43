package expr

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"foundry/internal/spelling"
)

// node is a part of the syntax tree; each kind knows its place in the text.
type node interface{ at() int }

type (
	literal struct {
		pos   int
		value Value
	}
	contextRef struct {
		pos  int
		name string // as written
	}
	// index is `of.name`, `of['name']` and `of[expr]`.
	index struct {
		pos int // of the name or of the expression in brackets
		of  node
		key node
	}
	// filter is `of.*` and `of[*]`.
	filter struct {
		pos int
		of  node
	}
	call struct {
		pos  int
		fn   *function
		args []node
	}
	not struct {
		pos int
		of  node
	}
	binary struct {
		pos         int
		op          string
		left, right node
	}
)

func (n *literal) at() int    { return n.pos }
func (n *contextRef) at() int { return n.pos }
func (n *index) at() int      { return n.pos }
func (n *filter) at() int     { return n.pos }
func (n *call) at() int       { return n.pos }
func (n *not) at() int        { return n.pos }
func (n *binary) at() int     { return n.pos }

// Parse reads one expression, without `${{ }}`. Unknown functions and wrong numbers of
// arguments are refused here; contexts and status functions by Check, which knows the place.
func Parse(src string) (*Expr, *Error) {
	p := parser{lex: lexer{src: src}}
	root, err := p.whole()
	if err != nil {
		return nil, err
	}
	return &Expr{root: root, source: strings.TrimSpace(src)}, nil
}

// parser is a recursive descent; depth bounds it.
type parser struct {
	lex   lexer
	tok   token
	depth int
}

// whole reads an expression up to its end, where lex.pos then stands.
func (p *parser) whole() (node, *Error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.kind == tokenEnd {
		return nil, p.fault("The expression is empty.", "")
	}
	root, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenEnd {
		return nil, p.fault(fmt.Sprintf("Unexpected %s after the end of the expression.", p.found()), "")
	}
	return root, nil
}

func (p *parser) advance() *Error {
	tok, err := p.lex.next()
	p.tok = tok
	return err
}

func (p *parser) fault(msg, hint string) *Error {
	return &Error{Code: BadExpression, Pos: p.tok.pos, Msg: msg, Hint: hint}
}

// found names the present token for a message.
func (p *parser) found() string {
	switch p.tok.kind {
	case tokenEnd:
		return "end"
	case tokenNumber:
		return "number"
	case tokenString:
		return "string"
	case tokenName, tokenOperator:
	}
	return fmt.Sprintf("%q", p.tok.text)
}

func (p *parser) is(operator string) bool {
	return p.tok.kind == tokenOperator && p.tok.text == operator
}

// expect takes an operator or says what is missing.
func (p *parser) expect(operator, hint string) *Error {
	if !p.is(operator) {
		return p.fault(fmt.Sprintf("Expected %q, found %s.", operator, p.found()), hint)
	}
	return p.advance()
}

// descend counts a level of nesting; the caller gives it back with p.depth--.
func (p *parser) descend() *Error {
	if p.depth++; p.depth > MaxDepth {
		return p.fault(fmt.Sprintf("The expression is nested more than %d levels deep.", MaxDepth), "")
	}
	return nil
}

// precedence lists the binary operators, the loosest first.
func precedence(level int) []string {
	switch level {
	case 0:
		return []string{"||"}
	case 1:
		return []string{"&&"}
	case 2:
		return []string{"==", "!="}
	case 3:
		return []string{"<", "<=", ">", ">="}
	}
	return nil
}

func (p *parser) binary(level int) (node, *Error) {
	ops := precedence(level)
	if ops == nil {
		return p.unary()
	}
	left, err := p.binary(level + 1)
	if err != nil {
		return nil, err
	}
	for links := 0; p.tok.kind == tokenOperator && slices.Contains(ops, p.tok.text); links++ {
		op := p.tok
		if links == maxChain {
			return nil, p.fault(fmt.Sprintf("More than %d operators in a row.", maxChain), "")
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		right, err := p.binary(level + 1)
		if err != nil {
			return nil, err
		}
		left = &binary{pos: op.pos, op: op.text, left: left, right: right}
	}
	return left, nil
}

// maxChain bounds operators, accesses and filters that follow each other on one level, and
// with it the depth of the tree that the evaluation walks down.
const maxChain = 1000

func (p *parser) unary() (node, *Error) {
	if err := p.descend(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if !p.is("!") {
		return p.access()
	}
	pos := p.tok.pos
	if err := p.advance(); err != nil {
		return nil, err
	}
	of, err := p.unary()
	if err != nil {
		return nil, err
	}
	return &not{pos: pos, of: of}, nil
}

// access reads an operand and the `.name`, `[…]` and `.*` behind it.
func (p *parser) access() (node, *Error) {
	of, err := p.primary()
	for links := 0; err == nil; links++ {
		if links == maxChain {
			return nil, p.fault(fmt.Sprintf("More than %d properties in a row.", maxChain), "")
		}
		switch {
		case p.is("."):
			of, err = p.property(of)
		case p.is("["):
			of, err = p.brackets(of)
		default:
			return of, nil
		}
	}
	return nil, err
}

func (p *parser) property(of node) (node, *Error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	tok := p.tok
	switch {
	case p.is("*"):
		return &filter{pos: tok.pos, of: of}, p.advance()
	case tok.kind == tokenName:
		return &index{pos: tok.pos, of: of, key: &literal{pos: tok.pos, value: tok.text}}, p.advance()
	}
	return nil, p.fault(fmt.Sprintf("Expected the name of a property after the point, found %s.", p.found()),
		"Names with other characters are written in brackets: ['a name'].")
}

func (p *parser) brackets(of node) (node, *Error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	tok := p.tok
	if p.is("*") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		return &filter{pos: tok.pos, of: of}, p.expect("]", "")
	}
	key, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	return &index{pos: tok.pos, of: of, key: key}, p.expect("]", "")
}

func (p *parser) primary() (node, *Error) {
	tok := p.tok
	switch {
	case tok.kind == tokenNumber:
		return &literal{pos: tok.pos, value: tok.number}, p.advance()
	case tok.kind == tokenString:
		return &literal{pos: tok.pos, value: tok.text}, p.advance()
	case tok.kind == tokenName:
		return p.name()
	case p.is("("):
		if err := p.advance(); err != nil {
			return nil, err
		}
		inner, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		return inner, p.expect(")", "")
	}
	return nil, p.fault(fmt.Sprintf("Expected a value, found %s.", p.found()), "")
}

// name reads a keyword, a call or a context. Keywords are the only names with a fixed case.
func (p *parser) name() (node, *Error) {
	tok := p.tok
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.is("(") {
		return p.call(tok)
	}
	switch tok.text {
	case "null":
		return &literal{pos: tok.pos, value: nil}, nil
	case "true", "false":
		return &literal{pos: tok.pos, value: tok.text == "true"}, nil
	case "NaN":
		return &literal{pos: tok.pos, value: math.NaN()}, nil
	case infinity:
		return &literal{pos: tok.pos, value: math.Inf(1)}, nil
	}
	return &contextRef{pos: tok.pos, name: tok.text}, nil
}

func (p *parser) call(name token) (node, *Error) {
	fn, ok := functions(strings.ToLower(name.text))
	if !ok {
		err := &Error{Code: UnknownFunction, Pos: name.pos, Msg: fmt.Sprintf("Unknown function %q.", name.text)}
		if near := spelling.Nearest(name.text, functionNames()); near != "" {
			err.Hint = fmt.Sprintf("Did you mean %q?", near)
		}
		return nil, err
	}
	c := &call{pos: name.pos, fn: fn}
	if err := p.advance(); err != nil {
		return nil, err
	}
	for !p.is(")") {
		if len(c.args) > 0 {
			if err := p.expect(",", "Arguments are separated by commas."); err != nil {
				return nil, err
			}
		}
		arg, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		if c.args = append(c.args, arg); len(c.args) > maxArguments {
			return nil, p.fault(fmt.Sprintf("A call has at most %d arguments.", maxArguments), "")
		}
	}
	if len(c.args) < fn.min || len(c.args) > fn.max {
		return nil, &Error{Code: BadExpression, Pos: name.pos, Msg: fmt.Sprintf("%s takes %s, not %d.", fn.name, fn.arity(), len(c.args))}
	}
	return c, p.advance()
}

const maxArguments = 255
