package expr

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenNumber
	tokenString
	tokenOperator // also punctuation: ( ) [ ] . , *
)

type token struct {
	kind   tokenKind
	pos    int
	text   string // the name, the operator, or the string without quotes
	number float64
}

// lexer cuts an expression into tokens. In a template it stops at the `}}` that ends it.
type lexer struct {
	src      string
	pos      int
	template bool
}

func (l *lexer) next() (token, *Error) {
	for l.pos < len(l.src) && isSpace(l.src[l.pos]) {
		l.pos++
	}
	start := l.pos
	if l.pos == len(l.src) || l.template && strings.HasPrefix(l.src[l.pos:], "}}") {
		return token{kind: tokenEnd, pos: start}, nil
	}
	c := l.src[l.pos]
	switch {
	case isNameStart(c):
		for l.pos < len(l.src) && isNamePart(l.src[l.pos]) {
			l.pos++
		}
		return token{kind: tokenName, pos: start, text: l.src[start:l.pos]}, nil
	case isDigit(c), (c == '-' || c == '+' || c == '.') && l.numberFollows():
		return l.number()
	case c == '\'':
		return l.quoted()
	}
	return l.operator()
}

func (l *lexer) operator() (token, *Error) {
	start, rest := l.pos, l.src[l.pos:]
	for _, op := range [...]string{"==", "!=", "<=", ">=", "&&", "||"} {
		if strings.HasPrefix(rest, op) {
			l.pos += len(op)
			return token{kind: tokenOperator, pos: start, text: op}, nil
		}
	}
	if strings.IndexByte("()[].,*!<>", rest[0]) >= 0 {
		l.pos++
		return token{kind: tokenOperator, pos: start, text: rest[:1]}, nil
	}
	return token{}, l.unexpected()
}

// unexpected explains the characters that people bring from other languages.
func (l *lexer) unexpected() *Error {
	r, _ := utf8.DecodeRuneInString(l.src[l.pos:])
	err := &Error{Code: BadExpression, Pos: l.pos, Msg: fmt.Sprintf("Unexpected character %q in the expression.", r)}
	switch r {
	case '"':
		err.Hint = "Strings are written in single quotes: 'text'."
	case '=':
		err.Hint = "Equality is written ==."
	case '&', '|':
		err.Hint = "The operators are && and ||."
	case '+', '-', '/', '%':
		err.Hint = "There is no arithmetic in expressions."
	case '$', '{', '}':
		err.Hint = "One ${{ }} cannot stand inside another."
	}
	return err
}

// quoted reads 'text', in which two quotes stand for one.
func (l *lexer) quoted() (token, *Error) {
	start := l.pos
	var text strings.Builder
	for l.pos++; l.pos < len(l.src); l.pos++ {
		if l.src[l.pos] != '\'' {
			text.WriteByte(l.src[l.pos])
			continue
		}
		if l.pos++; l.pos == len(l.src) || l.src[l.pos] != '\'' {
			return token{kind: tokenString, pos: start, text: text.String()}, nil
		}
		text.WriteByte('\'')
	}
	return token{}, &Error{Code: BadExpression, Pos: start, Msg: "The string is not closed.", Hint: "Add a single quote at its end."}
}

// numberFollows tells a number's sign or point from an operator.
func (l *lexer) numberFollows() bool {
	rest := l.src[l.pos+1:]
	if l.src[l.pos] == '.' {
		return rest != "" && isDigit(rest[0]) && !l.afterOperand()
	}
	return rest != "" && (isDigit(rest[0]) || rest[0] == '.') || strings.HasPrefix(rest, infinity)
}

// afterOperand reports whether a point here would dereference what stands before it.
func (l *lexer) afterOperand() bool {
	if l.pos == 0 {
		return false
	}
	c := l.src[l.pos-1]
	return isNamePart(c) || c == ')' || c == ']' || c == '*' || c == '\''
}

const infinity = "Infinity"

func (l *lexer) number() (token, *Error) {
	start := l.pos
	for l.pos++; l.pos < len(l.src); l.pos++ {
		c := l.src[l.pos]
		exponentSign := (c == '-' || c == '+') && (l.src[l.pos-1] == 'e' || l.src[l.pos-1] == 'E')
		if !isNamePart(c) && c != '.' && !exponentSign || c == '-' && !exponentSign {
			break
		}
	}
	text := l.src[start:l.pos]
	n, ok := parseNumber(text)
	if !ok {
		return token{}, &Error{Code: BadExpression, Pos: start, Msg: fmt.Sprintf("%q is not a number.", text), Hint: "Strings are written in single quotes: 'text'."}
	}
	return token{kind: tokenNumber, pos: start, number: n}, nil
}

// parseNumber reads the numbers of the language: decimal with fraction and exponent, 0x and
// 0o integers, and signed infinity. It also serves the conversion of strings to numbers.
func parseNumber(text string) (float64, bool) {
	unsigned := strings.TrimLeft(text, "+-")
	if len(text)-len(unsigned) > 1 {
		return 0, false
	}
	if unsigned == infinity {
		if strings.HasPrefix(text, "-") {
			return math.Inf(-1), true
		}
		return math.Inf(1), true
	}
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		n, err := strconv.ParseUint(digits, 16, 32)
		return float64(n), err == nil
	}
	if digits, ok := strings.CutPrefix(text, "0o"); ok {
		n, err := strconv.ParseUint(digits, 8, 32)
		return float64(n), err == nil
	}
	for i := range len(unsigned) {
		if c := unsigned[i]; !isDigit(c) && strings.IndexByte(".eE+-", c) < 0 {
			return 0, false // what Go knows and GitHub does not: 1_000, inf, 0x1p-2
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(n, 0) {
		return 0, false
	}
	return n, true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isNameStart(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
}
func isNamePart(c byte) bool { return isNameStart(c) || isDigit(c) || c == '-' }
