package queue_test

import (
	"testing"

	"github.com/rs/zerolog"

	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
)

// TestSignalSecrets tells those that run with secrets of the workflow, and nobody else.
func TestSignalSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	signal := func() {
		t.Helper()
		if err := b.queue.SignalSecrets(t.Context(), b.workflow); err != nil {
			t.Fatal(err)
		}
	}
	signal() // nobody is there

	ids := b.enqueueMany(5)
	if n := len(b.claim(worker, 4)); n != 4 {
		t.Fatalf("%d claims", n)
	}
	// The claim decides it for a workflow without secrets; here is one that has some.
	pgtest.Exec(t, b.pool, "UPDATE executions SET secrets_read = false WHERE id = $1", ids[1])
	pgtest.Exec(t, b.pool, "UPDATE executions SET secrets_read = true WHERE id = $1", ids[4])
	_, other := pgtest.Workflow(t, b.pool)
	pgtest.Exec(t, b.pool, "UPDATE executions SET workflow_id = $2, number = 100 WHERE id = $1", ids[2], other)
	if err := b.queue.Release(t.Context(), ids[3], 1, "a reason"); err != nil {
		t.Fatal(err)
	}
	signal()
	signal()
	for n, want := range []int64{2, 0, 0, 0, 0} {
		if got := b.row(ids[n]).Signal; got != want {
			t.Errorf("execution %d has the signal %d, want %d", n, got, want)
		}
	}
}

// TestSignalSecretsWakesWorkers when there is something to tell.
func TestSignalSecretsWakesWorkers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.enqueue()
	statements := new(pgtest.Statements)
	pool := pgtest.Open(t, b.url, postgres.Options{Tracer: statements, MaxConns: 1})
	store := queue.NewStore(pool, postgres.NewNotifier(pool, zerolog.Nop())) // which has not notified yet, so that it may at once
	for n := range 2 {
		if err := store.SignalSecrets(t.Context(), b.workflow); err != nil {
			t.Fatal(err)
		}
		const notify = "SELECT pg_notify(channel, payload) FROM unnest($1::text[], $2::text[]) AS n (channel, payload)"
		if got := statements.Count(notify); got != n {
			t.Errorf("with %d executions that run, it notifies %d times", n, got)
		}
		b.claim(b.join(), 1)
	}
}
