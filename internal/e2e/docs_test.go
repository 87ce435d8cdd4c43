package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCIRecipe runs every sh block of docs/ci.md as it stands.
func TestCIRecipe(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	i := start(t)
	blocks := shellBlocks(string(text))
	if len(blocks) != 3 {
		t.Fatalf("docs/ci.md has %d sh blocks, want 3", len(blocks))
	}
	wants := [][]string{
		{"hello version 1 is stored.", "Hello, CI! I have counted to 3."},
		{"Hello, world! I have counted to 3."},
		{"Hello, curl! I have counted to 3.", "The execution is completed."},
	}
	for n, block := range blocks {
		out, err := i.shell(block)
		if err != nil {
			t.Fatalf("block %d: %v\n%s\n%s", n+1, err, block, out)
		}
		for _, want := range wants[n] {
			if !strings.Contains(out, want) {
				t.Errorf("block %d does not say %q:\n%s", n+1, want, out)
			}
		}
	}
}

// TestWorkflowsPageNamesWhatIsSeen compares docs/workflows.md with what a command and an expression find.
func TestWorkflowsPageNamesWhatIsSeen(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/workflows.md")
	if err != nil {
		t.Fatal(err)
	}
	i := start(t)
	i.push(`name: seen
nodes:
  variables: { run: "env | cut -d = -f 1 | sort" }
  facts: { set: { all: "${{ toJSON(execution) }}" } }
outputs: { facts: "${{ nodes.facts.outputs.all }}" }
`, nil)
	id := i.queue("seen", nil)
	ended := i.ended(id)
	outputs := decode[struct{ Facts string }](t, ended.Outputs)
	seen := strings.Fields(string(i.logs(id, "variables")))
	for name := range decode[map[string]any](t, []byte(outputs.Facts)) {
		seen = append(seen, "execution."+name)
	}
	section := func(from, to string) string {
		_, rest, _ := strings.Cut(string(text), from)
		body, _, found := strings.Cut(rest, to)
		if !found {
			t.Fatalf("docs/workflows.md has no part from %q to %q", from, to)
		}
		return body
	}
	page := section("## Expressions", "## What a command sees") + section("## What a command sees", "\nThe workflow's `env`")
	for _, name := range seen {
		if strings.HasPrefix(name, "FOUNDRY_") || strings.HasPrefix(name, "execution.") || name == "CI" {
			if !strings.Contains(page, "`"+name+"`") {
				t.Errorf("docs/workflows.md does not name %s", name)
			}
		}
	}
	named := regexp.MustCompile("`((?:FOUNDRY_|execution\\.)[A-Za-z_]+)`").FindAllStringSubmatch(page, -1)
	if len(named) < 15 {
		t.Errorf("only %d names were found in docs/workflows.md", len(named))
	}
	for _, match := range named {
		if !slices.Contains(seen, match[1]) {
			t.Errorf("docs/workflows.md names %s, which is not there", match[1])
		}
	}
}

// shell runs a script from the repository's root, with the program in its path.
func (i *installation) shell(script string) (string, error) {
	i.t.Helper()
	cmd := exec.CommandContext(i.t.Context(), "sh", "-eu", "-c", script)
	cmd.Dir = "../.."
	for _, entry := range i.client() {
		if path, ok := strings.CutPrefix(entry, "PATH="); ok {
			entry = "PATH=" + filepath.Dir(program(i.t)) + string(filepath.ListSeparator) + path
		}
		cmd.Env = append(cmd.Env, entry)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// shellBlocks returns the fenced blocks of a Markdown text that are marked sh.
func shellBlocks(text string) []string {
	var blocks []string
	for _, part := range strings.Split(text, "\n```sh\n")[1:] {
		block, _, _ := strings.Cut(part, "\n```")
		blocks = append(blocks, block)
	}
	return blocks
}
