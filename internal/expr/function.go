package expr

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// function is one that expressions can call. A status function has ask, the others run.
type function struct {
	name     string
	min, max int
	status   bool
	ask      func(Status) bool
	run      func(ev *evaluator, pos int, args []Value) (Value, error)
}

func (f *function) arity() string {
	switch {
	case f.max == 0:
		return "no arguments"
	case f.min == f.max && f.min == 1:
		return "1 argument"
	case f.min == f.max:
		return fmt.Sprintf("%d arguments", f.min)
	case f.max == maxArguments:
		return fmt.Sprintf("at least %d argument", f.min)
	}
	return fmt.Sprintf("%d to %d arguments", f.min, f.max)
}

// functions finds a function by its name in lower case.
func functions(name string) (*function, bool) {
	switch name {
	case "contains":
		return &function{name: "contains", min: 2, max: 2, run: contains}, true
	case "startswith":
		return &function{name: "startsWith", min: 2, max: 2, run: affix(strings.HasPrefix)}, true
	case "endswith":
		return &function{name: "endsWith", min: 2, max: 2, run: affix(strings.HasSuffix)}, true
	case "format":
		return &function{name: "format", min: 1, max: maxArguments, run: format}, true
	case "join":
		return &function{name: "join", min: 1, max: 2, run: join}, true
	case "tojson":
		return &function{name: "toJSON", min: 1, max: 1, run: toJSON}, true
	case "fromjson":
		return &function{name: "fromJSON", min: 1, max: 1, run: fromJSON}, true
	case "success":
		return &function{name: "success", status: true, ask: func(s Status) bool { return s.Success }}, true
	case "failure":
		return &function{name: "failure", status: true, ask: func(s Status) bool { return s.Failure }}, true
	case "always":
		return &function{name: "always", status: true, ask: func(Status) bool { return true }}, true
	case "canceled", "cancelled":
		return &function{name: "canceled", status: true, ask: func(s Status) bool { return s.Canceled }}, true
	}
	return nil, false
}

// functionNames lists what a misspelt function may have meant.
func functionNames() []string {
	return []string{
		"contains", "startsWith", "endsWith", "format", "join", "toJSON", "fromJSON",
		"success", "failure", "always", "canceled", "cancelled",
	}
}

// contains searches a string for a string, or an array for an item that is ==.
func contains(ev *evaluator, pos int, args []Value) (Value, error) {
	in, what := args[0], args[1]
	if list, ok := in.([]any); ok {
		for _, item := range list {
			if err := ev.spend(pos, size(item)+size(what)); err != nil {
				return nil, err
			}
			if equal(item, what) {
				return true, nil
			}
		}
		return false, nil
	}
	return affix(strings.Contains)(ev, pos, args)
}

// affix is a test on two strings without regard to case; on arrays and objects it is false.
func affix(test func(s, part string) bool) func(*evaluator, int, []Value) (Value, error) {
	return func(ev *evaluator, pos int, args []Value) (Value, error) {
		if !primitive(args[0]) || !primitive(args[1]) {
			return false, nil
		}
		s, part := toString(args[0]), toString(args[1])
		if err := ev.spend(pos, len(s)+len(part)); err != nil {
			return nil, err
		}
		return test(fold(s), fold(part)), nil
	}
}

// format replaces {0}, {1}, …; {{ and }} stand for one brace.
func format(ev *evaluator, pos int, args []Value) (Value, error) {
	text := toString(args[0])
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		piece := text[i : i+1]
		switch {
		case strings.HasPrefix(text[i:], "{{") || strings.HasPrefix(text[i:], "}}"):
			i++
		case text[i] == '{':
			n, end, ok := placeholder(text[i:])
			if !ok {
				return nil, failed(pos, "format: the text has a { that is neither {{ nor a number in braces, as in {0}.")
			}
			if n+1 >= len(args) {
				return nil, failed(pos, "format: the text asks for {%d}, but there are only %d values.", n, len(args)-1)
			}
			piece = toString(args[n+1])
			i += end - 1
		case text[i] == '}':
			return nil, failed(pos, "format: the text has a single }; write }} for a brace.")
		}
		if err := ev.made(pos, out.Len()+len(piece), len(piece)); err != nil {
			return nil, err
		}
		out.WriteString(piece)
	}
	return out.String(), nil
}

// placeholder reads "{12}…" and returns the number and the length of the placeholder.
func placeholder(text string) (n, end int, ok bool) {
	for end = 1; end < len(text) && isDigit(text[end]) && end < 5; end++ {
		n = n*10 + int(text[end]-'0')
	}
	return n, end + 1, end > 1 && end < len(text) && text[end] == '}'
}

// join writes the items of an array with a separator, by default a comma; a string is its
// own result.
func join(ev *evaluator, pos int, args []Value) (Value, error) {
	list, ok := args[0].([]any)
	if !ok {
		if primitive(args[0]) {
			return toString(args[0]), nil
		}
		return "", nil
	}
	separator := ","
	if len(args) == 2 && primitive(args[1]) {
		separator = toString(args[1])
	}
	var out strings.Builder
	for i, item := range list {
		piece := toString(item)
		if i > 0 {
			piece = separator + piece
		}
		if err := ev.made(pos, out.Len()+len(piece), 1+len(piece)); err != nil {
			return nil, err
		}
		out.WriteString(piece)
	}
	return out.String(), nil
}

// toJSON writes a value as JSON. NaN and infinity, which only literals can be, have none.
func toJSON(ev *evaluator, pos int, args []Value) (Value, error) {
	var w jsonWriter
	err := w.value(args[0], "")
	if errors.Is(err, errNotJSON) {
		return nil, failed(pos, "toJSON: the value has a number that JSON does not have.")
	}
	size := w.out.Len()
	if errors.Is(err, errTooLarge) {
		size = MaxSize + 1
	}
	return w.out.String(), ev.made(pos, size, size)
}

// fromJSON reads one JSON value of at most MaxSize bytes and MaxDepth levels.
func fromJSON(ev *evaluator, pos int, args []Value) (Value, error) {
	text := toString(args[0])
	if err := ev.made(pos, len(text), len(text)); err != nil {
		return nil, err
	}
	if strings.TrimSpace(text) == "" {
		return nil, failed(pos, "fromJSON: the text is empty.")
	}
	dec := json.NewDecoder(strings.NewReader(text))
	var v Value
	if err := dec.Decode(&v); err != nil {
		return nil, badJSON(pos, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, failed(pos, "fromJSON: there is more text after the JSON value, at character %d.", dec.InputOffset()+1)
	}
	if depth(v) > MaxDepth {
		return nil, failed(pos, "fromJSON: the value is nested more than %d levels deep.", MaxDepth)
	}
	return v, nil
}

// badJSON says where the text is wrong; it does not quote it, since it may be output that
// has to be masked.
func badJSON(pos int, err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return failed(pos, "fromJSON: the text is not JSON, it is wrong at character %d.", syntax.Offset)
	}
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return failed(pos, "fromJSON: a number is out of range.")
	}
	return failed(pos, "fromJSON: the text is not JSON, it ends too early.")
}

func depth(v Value) int {
	deepest := 0
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			deepest = max(deepest, depth(item))
		}
	case map[string]any:
		for _, item := range v {
			deepest = max(deepest, depth(item))
		}
	default:
		return 0
	}
	return deepest + 1
}
