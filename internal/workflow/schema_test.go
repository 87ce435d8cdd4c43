package workflow

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"foundry/internal/spelling"
)

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("workflow.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("workflow.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// document is a text as data, or false where the YAML itself is refused.
func document(text []byte) (any, bool) {
	c := newCompiler(text)
	root := parse(c.text, &c.report)
	if root == nil || len(c.list) > 0 {
		return nil, false
	}
	return root.data(), true
}

func TestSchemaAcceptsValidTexts(t *testing.T) {
	t.Parallel()
	s := compileSchema(t)
	for name, text := range texts(t, "valid") {
		data, ok := document(text)
		if !ok {
			t.Errorf("%s: not parsed", name)
			continue
		}
		if err := s.Validate(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSchemaRefusesInvalidTexts lists what a schema cannot say; everything else it says.
func TestSchemaRefusesInvalidTexts(t *testing.T) {
	t.Parallel()
	beyond := []string{
		"bad-context", "bad-expression", "bad-reference", "pause-references", // expressions
		"cycle",        // references between nodes
		"fan-out-wide", // products
	}
	s := compileSchema(t)
	refused := 0
	for name, text := range texts(t, "invalid") {
		data, ok := document(text)
		if !ok {
			continue
		}
		err := s.Validate(data)
		if (err != nil) == slices.Contains(beyond, name) {
			t.Errorf("%s: %v", name, err)
		}
		refused++
	}
	if refused < 20 {
		t.Errorf("only %d texts could be parsed", refused)
	}
}

// TestSchemaRefuses has one fault per text, so that each rule of the schema is seen to hold.
func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	s := compileSchema(t)
	node := "name: t\nnodes: { a: { %s } }"
	top := "name: t\n%s\nnodes: { a: { run: x } }"
	for fault, frame := range map[string]string{
		"run: x, set: { a: 1 }": node, "timeout: 5m": node, "run: x, needs: [b, b]": node, "run: ''": node, "run: 'a ${{ b }}'": node,
		"run: x, retry-on: [1]": node, "run: x, retries: { max: 1 }, retry-on: [0]": node, "run: x, retries: { max: 21 }": node,
		"run: x, retries: {}": node, "run: x, timeout: 5x": node, "run: x, timeout: ''": node, "run: x, timeout: 5s1m": node, "run: x, timeout: 5": node,
		"run: x, shell: zsh": node, "run: x, secrets: A": node, "run: x, secrets: [A-B]": node, "run: x, secrets: [A, A]": node, "set: { a: 1 }, secrets: [A]": node, "run: x, env: { FOUNDRY_A: b }": node, "run: x, env: { A-B: b }": node, "run: x, env: { A: [] }": node,
		"approval: ''": node, "approval: ' '": node, "approval:": node, "approval: 5": node, "approval: [a]": node, "approval: { message: '' }": node,
		"approval: { message: 5 }": node, "approval: { roles: [] }": node, "approval: { roles: [boss] }": node, "approval: { roles: [admin, admin] }": node,
		"approval: { rolls: [admin] }": node, "approval: x, retries: { max: 1 }": node, "approval: x, env: { A: b }": node, "approval: x, secrets: []": node,
		"approval: x, run: y": node, "approval: x, timeout: 5": node, "wait: 5": node, "wait: ''": node, "wait: 5x": node, "wait: 500ms": node, "wait: 1m, timeout: 5m": node,
		"wait: {}": node, "wait: { for: 1m, until: '2026-12-01T08:00:00Z' }": node, "wait: { until: tomorrow }": node, "wait: { until: 2026-12-01 }": node,
		"wait: { four: 1m }": node, "wait:": node, "wait: [1m]": node, "wait: 1m, set: { a: 1 }": node,
		"set: { a: 1 }, timeout: 5m": node, "set: {}": node, "run: x, nope: 1": node, "run: x, continue-on-error: 'yes'": node,
		"run: x, matrix: {}": node, "run: x, matrix: { a: [] }": node, "run: x, matrix: { a: b }": node, "run: x, matrix: [1]": node, "run: x, matrix: { include: [1] }": node,
		"run: x, matrix: { a: [null] }": node, "run: x, matrix: { a: [1] }, repeat: 2": node, "run: x, max-parallel: 2": node, "run: x, fail-fast: true": node,
		"run: x, matrix: { a: [1] }, max-parallel: 33": node, "run: x, repeat: 0": node, "run: x, repeat: 1001": node, "run: x, repeat: {}": node, "run: x, repeat: { times: soon }": node,
		"run: x, repeat: { til: 'true' }": node, "workflow: Not A Slug": node, "workflow: 5": node, "workflow: a, env: { A: b }": node, "workflow: a, timeout: 5m": node, "workflow: a, inputs: [b]": node,
		"concurrency: ''": top, "concurrency: ' '": top, "concurrency: 5": top, "concurrency:": top, "concurrency: [a]": top, "concurrency: {}": top,
		"concurrency: { limit: 2 }": top, "concurrency: { group: a, limit: 0 }": top, "concurrency: { group: a, limit: 1001 }": top,
		"concurrency: { group: a, limit: '2' }": top, "concurrency: { group: a, on-conflict: replace }": top, "concurrency: { group: a, max: 2 }": top,
		"concurrency: { group: '' }": top,
		"max-parallel: 0":            top, "max-parallel: 33": top, "priority: 11": top, "priority: 0.5": top, "nope: 1": top,
		"inputs: { a: { type: text } }": top, "inputs: { a: { minimum: 1 } }": top, "inputs: { a: { type: integer, pattern: x } }": top,
		"inputs: { a: { type: boolean, max-length: 1 } }": top, "inputs: { a: { enum: [] } }": top, "inputs: { a: { type: array, enum: [1] } }": top,
		"inputs: { a: { default: null } }": top, "inputs: { 1a: {} }": top, "inputs: { a: { min-length: -1 } }": top,
		"sandbox: { snapshot: a, cpu: 1 }": top, "sandbox: { snapshot: a, image: b }": top, "sandbox: { memory: 4GB }": top, "sandbox: { cpu: 0 }": top,
		"sandbox: { network: { block: true, allow: [a.b] } }": top, "sandbox: { network: { allow: [] } }": top, "sandbox: { network: { allow: ['http://a'] } }": top,
		"sandbox: { keep: never, keep-for: 1h }": top, "sandbox: { keep: sometimes }": top, "sandbox: { image: 'x${{ y }}' }": top,
		"sandbox: { volumes: [{ name: a }] }": top, "sandbox: { volumes: [{ name: a, path: b }] }": top, "sandbox: { volumes: [{ name: a, path: /b/../c }] }": top,
		"files: { ../a: b }": top, "files: { a: ../b }": top, "files: { /a: b }": top, "outputs: { a b: 1 }": top,
	} {
		text := []byte(strings.Replace(frame, "%s", fault, 1))
		data, ok := document(text)
		if !ok {
			t.Errorf("%s: not parsed", fault)
			continue
		}
		if s.Validate(data) == nil {
			t.Errorf("the schema accepts %s", fault)
		}
		if d, _ := Compile(text); d != nil {
			t.Errorf("the compiler accepts %s", fault)
		}
	}
}

func TestSchemaHasTheKeysOfTheCompiler(t *testing.T) {
	t.Parallel()
	type object struct {
		Properties map[string]any    `json:"properties"`
		Defs       map[string]object `json:"$defs"`
	}
	var root object
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	c := newCompiler(nil)
	c.def = &Definition{}
	byKind := c.kindFields(&Node{}, 0)
	if len(byKind) != len(kinds()) {
		t.Errorf("kinds() lists %d of %d kinds", len(kinds()), len(byKind))
	}
	objects := map[string][]field{
		"":        c.workflowFields(),
		"input":   c.inputFields(&Input{}),
		"sandbox": c.sandboxFields(&Sandbox{}),
		"network": c.networkFields(&Network{}),
		"volume":  c.volumeFields(&Volume{}),
		"retries": c.retryFields(&Retries{}),
		"node":    append(c.commonFields(&Node{}, &nodeText{}, 0), c.fanFields(&Node{}, 0)...),
		"repeat":  c.repeatFields(&Repeat{}, 0),
		"prompt":  c.promptFields(&Approval{}, 0),
		"pause":   c.waitFields(&Wait{}, 0),

		"concurrency": c.concurrencyFields(&Concurrency{}),
	}
	for _, kind := range kinds() {
		objects[string(kind)] = byKind[kind]
		if byKind[kind][0].key != string(kind) {
			t.Errorf("the first field of %s nodes is %s", kind, byKind[kind][0].key)
		}
	}
	root.Defs[""] = root
	for name, fields := range objects {
		var keys []string
		for _, f := range fields {
			keys = append(keys, f.key)
		}
		slices.Sort(keys)
		if diff := cmp.Diff(keys, slices.Sorted(maps.Keys(root.Defs[name].Properties))); diff != "" {
			t.Errorf("%q: -compiler +schema\n%s", name, diff)
		}
	}
}

// TestKeysOfLaterIssuesAreNotSuggestedNorMistaken: they are unknown, and no present key is
// close enough to be suggested for them.
func TestKeysOfLaterIssuesAreNotSuggestedNorMistaken(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"agent", "webhook"} {
		text := "name: t\n" + key + ": x\nnodes:\n  a:\n    run: x\n    " + key + ": x\n"
		_, diagnostics := Compile([]byte(text))
		if len(diagnostics) != 2 {
			t.Errorf("%s: %v", key, diagnostics)
		}
		for _, d := range diagnostics {
			if d.Code != "unknown_key" || strings.Contains(d.Hint, "mean") || strings.Contains(d.Hint, key) {
				t.Errorf("%s: %v", key, d)
			}
		}
		if near := spelling.Nearest(key+"s", []string{"run", "set", "approval", "wait"}); near != "" {
			t.Errorf("%ss is taken for %s", key, near)
		}
	}
}
