package secret

import (
	"testing"

	"github.com/google/uuid"

	"foundry/internal/pgtest"
	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/redact"
)

// heir makes an execution that goes on in a sandbox of an earlier one.
func (b *bundle) heir(of Reader, sandbox uuid.UUID) Reader {
	b.t.Helper()
	r := b.held()
	pgtest.Exec(b.t, b.pool, "UPDATE executions SET rerun_of = $2, sandbox_from = $2 WHERE id = $1", r.ExecutionID, of.ExecutionID)
	pgtest.Exec(b.t, b.pool, "UPDATE sandboxes SET execution_id = $1, state = 'ready' WHERE id = $2 AND state = 'kept'", r.ExecutionID, sandbox)
	return r
}

// announce stores a mask of an execution.
func (b *bundle) announce(r Reader, number int, mask string) {
	b.t.Helper()
	sealed, err := b.store.SealMask(r.ExecutionID, number, redact.Value(mask))
	if err != nil {
		b.t.Fatal(err)
	}
	pgtest.Exec(b.t, b.pool, "INSERT INTO execution_masks VALUES ($1, $2, $3, $4, $5)", r.ExecutionID, number, sealed.KeyID, sealed.WrappedKey, sealed.Ciphertext)
}

// finish ends an execution and keeps the sandbox that it had, or destroys it.
func (b *bundle) finish(r Reader, sandbox uuid.UUID, state string) {
	b.t.Helper()
	b.end(r, "")
	pgtest.Exec(b.t, b.pool, "UPDATE sandboxes SET state = $2 WHERE id = $1", sandbox, state)
}

func (b *bundle) destroyed(sandbox uuid.UUID) {
	b.t.Helper()
	if n, err := dbsqlc.New(b.pool).SandboxFinish(b.t.Context(), sandbox); n != 1 || err != nil {
		b.t.Fatal(n, err)
	}
}

