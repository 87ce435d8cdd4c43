package workflow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"foundry/internal/errs"
	"foundry/internal/expr"
	"foundry/internal/spelling"
)

// ValidateInputs checks the inputs of an execution, a JSON object of at most MaxInputs
// bytes; nothing and null count as an empty one. It returns a value for every declared
// input: what was given, else its default, else nil. An input that is given as null is not
// given. NUL characters, which the database cannot hold, become U+FFFD. Objects and arrays
// that are defaults belong to the definition: read only.
//
// Details are at most 100 sentences with JSON pointers into the request, like
// /inputs/depth; with any, the values are nil.
func (d *Definition) ValidateInputs(raw []byte) (map[string]any, []errs.Detail) {
	given, detail := decodeInputs(raw)
	if detail != "" {
		return nil, []errs.Detail{{Pointer: "/inputs", Detail: detail}}
	}
	values := make(map[string]any, len(d.Inputs))
	var details []errs.Detail
	fault := func(name, sentence string) {
		if len(details) < maxDiagnostics {
			details = append(details, errs.Detail{Pointer: "/inputs/" + escapePointer(name), Detail: clip(sentence)})
		}
	}
	for i := range d.Inputs {
		in := &d.Inputs[i]
		v := given[in.Name]
		switch {
		case v == nil && in.Required:
			fault(in.Name, fmt.Sprintf("The input %q is missing.", in.Name))
		case v == nil:
			values[in.Name] = in.Default
		default:
			values[in.Name] = v
			if problem := in.problem(v); problem != "" {
				fault(in.Name, fmt.Sprintf("The input %q %s", in.Name, problem))
			}
		}
	}
	for _, name := range unknown(given, d.Inputs) {
		fault(name, fmt.Sprintf("The workflow has no input %q.%s", name, d.inputHint(name)))
	}
	if details != nil {
		return nil, details
	}
	return values, nil
}

// unknown lists the given names that are not declared, sorted.
func unknown(given map[string]any, declared []Input) []string {
	var names []string
	for name := range given {
		if !slices.ContainsFunc(declared, func(in Input) bool { return in.Name == name }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// inputHint says, after a space, which input a name may have meant.
func (d *Definition) inputHint(name string) string {
	names := make([]string, len(d.Inputs))
	for i, in := range d.Inputs {
		names[i] = in.Name
	}
	if near := spelling.Nearest(name, names); near != "" {
		return fmt.Sprintf(" Did you mean %q?", near)
	}
	return ""
}

// decodeInputs returns the object, or a sentence about what is wrong with it.
func decodeInputs(raw []byte) (map[string]any, string) {
	if len(raw) > MaxInputs {
		return nil, fmt.Sprintf("Inputs have at most %d KiB; these have %d bytes.", MaxInputs>>10, len(raw))
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, ""
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	var given map[string]any
	err := dec.Decode(&given)
	if err == nil {
		_, err = dec.Token()
	}
	if !errors.Is(err, io.EOF) {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, "Inputs must be a JSON object of names and values, with numbers that fit a float64."
		}
		return nil, "Inputs must be one JSON object."
	}
	for name, v := range given {
		stored, ok := storable(v, 1)
		if !ok {
			return nil, fmt.Sprintf("Inputs must not be nested more than %d levels deep.", expr.MaxDepth)
		}
		given[name] = stored
	}
	return given, ""
}

// storable replaces NUL characters; it is false for a value that is nested too deeply.
func storable(v any, depth int) (any, bool) {
	ok := depth <= expr.MaxDepth
	switch v := v.(type) {
	case string:
		return strings.ReplaceAll(v, "\x00", "\ufffd"), true
	case []any:
		for i := 0; ok && i < len(v); i++ {
			v[i], ok = storable(v[i], depth+1)
		}
		return v, ok
	case map[string]any:
		clean := make(map[string]any, len(v))
		for key, item := range v {
			if ok {
				clean[strings.ReplaceAll(key, "\x00", "\ufffd")], ok = storable(item, depth+1)
			}
		}
		return clean, ok
	}
	return v, true
}

// listed writes values as JSON, separated by commas.
func listed(values []any) string {
	words := make([]string, len(values))
	for i, v := range values {
		text, err := json.Marshal(v)
		if err != nil {
			text = fmt.Append(nil, v)
		}
		words[i] = string(text)
	}
	return strings.Join(words, ", ")
}
