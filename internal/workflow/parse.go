package workflow

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxEntries bounds one mapping or list: the library needs quadratic time for block mappings.
const maxEntries = 1024

// report collects diagnostics, of each severity the first maxDiagnostics.
type report struct {
	src              *source
	list             Diagnostics
	errors, warnings int // found, even if not collected
}

// full reports whether further errors are not collected, so that readers can stop.
func (r *report) full() bool { return r.errors >= maxDiagnostics }

// fault adds an error.
func (r *report) fault(at mark, path, code, message, hint string) {
	if r.errors++; r.errors <= maxDiagnostics {
		r.add(SeverityError, r.src.resolve(at), path, code, message, hint)
	}
}

// warn adds a warning.
func (r *report) warn(at mark, path, code, message, hint string) {
	if r.warnings++; r.warnings <= maxDiagnostics {
		r.add(SeverityWarning, r.src.resolve(at), path, code, message, hint)
	}
}

func (r *report) add(severity Severity, at span, path, code, message, hint string) {
	r.list = append(r.list, Diagnostic{
		Code: code, Severity: severity, Message: clip(message), Hint: clip(hint), Path: path,
		Line: at.line, Column: at.column, EndLine: at.endLine, EndColumn: at.endColumn,
	})
}

// clip cuts the middle out of a sentence that quotes something very long.
func clip(sentence string) string {
	const head, tail = 240, 80
	runes := []rune(sentence)
	if len(runes) <= head+tail {
		return sentence
	}
	return string(runes[:head]) + " … " + string(runes[len(runes)-tail:])
}

// parse reads the text into a tree, or reports why not and returns nil.
func parse(text string, r *report) *value {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		line, column := invalidAt(text)
		r.fault(mark{line, column, 1}, "", "not_yaml", "The text is not UTF-8, or has a NUL character in it.", "Save the file as UTF-8 text.")
		return nil
	}
	var file *ast.File
	err := guarded(func() (err error) {
		tokens := lexer.Tokenize(text)
		if measure(tokens, r) {
			file, err = parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
		}
		return err
	})
	if err != nil {
		syntaxFault(err, r)
	}
	if file == nil || err != nil {
		return nil
	}
	root := onlyDocument(file, r)
	if root == nil {
		return nil
	}
	b := treeBuilder{report: r}
	v := b.value(root, "")
	if v.shape != shapeMap && v.shape != shapeInvalid {
		r.fault(v.mark, "", "not_yaml", fmt.Sprintf("A workflow is a mapping with name and nodes, not %s.", v.shape), "")
		return nil
	}
	return v
}

// invalidAt is the position of the first byte that is not text.
func invalidAt(text string) (line, column int) {
	line, column = 1, 1
	for i, r := range text {
		if r == 0 || r == utf8.RuneError && !utf8.ValidString(text[i:min(i+3, len(text))]) {
			break
		}
		if column++; r == '\n' {
			line, column = line+1, 1
		}
	}
	return line, column
}

// guarded calls the library, which panics on some broken texts.
func guarded(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the YAML parser gave up: %v", r)
		}
	}()
	return call()
}

// syntaxError is what the library's errors with a position have in common.
type syntaxError interface {
	GetToken() *token.Token
	GetMessage() string
}

func syntaxFault(err error, r *report) {
	at, message := mark{}, "The text is not YAML."
	if e, ok := err.(syntaxError); ok {
		if tk := e.GetToken(); tk != nil && tk.Position != nil {
			at = mark{line: tk.Position.Line, column: tk.Position.Column}
		}
		message = fmt.Sprintf("The text is not YAML: %s.", strings.TrimSuffix(e.GetMessage(), "."))
	}
	hint := ""
	if strings.HasPrefix(r.src.at(at.line, 1), "\t") || strings.Contains(message, "'\t'") {
		message = strings.ReplaceAll(message, "'\t'", "tab")
		hint = "Indent with spaces, not with tabs."
	}
	r.fault(at, "", "not_yaml", message, hint)
}

// onlyDocument returns the content of a file of exactly one document.
func onlyDocument(file *ast.File, r *report) ast.Node {
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if doc.Body.Type() == ast.DirectiveType {
			r.fault(mark{}, "", "not_yaml", "YAML directives (%) are not part of the language.", "Remove the line.")
			return nil
		}
		if root != nil {
			at := mark{}
			if doc.Start != nil {
				at = mark{line: doc.Start.Position.Line, column: doc.Start.Position.Column}
			}
			r.fault(at, "", "documents", "A text holds one workflow, and here begins a second document.", "Put it into a file of its own.")
			return nil
		}
		root = doc.Body
	}
	if root == nil {
		r.fault(mark{}, "", "not_yaml", "The text is empty.", "A workflow has at least a name and nodes.")
	}
	return root
}

// measure refuses, before the recursive parser sees it, a text that is nested too deeply or
// has a mapping or list with too many entries. Block levels are told by their columns, as
// YAML does.
func measure(tokens token.Tokens, r *report) bool {
	var block, flow []level
	for i, tk := range tokens {
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow = append(flow, level{})
		case token.MappingEndType, token.SequenceEndType:
			flow = flow[:max(len(flow)-1, 0)]
		case token.CollectEntryType:
			if len(flow) > 0 {
				flow[len(flow)-1].entries++
			}
		case token.MappingValueType, token.SequenceEntryType, token.MappingKeyType:
			if len(flow) > 0 {
				break
			}
			column := tk.Position.Column
			if tk.Type == token.MappingValueType && i > 0 {
				column = tokens[i-1].Position.Column // that of the key
			}
			block = enter(block, column)
		}
		at := mark{line: tk.Position.Line, column: tk.Position.Column}
		if len(block)+len(flow) > MaxDepth {
			r.fault(at, "", "too_large", fmt.Sprintf("The text is nested more than %d levels deep.", MaxDepth), "")
			return false
		}
		if crowded(block) || crowded(flow) {
			r.fault(at, "", "too_large", fmt.Sprintf("One mapping or list has more than %d entries.", maxEntries), fmt.Sprintf("A workflow has at most %d nodes.", MaxNodes))
			return false
		}
	}
	return true
}

func crowded(levels []level) bool {
	return len(levels) > 0 && levels[len(levels)-1].entries > maxEntries
}

// level is a mapping or list that is open, and what it has so far.
type level struct {
	column, entries int
}

func enter(levels []level, column int) []level {
	for len(levels) > 0 && levels[len(levels)-1].column > column {
		levels = levels[:len(levels)-1]
	}
	if top := len(levels) - 1; top >= 0 && levels[top].column == column {
		levels[top].entries++
		return levels
	}
	return append(levels, level{column: column, entries: 1})
}
