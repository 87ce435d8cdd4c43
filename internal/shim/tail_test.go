package shim

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// The stamp of a folder is as coarse as the kernel's tick: what comes within the tick in which the folder was read leaves the stamp as it was. A tail that
// looks again only much later must find it.
func TestTailFindsADirectoryOfTheSameTick(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		tick := time.Now()
		makeRun := func(name string) {
			if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(root, tick, tick); err != nil {
				t.Fatal(err)
			}
		}
		tail := &tailer{root: root, known: make(map[string]bool)}
		look := func(want int) {
			t.Helper()
			if err := tail.discover(); err != nil || len(tail.runs) != want {
				t.Fatalf("%d directories are found, want %d (%v)", len(tail.runs), want, err)
			}
		}
		makeRun("first")
		look(1)
		makeRun("second")
		<-time.After(time.Minute)
		look(2)
		// By then the stamp tells: the folder is not read again and again.
		makeRun("third")
		look(2)
	})
}
