package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

const rotationText = `name: rotation
nodes:
  before:
    run: |
      echo "$ROTATED"; printf %s "$ROTATED" | sha256sum
      : >started
      while [ ! -e go ]; do sleep 0.05; done
  after:
    needs: [before]
    run: echo "$ROTATED"; printf %s "$ROTATED" | sha256sum
`

// TestRotationInTheMiddleOfARun sets a secret anew between two nodes.
func TestRotationInTheMiddleOfARun(t *testing.T) {
	t.Parallel()
	i, _ := startWithKeys(t)
	i.push(rotationText, nil)
	values := []string{"value-" + rand.Text(), "value-" + rand.Text()}
	i.setSecret("rotation", "ROTATED", values[0])
	id := i.queue("rotation", nil)
	i.release(func() { i.setSecret("rotation", "ROTATED", values[1]) })
	i.ended(id)
	second := i.queue("rotation", nil)
	i.release(func() {})
	i.ended(second)
	for n, execution := range []string{id, second} {
		sum := sha256.Sum256([]byte(values[n]))
		want := "***\n" + hex.EncodeToString(sum[:]) + "  -\n"
		for _, node := range []string{"before", "after"} {
			if got := string(i.logs(execution, node)); got != want {
				t.Errorf("execution %d, %s says %q, want %q", n+1, node, got, want)
			}
		}
	}
	s := newSinks(i)
	s.collect(id, 0)
	for _, value := range values {
		if told := s.find(value); len(told) > 0 {
			t.Errorf("a value is told in %q", told)
		}
	}
}

// release waits for the command that has made the file started, calls f, and lets the command go on.
func (i *installation) release(f func()) {
	i.t.Helper()
	started := ""
	eventually(i.t, func() error {
		err := filepath.WalkDir(filepath.Join(i.dir, "state"), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Name() == "started" && filepath.Base(filepath.Dir(path)) == "workspace" {
				started = path
			}
			return nil //nolint:nilerr // what vanishes meanwhile is not it
		})
		if started == "" {
			return fmt.Errorf("no command has started: %w", context.DeadlineExceeded)
		}
		return err
	})
	f()
	if err := os.Remove(started); err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(started), "go"), nil, 0o600); err != nil {
		i.t.Fatal(err)
	}
}