func (b *bundle) sweep() {
	b.t.Helper()
	if err := b.store.Sweep(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// masksOf are the masks that an execution masks, and the number of its next.
func (b *bundle) masksOf(r Reader) (masks []string, next int) {
	b.t.Helper()
	values, next, err := b.store.Masks(b.t.Context(), r.ExecutionID)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, v := range values {
		masks = append(masks, string(v))
	}
	return masks, next
}

// former reads and returns what is only to be masked, and what is given, both as KEY=value@version.
func (b *bundle) former(r Reader) (former, own []string) {
	b.t.Helper()
	values, err := b.store.Read(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, v := range values {
		if v.MaskOnly {
			former = append(former, shown([]Value{v})...)
		} else {
			own = append(own, shown([]Value{v})...)
		}
	}
	return former, own
}

// TestASandboxIsMaskedForAsLongAsItIsThere hands a sandbox on from execution to execution, while the secret is rotated.
func TestASandboxIsMaskedForAsLongAsItIsThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.set("KEY", "value-one")
	first := b.held()
	want(t, b.read(first), []string{"KEY=value-one@1"})
	b.announce(first, 1, "mask-one")
	b.announce(first, 2, "mask-two")
	sandbox := b.end(first, "kept")
	b.set("KEY", "value-two")
	b.set("KEY", "value-three")
	want(t, b.kept(), []string{"KEY@1", "KEY@2", "KEY@3"})

	second := b.heir(first, sandbox)
	former, own := b.former(second)
	want(t, own, []string{"KEY=value-three@3"})
	want(t, former, []string{"KEY=value-one@1", "KEY=value-two@2"}) // the second may have come into the sandbox in another way
	masks, next := b.masksOf(second)
	want(t, masks, []string{"mask-one", "mask-two"})
	want(t, next, 1)
	b.announce(second, 1, "mask-three")
	b.set("KEY", "value-four")
	b.sweep()
	want(t, b.kept(), []string{"KEY@1", "KEY@2", "KEY@3", "KEY@4"})
	b.finish(second, sandbox, "kept")
	b.sweep()

	third := b.heir(second, sandbox)
	former, own = b.former(third)
	want(t, own, []string{"KEY=value-four@4"})
	want(t, former, []string{"KEY=value-one@1", "KEY=value-two@2", "KEY=value-three@3"})
	masks, next = b.masksOf(third)
	want(t, masks, []string{"mask-one", "mask-two", "mask-three"})
	want(t, next, 1)
	b.announce(third, 1, "mask-four")
	if _, next = b.masksOf(third); next != 2 {
		t.Errorf("the next mask has the number %d", next)
	}
	audited := b.rows("SELECT target || '@' || (data->>'version') FROM audit_log WHERE action = 'secret.read' AND execution_id = $1 ORDER BY id", third.ExecutionID)
	want(t, audited, []string{"KEY@1", "KEY@2", "KEY@3", "KEY@4"})

	// It has lost the sandbox, but may print yet what it has read there.
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'destroying' WHERE id = $1", sandbox)
	b.destroyed(sandbox)
	b.sweep()
	want(t, b.kept(), []string{"KEY@1", "KEY@2", "KEY@3", "KEY@4"})
	want(t, len(b.rows("SELECT number FROM execution_masks")), 4)
	b.end(third, "")
	b.sweep()
	want(t, b.kept(), []string{"KEY@4"})
	want(t, len(b.rows("SELECT number FROM execution_masks")), 0)
}

// TestMasksGoWithTheLastSandbox destroys sandboxes; no sweep is needed for the masks of all that had been in the last one.
func TestMasksGoWithTheLastSandbox(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.held()
	b.announce(first, 1, "mask-one")
	lost := b.end(first, "destroying")
	sandbox := b.addSandbox(first, "kept")
	second := b.heir(first, sandbox)
	b.announce(second, 1, "mask-two")
	b.finish(second, sandbox, "kept")
	b.destroyed(lost) // another one, of before: what was masked then may be in the second too
	want(t, len(b.rows("SELECT number FROM execution_masks")), 2)
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'destroying' WHERE id = $1", sandbox)
	b.destroyed(sandbox)
	want(t, len(b.rows("SELECT number FROM execution_masks")), 0)
}

func (b *bundle) addSandbox(r Reader, state string) uuid.UUID {
	b.t.Helper()
	return pgtest.Get[uuid.UUID](b.t, b.pool, `INSERT INTO sandboxes (id, execution_id, provider, provider_id, host, state, claim)
		VALUES (gen_random_uuid(), $1, 'p', 'x', 'h', $2, 1) RETURNING id`, r.ExecutionID, state)
}

// TestARerunInAFreshSandboxMasksItsOwn has nothing to do with what the execution was given that it reruns.
func TestARerunInAFreshSandboxMasksItsOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.set("KEY", "value-one")
	first := b.held()
	b.read(first)
	b.announce(first, 1, "mask-one")
	b.end(first, "kept")
	b.set("KEY", "value-two")
	second := b.held()
	pgtest.Exec(t, b.pool, "UPDATE executions SET rerun_of = $2 WHERE id = $1", second.ExecutionID, first.ExecutionID)
	former, own := b.former(second)
	want(t, own, []string{"KEY=value-two@2"})
	want(t, former, nil)
	masks, _ := b.masksOf(second)
	want(t, masks, nil)
}

// TestARerunMasksDeletedSecrets gives nothing, and masks what was given before.
func TestARerunMasksDeletedSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.set("KEY", "value-one")
	first := b.held()
	b.read(first)
	sandbox := b.end(first, "kept")
	if err := b.store.Delete(t.Context(), b.by, b.workflow, "KEY"); err != nil {
		t.Fatal(err)
	}
	second := b.heir(first, sandbox)
	former, own := b.former(second)
	want(t, own, nil)
	want(t, former, []string{"KEY=value-one@1"})
}
