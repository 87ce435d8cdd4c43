package secret

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
	"foundry/internal/redact"
)

func TestAWrongKeyStopsTheStart(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	for range 2 { // the second finds its own sentinels
		if err := b.with(b.a, b.b).CheckKeys(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.with(b.b).CheckKeys(ctx); err != nil {
		t.Errorf("without a key that others have: %v", err)
	}
	wrong := NewKey("a")
	err := b.with(b.b, wrong).CheckKeys(ctx)
	wantCode(t, err, errs.Invalid, `The encryption key "a" is not the key of that name`)
	if _, encoded, _ := strings.Cut(wrong, ":"); strings.Contains(err.Error(), encoded) {
		t.Errorf("the error tells the key: %v", err)
	}
	if err := b.with(NewKey("c")).CheckKeys(ctx); err != nil {
		t.Errorf("with a new key: %v", err)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM encryption_sentinels"); n != 3 {
		t.Errorf("there are %d sentinels, want those of a, b and c", n)
	}
}

func TestRekey(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	const secrets = 99
	for n := range secrets {
		b.set(fmt.Sprintf("KEY_%d", n), fmt.Sprintf("value-%d", n))
	}
	r := b.held()
	b.read(r)
	for n := range 10 {
		b.set(fmt.Sprintf("KEY_%d", n), "value-of-later") // old versions are kept, and count too
	}

	// The process that rekeys has neither key a ...
	_, unreadable, err := b.with(b.b).Rekey(ctx, func(int) {})
	if err != nil || unreadable != secrets+10 {
		t.Errorf("without the old key %d are unreadable, %v", unreadable, err)
	}
	// ... nor the time to go through with it.
	stopped := fmt.Errorf("stopped")
	func() {
		defer func() {
			if got, _ := recover().(error); !errors.Is(got, stopped) {
				t.Errorf("it was not stopped after a batch: %v", got)
			}
		}()
		_, _, _ = b.with(b.b, b.a).Rekey(ctx, func(int) { panic(stopped) })
	}()
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM secret_versions WHERE key_id = 'b'"); n != 100 {
		t.Errorf("a batch has %d", n)
	}
	want(t, len(b.readWith(b.with(b.b, b.a), r)), secrets+10) // in the middle
	changed, unreadable, err := b.with(b.b, b.a).Rekey(ctx, func(int) {})
	if err != nil || changed != secrets+10-100 || unreadable != 0 {
		t.Errorf("the rest: %d changed, %d unreadable, %v", changed, unreadable, err)
	}
	want(t, len(b.readWith(b.with(b.b), r)), secrets+10) // the old key may go
	changed, _, err = b.with(b.b, b.a).Rekey(ctx, func(int) {})
	if err != nil || changed != 0 {
		t.Errorf("a second time: %d changed, %v", changed, err)
	}
	_, _, err = NewStore(b.pool, nil).Rekey(ctx, func(int) {})
	wantCode(t, err, errs.Invalid, "FOUNDRY_ENCRYPTION_KEYS")
}

func (b *bundle) readWith(s *Store, r Reader) []string {
	b.t.Helper()
	values, err := s.Read(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	return shown(values)
}

// TestRekeyNeverUndoesASet sets values, with the old key and the new, while two processes rekey.
func TestRekeyNeverUndoesASet(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	for n := range 20 {
		b.set(fmt.Sprintf("KEY_%d", n), "value-old")
	}
	stores := []*Store{b.with(b.a, b.b), b.with(b.b, b.a)}
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for range 5 {
				if _, _, err := stores[1].Rekey(ctx, func(int) {}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range 20 {
		group.Go(func() {
			for round := range 3 {
				c := Change{WorkflowID: b.workflow, Key: fmt.Sprintf("KEY_%d", n), Value: redact.Value(fmt.Sprintf("value-%d-%d", n, round)), Mask: true}
				if _, err := stores[round%2].Set(ctx, b.by, c); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for n := range 20 {
		value, version, err := stores[0].Reveal(ctx, b.by, b.workflow, fmt.Sprintf("KEY_%d", n))
		if want := fmt.Sprintf("value-%d-2", n); err != nil || version != 4 || string(value) != want {
			t.Errorf("KEY_%d is version %d, %v; want 4, with the value that was set last", n, version, err)
		}
	}
}
