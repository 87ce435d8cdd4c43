package engine

import (
	"encoding/json"
	"errors"
	"strings"

	"foundry/internal/expr"
	"foundry/internal/workflow"
)

// Limits of protocols.md, section 11, in bytes, and what an event shows of a value at most.
const (
	maxNodeOutputs      = 256 << 10
	maxFanOutputs       = 1 << 20 // of all instances of a node together
	maxExecutionOutputs = 1 << 20
	maxMessage          = 4 << 10
	maxBrief            = 16 << 10
)

// baseContexts is what every expression sees, before any node has run.
func (r *run) baseContexts() expr.Env {
	return expr.Env{Contexts: map[string]expr.Value{
		"inputs": r.inputs,
		"execution": map[string]any{
			"id": r.c.ID.String(), "number": float64(r.c.Number), "source": string(r.c.Source),
			"workflow": r.c.WorkflowSlug, "version": float64(r.c.Version),
		},
	}}
}

// contexts is what the expressions of a node see: besides the base, the workflow's env and the
// state and outputs of its ancestors.
func (r *run) contexts(node int) expr.Env {
	env := r.baseContexts()
	nodes := map[string]any{}
	for _, i := range r.def.Graph.Ancestors(node) {
		nodes[r.def.Nodes[i].Key] = r.nodeContext(i)
	}
	env.Contexts["env"], env.Contexts["nodes"] = r.env, nodes
	return env
}

// finalContexts is what the execution's outputs see: every node.
func (r *run) finalContexts() expr.Env {
	env := r.baseContexts()
	nodes := map[string]any{}
	for i := range r.def.Nodes {
		nodes[r.def.Nodes[i].Key] = r.nodeContext(i)
	}
	env.Contexts["env"], env.Contexts["nodes"] = r.env, nodes
	return env
}

func (r *run) nodeContext(i int) map[string]any {
	outputs := r.outputsOf(i)
	if outputs == nil {
		outputs = map[string]any{}
	}
	return map[string]any{"status": string(r.states[i]), "outputs": outputs}
}

// evalEnv evaluates environment variables to strings.
func (r *run) evalEnv(vars []workflow.EnvVar, env expr.Env) (map[string]any, error) {
	values := make(map[string]any, len(vars))
	for _, v := range vars {
		value, err := v.Value.Eval(env)
		if err != nil {
			return nil, errors.New(v.Name + ": " + err.Error())
		}
		text, err := environmentText(value)
		if err != nil {
			return nil, errors.New(v.Name + ": " + err.Error())
		}
		values[v.Name] = text
	}
	return values, nil
}

// environmentText is a value as a variable holds it: text as it is, objects and arrays as JSON.
func environmentText(value any) (string, error) {
	text := expr.String(value)
	switch value.(type) {
	case map[string]any, []any:
		raw, err := json.Marshal(value)
		if err != nil {
			return "", err
		}
		text = string(raw)
	}
	if strings.ContainsRune(text, 0) {
		return "", errors.New("the value holds a NUL, which no environment variable can")
	}
	return text, nil
}

// evalOutputs evaluates named values.
func evalOutputs(outputs []workflow.Output, env expr.Env) (map[string]any, error) {
	values := make(map[string]any, len(outputs))
	for _, o := range outputs {
		v, err := o.Value.Eval(env)
		if err != nil {
			return nil, errors.New(o.Name + ": " + err.Error())
		}
		values[o.Name] = v
	}
	return values, nil
}

// sentence says what failed and why. It is not bounded, so that it can be redacted first.
func sentence(what string, err error) string {
	return what + ": " + strings.TrimSuffix(err.Error(), ".") + "."
}

// brief is a value as an event shows it: all of it, or null when it is large.
func brief(raw json.RawMessage) any {
	if len(raw) > maxBrief || raw == nil {
		return nil
	}
	return raw
}
