package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strconv"
	"strings"

	"foundry/api/client"
	"foundry/internal/workflow"
)

// inputs turns k=v arguments into the JSON object of an execution's inputs, by the types that the
// version declares. What it does not declare is sent as text, for the server to refuse with a hint.
func inputs(args []string, declared []workflow.Input) (json.RawMessage, error) {
	types := make(map[string]workflow.InputType, len(declared))
	for _, in := range declared {
		types[in.Name] = in.Type
	}
	values := make(map[string]json.RawMessage, len(args))
	for _, arg := range args {
		name, text, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, usage("An input is given as NAME=VALUE; %q is not.", arg)
		}
		if _, twice := values[name]; twice {
			return nil, usage("The input %q is given twice.", name)
		}
		value, err := inputValue(types[name], text)
		if err != nil {
			return nil, usage("The input %q %s; %q is not.", name, err, text)
		}
		values[name] = value
	}
	object, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("encoding the inputs: %w", err)
	}
	return object, nil
}

// inputValue reads one value. The error says what the text should have been.
func inputValue(t workflow.InputType, text string) (json.RawMessage, error) {
	raw := json.RawMessage(strings.TrimSpace(text))
	first := ""
	if len(raw) > 0 {
		first = string(raw[:1])
	}
	valid := json.Valid(raw)
	switch t {
	case workflow.InputInteger:
		if n, ok := new(big.Int).SetString(string(raw), 10); ok {
			return json.RawMessage(n.String()), nil
		}
		return nil, fmt.Errorf("is a whole number")
	case workflow.InputNumber:
		if valid && strings.Contains("-0123456789", first) {
			return raw, nil
		}
		return nil, fmt.Errorf("is a number")
	case workflow.InputBoolean:
		if b, err := strconv.ParseBool(string(raw)); err == nil {
			return json.RawMessage(strconv.FormatBool(b)), nil
		}
		return nil, fmt.Errorf("is true or false")
	case workflow.InputObject:
		if valid && first == "{" {
			return raw, nil
		}
		return nil, fmt.Errorf(`is a JSON object, as in {"a": 1}`)
	case workflow.InputArray:
		if valid && first == "[" {
			return raw, nil
		}
		return nil, fmt.Errorf("is a JSON array, as in [1, 2]")
	case workflow.InputString:
	}
	return json.Marshal(text)
}

// declaredInputs reads the inputs of a version; 0 is the latest.
func (s *server) declaredInputs(ctx context.Context, name string, version int) ([]workflow.Input, error) {
	if version == 0 {
		var w client.Workflow
		if _, err := s.call(ctx, request{method: http.MethodGet, path: []string{"workflows", name}}, &w); err != nil {
			return nil, err
		}
		version = w.Version
	}
	var v client.Version
	path := []string{"workflows", name, "versions", strconv.Itoa(version)}
	if _, err := s.call(ctx, request{method: http.MethodGet, path: path}, &v); err != nil {
		return nil, err
	}
	definition, err := workflow.Load([]byte(v.Source), v.Grammar)
	if err != nil {
		return nil, fmt.Errorf("reading version %d of %s: %w", version, name, err)
	}
	return definition.Inputs, nil
}
