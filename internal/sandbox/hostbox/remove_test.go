package hostbox_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"foundry/internal/sandbox/hostbox"
)

// A sandbox may be destroyed by several processes at once: to find it gone half-way is no error. Only who is not root needs more than one attempt.
func TestRemoveAllBySeveralAtOnce(t *testing.T) {
	t.Parallel()
	for range 30 {
		dir := filepath.Join(t.TempDir(), "box")
		for i := range 20 {
			folder := filepath.Join(dir, fmt.Sprint(i), "locked")
			if err := os.MkdirAll(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, "file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(folder, 0); err != nil {
				t.Fatal(err)
			}
		}
		var all errgroup.Group
		for range 4 {
			all.Go(func() error { return hostbox.RemoveAll(dir) })
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			t.Fatalf("it is still there (%v)", err)
		}
	}
}
