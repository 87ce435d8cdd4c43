package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
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
