package queue_test

import (
	"testing"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
)

func TestRelease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	id, other := b.enqueue(), b.enqueue(priority(10))
	if claimed := b.claim(worker, 2); len(claimed) != 2 {
		t.Fatalf("%d claims", len(claimed))
	}
	for _, stale := range []int64{0, 2} {
		wantCode(t, b.queue.Release(t.Context(), id, stale, "No."), errs.StaleClaim)
	}
	if err := b.queue.Release(t.Context(), id, 1, "The worker cannot."); err != nil {
		t.Fatal(err)
	}
	b.check()
	wantCode(t, b.queue.Release(t.Context(), id, 1, "Twice."), errs.StaleClaim)
	if r := b.row(id); r.Claim != 2 {
		t.Errorf("the claim is %d", r.Claim)
	}
	last := pgtest.Get[string](t, b.pool, "SELECT type || ' ' || (data->>'reason') FROM execution_events WHERE execution_id = $1 ORDER BY seq DESC LIMIT 1", id)
	if last != "execution.released The worker cannot." {
		t.Errorf("the last event is %s", last)
	}
	if err := b.queue.Release(t.Context(), other, 1, "Neither."); err != nil {
		t.Fatal(err)
	}
	first := b.enqueue(priority(10))
	for range 2 { // what was given back goes before all else
		if claimed := b.claim(worker, 1); len(claimed) != 1 || claimed[0].ID == first {
			t.Errorf("claimed %v", claimed)
		}
	}
}

func TestClaimPassesOverWhatIsToBeAvoided(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	avoided := b.workflow
	locked := b.enqueue()
	b.org, b.workflow = pgtest.Workflow(t, b.pool)
	open := b.enqueue()
	claimed, err := b.queue.Claim(t.Context(), worker, 5, avoided)
	if err != nil || len(claimed) != 1 || claimed[0].ID != open {
		t.Errorf("claimed %v, %v; want only the other workflow's", claimed, err)
	}
	if claimed = b.claim(worker, 5); len(claimed) != 1 || claimed[0].ID != locked {
		t.Errorf("claimed %v, want the other one", claimed)
	}
}

func TestClaimDecidesWhetherThereAreSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	set := func(deleted string) {
		pgtest.Exec(t, b.pool, `INSERT INTO secrets (id, workflow_id, key, latest_version, mask, updated_by, deleted_at)
			VALUES ($1, $2, 'KEY', 1, true, 'x', `+deleted+")", uuid.New(), b.workflow)
	}
	free := func(id uuid.UUID) {
		t.Helper()
		if err := b.queue.Release(t.Context(), id, b.row(id).Claim, "Again."); err != nil {
			t.Fatal(err)
		}
	}
	set("now()")
	without := b.enqueue()
	if claimed := b.claim(worker, 1); claimed[0].HasSecrets {
		t.Error("a deleted secret is to be read")
	}
	set("NULL")
	free(without)
	if claimed := b.claim(worker, 1); claimed[0].HasSecrets {
		t.Error("a secret of after the first claim is to be read")
	}
	with := b.enqueue()
	for range 2 { // until it has been read
		if claimed := b.claim(worker, 1); !claimed[0].HasSecrets {
			t.Error("a secret is not to be read")
		}
		free(with)
	}
	pgtest.Exec(t, b.pool, `WITH pin AS (INSERT INTO execution_secrets SELECT $1, id, 1 FROM secrets WHERE deleted_at IS NULL)
		UPDATE executions SET secrets_read = true WHERE id = $1`, with)
	pgtest.Exec(t, b.pool, "UPDATE secrets SET deleted_at = now()")
	if claimed := b.claim(worker, 1); claimed[0].ID != with || !claimed[0].HasSecrets {
		t.Error("what was given once is not given again")
	}
}
