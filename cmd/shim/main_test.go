package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const maxSize = 3 << 20

// The shim is copied into sandboxes over the network, and runs whatever image is there.
func TestReleaseBuildIsSmallAndStatic(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(t.TempDir(), "shim")
			run(t, arch, "build", "-trimpath", "-ldflags=-s -w", "-o", name, ".")
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() > maxSize {
				t.Errorf("it has %d bytes; the limit is %d", info.Size(), maxSize)
			}
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(content), "/ld-linux-") {
				t.Error("it names a dynamic linker")
			}
		})
	}
}

func TestOnlyTheStandardLibrary(t *testing.T) {
	t.Parallel()
	deps := run(t, "amd64", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	for _, dep := range strings.Fields(deps) {
		if dep != "foundry/cmd/shim" && dep != "foundry/internal/shim" {
			t.Errorf("it imports %s", dep)
		}
	}
}

func run(t *testing.T, arch string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
