package worker_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/sandbox"
	"foundry/internal/secret"
	"foundry/internal/workflow"
)

// rotate sets the secret ONE as the API does.
func (b *testBundle) rotate(keys *secret.Keyring, w *workflow.Workflow, value string) {
	b.t.Helper()
	b.setSecret(keys, w, "ONE", value)
	if err := b.queue.SignalSecrets(b.t.Context(), w.ID); err != nil {
		b.t.Fatal(err)
	}
}

// hasRead waits until the execution has read a version of a secret. What it has read before is masked then.
func (b *testBundle) hasRead(id uuid.UUID, key string, version int) {
	b.t.Helper()
	await(b.t, fmt.Sprintf("version %d of %s to be read", version, key), func() bool {
		return pgtest.Get[int](b.t, b.pool, `SELECT count(*) FROM audit_log
			WHERE execution_id = $1 AND action = 'secret.read' AND target = $2 AND data->>'version' = $3::text`, id, key, fmt.Sprint(version)) > 0
	})
}

// leave writes a file into the workspace of an execution, whole.
func (b *testBundle) leave(id uuid.UUID, name, text string) {
	b.t.Helper()
	boxes, err := b.fake.List(b.t.Context(), map[string]string{sandbox.LabelExecution: id.String()})
	if err != nil || len(boxes) != 1 {
		b.t.Fatalf("%d sandboxes, %v", len(boxes), err)
	}
	path := filepath.Join(boxes[0].Workspace, name)
	if err := os.WriteFile(path+".part", []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(path+".part", path); err != nil {
		b.t.Fatal(err)
	}
}

// TestBothValuesOfARotationAreMasked has a command print, under one claim and the next, what its secret was changed to while it runs.
func TestBothValuesOfARotationAreMasked(t *testing.T) {
	t.Parallel()
	b, keys := setup(t), keyring(t, secret.NewKey("a"))
	w := b.push(`name: rotated
nodes:
  only:
    run: |
      echo "first $ONE"
      for n in one two; do
        while [ ! -e $n ]; do sleep 0.05; done
        echo "then $ONE $(cat $n)"
      done
`)
	b.setSecret(keys, w, "ONE", "value-of-one")
	id := b.enqueue(w, "")
	_, stop := b.startWorkerWith(1, keys)
	await(t, "the command", func() bool { return strings.Contains(b.logIfAny(id, "only"), "first ***\n") })
	b.rotate(keys, w, "value-of-two")
	b.hasRead(id, "ONE", 2)
	b.rotate(keys, w, "value-of-three")
	b.hasRead(id, "ONE", 3) // so version 2 is masked
	b.leave(id, "one", "value-of-two dmFsdWUtb2YtdHdv")
	await(t, "the second line", func() bool { return strings.Count(b.log(id, "only", event.Stdout), "\n") == 2 })
	stop()
	b.rotate(keys, w, "value-of-four") // while nobody drives it
	b.startWorkerWith(1, keys)
	await(t, "the second worker", func() bool { return b.has(id, event.NodeAttached) })
	b.leave(id, "two", "value-of-two value-of-three value-of-four")
	if x := b.end(id); x.Status != execution.Completed {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	if got, want := b.log(id, "only", event.Stdout), "first ***\nthen *** *** ***\nthen *** *** *** ***\n"; got != want {
		t.Errorf("the output is %q, want %q", got, want)
	}
	reads := pgtest.Get[string](t, b.pool, `SELECT string_agg((data->>'claim') || '/' || (data->>'version'), ' ' ORDER BY id)
		FROM audit_log WHERE execution_id = $1 AND action = 'secret.read'`, id)
	if want := "1/1 1/2 1/3 3/1 3/2 3/3 3/4"; reads != want {
		t.Errorf("the audit says %s, want %s", reads, want)
	}
	pgtest.CheckInvariants(t, b.pool)
}

// interjector does something once, before the next query of a name is sent.
type interjector struct {
	mu    sync.Mutex
	query string
	do    func()
}

func (i *interjector) before(query string, do func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.query, i.do = query, do
}

func (i *interjector) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	i.mu.Lock()
	do := i.do
	if do == nil || !strings.HasPrefix(d.SQL, "-- name: "+i.query+" ") {
		i.mu.Unlock()
		return ctx
	}
	i.do = nil
	i.mu.Unlock()
	do()
	return ctx
}

func (i *interjector) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestARotationDuringATakeoverIsMasked changes the secret when the new worker has read it, but does not know the signal yet.
func TestARotationDuringATakeoverIsMasked(t *testing.T) {
	t.Parallel()
	between := new(interjector)
	url := pgtest.Database(t)
	b, keys := open(t, url, between), keyring(t, secret.NewKey("a"))
	w := b.push("name: between\nnodes:\n  only:\n    run: |\n      echo first\n      while [ ! -e new ]; do sleep 0.05; done\n      cat new\n")
	b.setSecret(keys, w, "ONE", "value-of-one")
	id := b.enqueue(w, "")
	_, stop := b.startWorkerWith(1, keys)
	await(t, "the command", func() bool { return b.logIfAny(id, "only") == "first\n" })
	stop()
	between.before("ExecutionSettle", func() { b.rotate(keys, w, "value-of-two") })
	b.startWorkerWith(1, keys)
	await(t, "the second worker", func() bool { return b.has(id, event.NodeAttached) })
	b.leave(id, "new", "value-of-two\n")
	if x := b.end(id); x.Status != execution.Completed {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	if got, want := b.log(id, "only", event.Stdout), "first\n***\n"; got != want {
		t.Errorf("the output is %q, want %q", got, want)
	}
}

// TestWhoCannotMaskAnewGivesBack has a secret changed under a key that the worker lacks: another one goes on with the command.
func TestWhoCannotMaskAnewGivesBack(t *testing.T) {
	t.Parallel()
	a, other := secret.NewKey("a"), secret.NewKey("b")
	b := setup(t)
	w := b.push("name: anew\nnodes:\n  only:\n    run: |\n      echo first\n      while [ ! -e new ]; do sleep 0.05; done\n      cat new\n")
	b.setSecret(keyring(t, a), w, "ONE", "value-of-one")
	id := b.enqueue(w, "")
	b.startWorkerWith(1, keyring(t, a))
	await(t, "the command", func() bool { return b.logIfAny(id, "only") == "first\n" })
	b.rotate(keyring(t, other, a), w, "value-of-two")
	await(t, "the execution to be given back", func() bool { return b.has(id, event.Type("execution.released")) })
	b.startWorkerWith(1, keyring(t, other, a))
	await(t, "the second worker", func() bool { return b.has(id, event.NodeAttached) })
	b.leave(id, "new", "value-of-two\n")
	if x := b.end(id); x.Status != execution.Completed {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	if got, want := b.log(id, "only", event.Stdout), "first\n***\n"; got != want {
		t.Errorf("the output is %q, want %q", got, want)
	}
	pgtest.CheckInvariants(t, b.pool)
}
