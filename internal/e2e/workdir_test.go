package e2e

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
)

// workDir is a folder for the processes of one test. Commands and their shims outlive whoever started them, so what runs in a sandbox
// at the end is ended before the folder is removed: it would go on writing there.
func workDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { endSandboxes(t, dir) })
	return dir
}

// endSandboxes kills whatever runs in the local sandboxes of a state folder in dir, and waits until it is gone. No worker may be there
// to start more.
func endSandboxes(t testing.TB, dir string) {
	t.Helper()
	sandboxes, err := filepath.Glob(filepath.Join(dir, "*", "sandboxes", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sandbox := range sandboxes {
		eventually(t, func() error {
			for _, pid := range processesOf(t, filepath.Base(sandbox)) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err == nil && alive(pid) {
					return fmt.Errorf("process %d of the sandbox %s lives", pid, filepath.Base(sandbox))
				}
			}
			return nil
		})
	}
}
