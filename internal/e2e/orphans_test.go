package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"foundry/api/client"
)

// TestNothingIsLeftOfAKilledWorker has a worker die right after it has made a sandbox, before a row says that it is ready: by a failpoint,
// so that it is there and nowhere else. Its execution is canceled while nobody holds it, and nothing is left in the end.
func TestNothingIsLeftOfAKilledWorker(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.worker.stop(syscall.SIGTERM)
	i.push("name: one\nnodes:\n  run: { run: \"sleep 1000\" }\n", nil)
	state := filepath.Join(i.dir, "state")
	deadly := spawn(t, i.dir, i.environ("PORT=0", "FOUNDRY_STATE_DIR="+state, "FOUNDRY_FAILPOINTS=provider.create.after=kill"), nil, "worker")
	id := i.queue("one", nil)
	deadly.wait()
	i.expire(deadly)
	if n := sandboxFolders(t, state); n != 1 {
		t.Fatalf("the worker that was killed has left %d sandboxes, want 1", n)
	}
	i.must("cancel", id)
	i.startWorker()
	if x := i.ended(id); x.Status != client.ExecutionStatusCanceled {
		t.Fatalf("status %s, %+v", x.Status, x.Error)
	}
	eventually(t, func() error {
		if n := sandboxFolders(t, state); n != 0 {
			return fmt.Errorf("%d sandboxes are left", n)
		}
		return nil
	})
	i.sound()
}

// TestSandboxWithoutARowIsDestroyed takes the rows of a sandbox away while no worker runs: the control plane ends it, once
// it has seen it twice.
func TestSandboxWithoutARowIsDestroyed(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state")
	i := start(t, "FOUNDRY_KEEP_SANDBOX=always", "FOUNDRY_STATE_DIR="+state)
	i.push("name: one\nnodes:\n  run: { run: \"echo x\" }\n", nil)
	i.worker.stop(syscall.SIGTERM)
	i.worker = spawn(t, i.dir, i.environ("PORT=0"), nil, "worker") // with the control plane's state folder
	if x := i.ended(i.queue("one", nil)); x.Status != client.ExecutionStatusCompleted {
		t.Fatalf("status %s, %+v", x.Status, x.Error)
	}
	i.worker.stop(syscall.SIGTERM)
	if n := sandboxFolders(t, state); n != 1 {
		t.Fatalf("%d sandboxes are kept, want 1", n)
	}
	conn, err := pgx.Connect(t.Context(), i.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if tag, err := conn.Exec(t.Context(), "DELETE FROM sandboxes WHERE state = 'kept'"); err != nil || tag.RowsAffected() != 1 {
		t.Fatalf("%d rows were kept (%v)", tag.RowsAffected(), err)
	}
	eventually(t, func() error {
		if n := sandboxFolders(t, state); n != 0 {
			return fmt.Errorf("%d sandboxes are left", n)
		}
		return nil
	})
}

// sandboxFolders counts the local sandboxes in a state folder.
func sandboxFolders(t *testing.T, state string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(state, "sandboxes"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return len(entries)
}
