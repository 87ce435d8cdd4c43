package journal_test

import (
	"testing"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
)

// An end that was decided before a cancel was asked for would make the cancel's answer a lie.
func TestEndThatDoesNotKnowTheNewestSignalIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	j := b.start()
	id := b.claimed(1)[0]
	pgtest.Exec(t, b.pool, "UPDATE executions SET signal = signal + 1 WHERE id = $1", id)

	_, err := j.Commit(t.Context(), completed(id))
	wantCode(t, err, errs.Conflict)
	if x := b.get(id); x.Status != execution.Running {
		t.Fatalf("status %s", x.Status)
	}
	e := completed(id)
	e.Signal = 1
	j.commit(t, e)
	if x := b.get(id); x.Status != execution.Completed {
		t.Fatalf("status %s", x.Status)
	}
}
