package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"foundry/internal/workflow"
)

func TestInitWritesAWorkflowThatCompiles(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "first.yaml")
	var out, err bytes.Buffer
	if code := Run(context.Background(), []string{"init", name}, IO{Out: &out, Err: &err}); code != exitOK {
		t.Fatalf("exit code %d: %s", code, err.String())
	}
	text, readErr := os.ReadFile(name)
	if readErr != nil {
		t.Fatal(readErr)
	}
	definition, diagnostics := workflow.Compile(text)
	if definition == nil || len(diagnostics) > 0 {
		t.Fatalf("the first workflow has faults: %v", diagnostics)
	}
	slug := workflow.SlugFromName(definition.Name)
	for _, next := range []string{"foundry workflow push " + name + "\n", "foundry run " + slug + " --follow\n"} {
		if !strings.Contains(out.String(), next) {
			t.Errorf("the output lacks %q:\n%s", next, out.String())
		}
	}
}

func TestInitKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, err bytes.Buffer
	if code := Run(context.Background(), []string{"init", name}, IO{Out: &out, Err: &err}); code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	if !strings.Contains(err.String(), "exists already") {
		t.Errorf("stderr is %q", err.String())
	}
	if kept, _ := os.ReadFile(name); string(kept) != "mine" {
		t.Errorf("the file now holds %q", kept)
	}
}
