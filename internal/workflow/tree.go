package workflow

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// shape is the kind of a value of the tree.
type shape int

const (
	shapeNull shape = iota
	shapeBool
	shapeNumber
	shapeString
	shapeMap
	shapeList
	shapeInvalid // a fault was reported; readers pass over it
)

// String names the shape with its article, for messages.
func (s shape) String() string {
	return [...]string{"nothing", "true or false", "a number", "a string", "a mapping", "a list", "nothing"}[s]
}

// value is a part of the text: YAML 1.2's core schema without anchors, tags and merges.
type value struct {
	shape   shape
	mark    mark
	path    string // JSON pointer
	text    string // of a scalar: what a string says, anything else as written
	block   bool   // a string written with | or >
	number  float64
	yes     bool    // of a bool
	entries []entry // of a map, in text order, each key once
	items   []*value
}

type entry struct {
	key   string
	mark  mark
	path  string
	value *value
}

// entry returns the entry with a key of a map, or nil.
func (v *value) entry(key string) *entry {
	for i := range v.entries {
		if v.entries[i].key == key {
			return &v.entries[i]
		}
	}
	return nil
}

// data converts to the values of package expr.
func (v *value) data() any {
	switch v.shape {
	case shapeBool:
		return v.yes
	case shapeNumber:
		return v.number
	case shapeString:
		return v.text
	case shapeMap:
		object := make(map[string]any, len(v.entries))
		for _, e := range v.entries {
			object[e.key] = e.value.data()
		}
		return object
	case shapeList:
		list := make([]any, len(v.items))
		for i, item := range v.items {
			list[i] = item.data()
		}
		return list
	case shapeNull, shapeInvalid:
	}
	return nil
}

// treeBuilder turns the library's syntax tree into values and reports what the language
// does not have.
type treeBuilder struct {
	report *report
}

func (b *treeBuilder) value(n ast.Node, path string) *value {
	switch n := n.(type) {
	case *ast.MappingNode:
		return b.mapping(n.Values, b.start(n), path)
	case *ast.MappingValueNode:
		return b.mapping([]*ast.MappingValueNode{n}, b.start(n), path)
	case *ast.SequenceNode:
		v := &value{shape: shapeList, mark: b.start(n), path: path}
		for i, item := range n.Values {
			v.items = append(v.items, b.value(item, path+"/"+strconv.Itoa(i)))
		}
		return v
	case *ast.LiteralNode:
		pos := n.Start.Position
		v := &value{shape: shapeString, mark: mark{line: pos.Line, column: pos.Column}, path: path, text: n.Value.Value, block: true}
		return b.storable(v)
	case *ast.AnchorNode:
		b.report.fault(b.start(n), path, "alias", "Anchors (&) are not part of the language.", "Write the value where it is needed.")
	case *ast.AliasNode:
		b.report.fault(b.start(n), path, "alias", "Aliases (*) are not part of the language.", "Write the value where it is needed; a string that starts with * needs quotes.")
	case *ast.TagNode:
		b.report.fault(b.start(n), path, "tag", "Tags (!) are not part of the language.", "A string or an expression that starts with ! needs quotes or ${{ }}.")
	case ast.ScalarNode:
		return b.scalar(n, path)
	default:
		b.report.fault(b.start(n), path, "not_yaml", "This is not a value.", "")
	}
	return &value{shape: shapeInvalid, mark: b.start(n), path: path}
}

// start is the position of a node, to the end of its line.
func (b *treeBuilder) start(n ast.Node) mark {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return b.start(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return b.start(n.Key)
	case nil:
		return mark{}
	}
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return mark{}
	}
	return mark{line: tk.Position.Line, column: tk.Position.Column}
}

func (b *treeBuilder) mapping(values []*ast.MappingValueNode, at mark, path string) *value {
	v := &value{shape: shapeMap, mark: at, path: path}
	lines := make(map[string]int, len(values)) // of the keys so far
	for _, n := range values {
		e, ok := b.entry(n, path)
		if !ok {
			continue
		}
		if line, twice := lines[e.key]; twice {
			b.report.fault(e.mark, e.path, "duplicate_key", fmt.Sprintf("The key %q is here twice.", e.key), fmt.Sprintf("The first is in line %d.", line))
			continue
		}
		lines[e.key] = e.mark.line
		v.entries = append(v.entries, e)
	}
	return v
}

func (b *treeBuilder) entry(n *ast.MappingValueNode, path string) (entry, bool) {
	if n.Key.IsMergeKey() {
		b.report.fault(b.start(n.Key), path, "alias", "Merge keys (<<) are not part of the language.", "Write the keys where they are needed.")
		return entry{}, false
	}
	switch n.Key.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		b.value(n.Key, path)
		return entry{}, false
	}
	scalar, ok := n.Key.(ast.ScalarNode)
	if !ok {
		b.report.fault(b.start(n.Key), path, "bad_key", "A key must be a plain word.", "")
		return entry{}, false
	}
	key := b.scalar(scalar, path)
	if key.shape == shapeInvalid {
		return entry{}, false
	}
	e := entry{key: key.text, mark: key.mark, path: path + "/" + escapePointer(key.text)}
	e.value = b.value(n.Value, e.path)
	return e, true
}

func escapePointer(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

// scalar reads what is on one line, as a rule. The library resolves plain words by YAML
// 1.1 in places (010, 1_000), so they are resolved here, by the core schema of 1.2.
func (b *treeBuilder) scalar(n ast.ScalarNode, path string) *value {
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return &value{shape: shapeNull, path: path}
	}
	v := &value{shape: shapeString, path: path, text: tk.Value}
	v.mark = mark{line: tk.Position.Line, column: tk.Position.Column}
	switch tk.Type {
	case token.ImplicitNullType:
		v.shape, v.text, v.mark.width = shapeNull, "", 1
		return v
	case token.SingleQuoteType, token.DoubleQuoteType:
		v.mark.width = toQuote
	default:
		v.resolve()
		v.mark.width = max(utf8.RuneCountInString(tk.Value), 1)
	}
	return b.storable(v)
}

// resolve gives a plain word its type.
func (v *value) resolve() {
	switch v.text {
	case "", "~", "null", "Null", "NULL":
		v.shape = shapeNull
	case "true", "True", "TRUE":
		v.shape, v.yes = shapeBool, true
	case "false", "False", "FALSE":
		v.shape = shapeBool
	default:
		if n, ok := coreNumber(v.text); ok {
			v.shape, v.number = shapeNumber, n
		}
	}
}

// coreNumber reads the finite numbers of the core schema.
func coreNumber(text string) (float64, bool) {
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		n, err := strconv.ParseUint(digits, 16, 64)
		return float64(n), err == nil
	}
	if digits, ok := strings.CutPrefix(text, "0o"); ok {
		n, err := strconv.ParseUint(digits, 8, 64)
		return float64(n), err == nil
	}
	digits := false
	for i := range len(text) {
		digits = digits || '0' <= text[i] && text[i] <= '9'
		if !strings.ContainsRune("0123456789+-.eE", rune(text[i])) {
			return 0, false
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil && digits
}

// storable refuses strings that a database or an environment cannot hold.
func (b *treeBuilder) storable(v *value) *value {
	if strings.ContainsRune(v.text, 0) {
		b.report.fault(v.mark, v.path, "bad_text", "The text has a NUL character in it.", "")
		v.shape = shapeInvalid
	}
	return v
}
