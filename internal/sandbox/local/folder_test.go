package local

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"
)

func TestFolderIsNamedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := make([]string, 8)
	var group errgroup.Group
	for i := range ids {
		group.Go(func() (err error) {
			ids[i], err = folderID(dir)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if id != ids[0] || len(id) != 8 {
			t.Fatalf("one folder has the names %q", ids)
		}
	}
	if other, err := folderID(t.TempDir()); err != nil || other == ids[0] {
		t.Errorf("two folders are named %s (%v)", other, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%d files are left (%v)", len(left), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "id"), []byte("../x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := folderID(dir); err == nil {
		t.Errorf("nonsense is taken for the name %q", id)
	}
}
