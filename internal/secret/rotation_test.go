package secret

import (
	"testing"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
)

// newer reads what is not known from before, and returns it as KEY=value@version. It is to be masked only.
func (b *bundle) newer(r Reader, known *[]Value) []string {
	b.t.Helper()
	values, err := b.store.ReadNewer(b.t.Context(), r, *known)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, v := range values {
		if !v.MaskOnly {
			b.t.Errorf("%s@%d would be given to commands", v.Key, v.Version)
		}
	}
	*known = append(*known, values...)
	return shown(values)
}

func (b *bundle) remove(key string) {
	b.t.Helper()
	if err := b.store.Delete(b.t.Context(), b.by, b.workflow, key); err != nil {
		b.t.Fatal(err)
	}
}

// TestWhatIsSetLaterIsMasked has an execution follow the changes of a secret that it was given.
func TestWhatIsSetLaterIsMasked(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.set("KEY", "value-zero")
	b.set("KEY", "value-one")
	older := b.held()
	b.read(older) // which keeps its version in the database
	b.set("KEY", "value-two")
	b.set("OTHER", "other-value")
	r := b.held()
	known, err := b.store.Read(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	want(t, shown(known), []string{"KEY=value-two@3", "OTHER=other-value@1"})
	want(t, b.newer(r, &known), nil)

	b.set("KEY", "value-three")
	b.set("LATE", "late-value")
	if _, err := b.store.Set(ctx, b.by, Change{WorkflowID: b.workflow, Key: "KEY", Value: "abc"}); err != nil {
		t.Fatal(err)
	}
	want(t, b.newer(r, &known), []string{"KEY=value-three@4", "KEY=abc@5"})
	if n := len(known); !known[n-2].Mask || known[n-1].Mask {
		t.Error("a version has its own rule whether it is masked")
	}
	want(t, b.newer(r, &known), nil)

	b.remove("KEY")
	b.set("KEY", "value-again")
	b.set("KEY", "value-anew")
	b.sweep()
	want(t, b.newer(r, &known), []string{"KEY=value-again@1", "KEY=value-anew@2"})
	want(t, b.rows("SELECT target || ' ' || data || ' ' || actor FROM audit_log WHERE action = 'secret.read' AND execution_id = $1 ORDER BY id", r.ExecutionID), []string{
		`KEY {"claim": 1, "version": 3} host`, `OTHER {"claim": 1, "version": 1} host`,
		`KEY {"claim": 1, "version": 4} host`, `KEY {"claim": 1, "version": 5} host`,
		`KEY {"claim": 1, "version": 1} host`, `KEY {"claim": 1, "version": 2} host`,
	})

	// Whoever takes it over masks the same.
	want(t, b.read(r), shown([]Value{known[0], known[2], known[3], known[4], known[5], known[1]}))
	want(t, b.read(b.held()), []string{"KEY=value-anew@2", "LATE=late-value@1", "OTHER=other-value@1"})

	pgtest.Exec(t, b.pool, "UPDATE executions SET status = 'completed', finished_at = now(), worker_id = NULL")
	b.sweep()
	want(t, b.rows("SELECT DISTINCT s.key || '@' || v.version FROM secret_versions v JOIN secrets s ON s.id = v.secret_id WHERE v.ciphertext IS NOT NULL ORDER BY 1"),
		[]string{"KEY@2", "LATE@1", "OTHER@1"})
}

func TestWhatIsSetLaterNeedsTheClaimAndTheKey(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.set("KEY", "value-one")
	r := b.held()
	known, err := b.store.Read(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	b.store = b.with(b.b, b.a)
	b.set("KEY", "value-two")
	before := b.audits()
	_, err = b.with(b.a).ReadNewer(ctx, r, known)
	wantCode(t, err, KeyMissing, `The secret KEY is encrypted with the key "b"`)
	stale := r
	stale.Claim++
	_, err = b.store.ReadNewer(ctx, stale, known)
	wantCode(t, err, errs.StaleClaim, "")
	want(t, b.audits(), before)
	pgtest.Exec(t, b.pool, "UPDATE secret_versions SET ciphertext = set_bit(ciphertext, 100, 1 - get_bit(ciphertext, 100)) WHERE version = 2")
	_, err = b.store.ReadNewer(ctx, r, known)
	wantCode(t, err, Altered, "The secret KEY cannot be opened")
}
