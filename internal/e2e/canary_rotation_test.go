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

	"foundry/api/client"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/secret"
)

const rotationText = `name: rotation
nodes:
  before:
    run: |
      echo "$ROTATED"; printf %s "$ROTATED" | sha256sum
      : >started-1
      while [ ! -e go-1 ]; do sleep 0.05; done
      cat new
      : >started-2
      while [ ! -e go-2 ]; do sleep 0.05; done
      cat new
  after:
    needs: [before]
    run: echo "$ROTATED"; printf %s "$ROTATED" | sha256sum; cat new
`

// TestRotationInTheMiddleOfARun sets a secret anew, twice, while a command runs that prints the new values too: before and after its
// worker is killed.
func TestRotationInTheMiddleOfARun(t *testing.T) {
	t.Parallel()
	i := start(t, keysVariable+secret.NewKey("test"))
	i.push(rotationText, nil)
	values := []string{"value-" + rand.Text(), "value-" + rand.Text(), "value-" + rand.Text()}
	i.setSecret("rotation", "ROTATED", values[0])
	id := i.queue("rotation", nil)
	i.release(1, func(workspace string) {
		for n, value := range values[1:] {
			i.setSecret("rotation", "ROTATED", value)
			i.hasRead(id, "ROTATED", n+2) // and so masks those of before
		}
		i.writeNew(workspace, values[0], values[1])
	})
	first := i.worker
	i.release(2, func(workspace string) {
		i.kill(first)
		i.startWorker()
		i.attached(id, 1)
		i.writeNew(workspace, values...)
	})
	if x := i.ended(id); x.Status != client.ExecutionStatusCompleted {
		t.Errorf("status %s, %+v", x.Status, x.Error)
	}
	i.prints(id, "before", values[0], "***\n***\n***\n***\n***\n")
	i.prints(id, "after", values[0], "***\n***\n***\n")

	next := i.queue("rotation", nil)
	i.release(1, func(workspace string) { i.writeNew(workspace, values[2]) })
	i.release(2, func(string) {})
	i.ended(next)
	i.prints(next, "before", values[2], "***\n***\n")
	i.prints(next, "after", values[2], "***\n")

	s := newSinks(i)
	s.collect(id, 0)
	s.add("first worker", first.out.Bytes(), first.err.Bytes())
	for _, value := range values {
		if told := s.find(value); len(told) > 0 {
			t.Errorf("a value is told in %q", told)
		}
	}
	i.sound()
}

// prints checks the output of a node that prints the secret, the checksum of what it was given, and more.
func (i *installation) prints(id, node, given, more string) {
	i.t.Helper()
	sum := sha256.Sum256([]byte(given))
	want := "***\n" + hex.EncodeToString(sum[:]) + "  -\n" + more
	if got := string(i.logs(id, node)); got != want {
		i.t.Errorf("%s says %q, want %q", node, got, want)
	}
}

// hasRead waits until the worker of an execution has read a version of a secret.
func (i *installation) hasRead(id, key string, version int) {
	i.t.Helper()
	pool := pgtest.Open(i.t, i.database, postgres.Options{MaxConns: 1})
	eventually(i.t, func() error {
		const sql = "SELECT count(*) FROM audit_log WHERE execution_id = $1 AND action = 'secret.read' AND target = $2 AND (data->>'version')::int = $3"
		if pgtest.Get[int](i.t, pool, sql, id, key, version) == 0 {
			return fmt.Errorf("version %d of %s has not been read", version, key)
		}
		return nil
	})
}

// writeNew leaves values, one a line, where the command finds them.
func (i *installation) writeNew(workspace string, values ...string) {
	i.t.Helper()
	var text []byte
	for _, value := range values {
		text = append(text, value+"\n"...)
	}
	if err := os.WriteFile(filepath.Join(workspace, "new"), text, 0o600); err != nil {
		i.t.Fatal(err)
	}
}

// release waits for the command that has made the file started-n, calls f with its workspace, and lets the command go on.
func (i *installation) release(n int, f func(workspace string)) {
	i.t.Helper()
	started := ""
	eventually(i.t, func() error {
		err := filepath.WalkDir(filepath.Join(i.dir, "state"), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Name() == fmt.Sprintf("started-%d", n) && filepath.Base(filepath.Dir(path)) == "workspace" {
				started = path
			}
			return nil //nolint:nilerr // what vanishes meanwhile is not it
		})
		if started == "" {
			return fmt.Errorf("no command has started: %w", context.DeadlineExceeded)
		}
		return err
	})
	f(filepath.Dir(started))
	if err := os.Remove(started); err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(started), fmt.Sprintf("go-%d", n)), nil, 0o600); err != nil {
		i.t.Fatal(err)
	}
}
