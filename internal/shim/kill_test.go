package shim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A process that executes something has no environment for a moment, and is found all the same.
func TestKillMarkedFindsWhoeverExecutes(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("exec sh "+program+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		mark := fmt.Sprintf("FOUNDRY_TEST_MARK=%d-%d", os.Getpid(), i)
		cmd := exec.CommandContext(t.Context(), "sh", program)
		cmd.Env = append(os.Environ(), mark)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := KillMarked(mark); err != nil {
			t.Fatal(err)
		}
		alive, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if len(alive) > 0 {
			t.Fatalf("process %d of 30 lives on", i)
		}
	}
}
