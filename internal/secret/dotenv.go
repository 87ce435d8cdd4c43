package secret

import (
	"fmt"
	"strings"

	"foundry/internal/redact"
)

// Assignment is one line of a .env text.
type Assignment struct {
	Key   string
	Value redact.Value
	Line  int // from 1
}

// LineError is a line of a .env text that is not an assignment. It never repeats the line.
type LineError struct {
	Line    int
	Message string
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Message) }

// ParseDotenv reads KEY=value lines: comments with #, an optional `export`, values bare, 'verbatim', or
// "with \n, \t, \", \\ and \$ escapes"; quoted values may span lines. Nothing is expanded. What
// is not an assignment is reported, and the rest is read.
func ParseDotenv(text string) ([]Assignment, []*LineError) {
	p := dotenv{rest: strings.ReplaceAll(text, "\r\n", "\n"), line: 1}
	for p.rest != "" {
		p.statement()
	}
	return p.found, p.faults
}

type dotenv struct {
	rest   string
	line   int
	found  []Assignment
	faults []*LineError
}

// statement reads one line, or as many as a quoted value spans.
func (p *dotenv) statement() {
	at := p.line
	line, _, _ := strings.Cut(p.rest, "\n")
	trimmed := strings.TrimSpace(line)
	if trimmed == "" || trimmed[0] == '#' {
		p.skipLine()
		return
	}
	key, _, ok := strings.Cut(line, "=")
	name := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(key), "export "))
	if !ok || CheckKey(name) != nil {
		p.fault(at, "this is not KEY=value with a key that may be used")
		p.skipLine()
		return
	}
	p.rest = strings.TrimLeft(p.rest[len(key)+1:], " \t")
	value, message := p.value()
	if message != "" {
		p.fault(at, message)
		return
	}
	p.found = append(p.found, Assignment{Key: name, Value: redact.Value(value), Line: at})
}

func (p *dotenv) fault(line int, message string) {
	p.faults = append(p.faults, &LineError{Line: line, Message: message})
}

// skipLine drops the rest of the line and returns it.
func (p *dotenv) skipLine() string {
	line, rest, _ := strings.Cut(p.rest, "\n")
	p.rest = rest
	p.line++
	return line
}

func (p *dotenv) value() (value, message string) {
	if p.rest == "" || p.rest[0] != '"' && p.rest[0] != '\'' {
		line := p.skipLine()
		if i := strings.Index(line, " #"); i >= 0 {
			line = line[:i]
		}
		return strings.TrimSpace(line), ""
	}
	quote := p.rest[0]
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == quote:
			p.line += strings.Count(p.rest[:i], "\n")
			p.rest = p.rest[i+1:]
			if after := strings.TrimSpace(p.skipLine()); after != "" && after[0] != '#' {
				return "", "there is text after the closing quote"
			}
			return b.String(), ""
		case c == '\\' && quote == '"' && i+1 < len(p.rest):
			i++
			b.WriteString(unescape(p.rest[i]))
		default:
			b.WriteByte(c)
		}
	}
	p.rest = ""
	return "", "the quote is not closed"
}

// unescape returns what a backslash and the byte stand for.
func unescape(c byte) string {
	switch c {
	case 'n':
		return "\n"
	case 'r':
		return "\r"
	case 't':
		return "\t"
	case '"', '\\', '$', '\'':
		return string(c)
	}
	return `\` + string(c)
}
