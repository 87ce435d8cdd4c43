package workflow_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"foundry/internal/workflow"
)

const (
	referenceFile = "../../docs/workflows.md"
	begin, end    = "<!-- generated: begin -->\n", "<!-- generated: end -->"
)

//nolint:gochecknoglobals // flags are
var updateReference = flag.Bool("update-docs", false, "rewrite the generated part of docs/workflows.md")

// schemaNode is what the reference shows of a JSON Schema.
type schemaNode struct {
	Ref         string                `json:"$ref"`
	Description string                `json:"description"`
	Type        any                   `json:"type"`
	Enum        []any                 `json:"enum"`
	Default     any                   `json:"default"`
	Minimum     *float64              `json:"minimum"`
	Maximum     *float64              `json:"maximum"`
	Properties  map[string]schemaNode `json:"properties"`
	Required    []string              `json:"required"`
	Defs        map[string]schemaNode `json:"$defs"`
}

func TestReferenceIsThatOfTheSchema(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	old, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatal("docs/workflows.md has lost its marks")
	}
	want := renderReference(t)
	if *updateReference {
		if err := os.WriteFile(referenceFile, []byte(before+begin+want+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != want {
		t.Error("docs/workflows.md is stale: go test ./internal/workflow -run TestReferenceIs -update-docs")
	}
}

func TestReferenceExamplesCompile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "\n```yaml\n")[1:]
	if len(parts) == 0 {
		t.Fatal("docs/workflows.md has no examples")
	}
	for _, part := range parts {
		source, _, _ := strings.Cut(part, "```")
		if definition, diagnostics := workflow.Compile([]byte(source)); definition == nil {
			t.Errorf("an example has faults: %v\n%s", diagnostics, source)
		}
	}
}

func renderReference(t *testing.T) string {
	t.Helper()
	var root schemaNode
	if err := json.Unmarshal(workflow.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	writeKeys(&out, "The text", root, root.Defs)
	for _, name := range []string{"input", "node", "run", "set", "approval", "prompt", "wait", "pause", "retries", "concurrency", "sandbox", "network", "volume"} {
		writeKeys(&out, "`"+name+"`", root.Defs[name], root.Defs)
	}
	return out.String()
}

func writeKeys(out *strings.Builder, title string, s schemaNode, defs map[string]schemaNode) {
	fmt.Fprintf(out, "\n### %s\n\n| key | value | meaning |\n|---|---|---|\n", title)
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[key]
		target := defs[strings.TrimPrefix(p.Ref, "#/$defs/")]
		meaning := cmp.Or(p.Description, target.Description)
		if slices.Contains(s.Required, key) {
			meaning += " Required."
		}
		if d := p.Default; d != nil {
			meaning += fmt.Sprintf(" Default `%v`.", d)
		}
		fmt.Fprintf(out, "| `%s` | %s | %s |\n", key, valueOf(p), strings.ReplaceAll(meaning, "|", `\|`))
	}
	out.WriteString("\n")
}

func valueOf(p schemaNode) string {
	var words []string
	switch {
	case p.Ref != "":
		words = append(words, strings.TrimPrefix(p.Ref, "#/$defs/"))
	case len(p.Enum) > 0:
		words = append(words, strings.Trim(fmt.Sprintf("%v", p.Enum), "[]"))
	case p.Type != nil:
		words = append(words, strings.Trim(fmt.Sprintf("%v", p.Type), "[]"))
	}
	if p.Minimum != nil && p.Maximum != nil {
		words = append(words, fmt.Sprintf("%g to %g", *p.Minimum, *p.Maximum))
	}
	return strings.Join(words, ", ")
}
