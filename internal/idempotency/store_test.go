package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/idempotency"
	"foundry/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// testBundle is a database with a table that effects write to.
type testBundle struct {
	pool    *pgxpool.Pool
	store   *idempotency.Store
	request idempotency.Request
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	pool := pgtest.Pool(t)
	pgtest.Exec(t, pool, "CREATE TABLE effects (made text)")
	return &testBundle{pool, idempotency.NewStore(pool), idempotency.Request{
		OrganizationID: uuid.New(), PrincipalID: uuid.New(), Route: "POST /things", Key: "key", Hash: hashOf(t, "one"),
	}}
}

func hashOf(t *testing.T, said any) [32]byte {
	t.Helper()
	hash, err := idempotency.HashOf(said)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// answerOf is what the effect is answered with in these tests.
func answerOf(made string) idempotency.Answer {
	return idempotency.Answer{Status: 201, Header: map[string]string{"Location": "/things/" + made}, Body: []byte(`{"made":"` + made + `"}`)}
}

// do carries a request out in a transaction of its own.
func (b *testBundle) do(ctx context.Context, r idempotency.Request, effect func(tx pgx.Tx) (string, error)) (made string, err error) {
	guard := &idempotency.Guard[string]{Request: r, Answer: func(made string) (idempotency.Answer, error) { return answerOf(made), nil }}
	err = pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) (err error) {
		made, err = guard.Do(ctx, tx, func() (string, error) { return effect(tx) })
		return err
	})
	return made, err
}

// making is an effect that leaves a row.
func making(made string) func(pgx.Tx) (string, error) {
	return func(tx pgx.Tx) (string, error) {
		_, err := tx.Exec(context.Background(), "INSERT INTO effects VALUES ($1)", made)
		return made, err
	}
}

func (b *testBundle) made(t *testing.T) int {
	t.Helper()
	return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM effects")
}

// wantReplay fails unless the error is the answer that was given first.
func wantReplay(t *testing.T, err error, made string) {
	t.Helper()
	replay, ok := errors.AsType[*idempotency.ReplayError](err)
	if !ok {
		t.Errorf("got %v, want the first answer again", err)
		return
	}
	if diff := cmp.Diff(answerOf(made), replay.Answer); diff != "" {
		t.Errorf("the answer (-want +got):\n%s", diff)
	}
}

func TestTheEffectHappensOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.store.Check(t.Context(), b.request); err != nil {
		t.Errorf("before: %v", err)
	}
	if made, err := b.do(t.Context(), b.request, making("first")); err != nil || made != "first" {
		t.Fatalf("first: %q, %v", made, err)
	}
	for range 2 {
		_, err := b.do(t.Context(), b.request, making("again"))
		wantReplay(t, err, "first")
		wantReplay(t, b.store.Check(t.Context(), b.request), "first")
	}
	if n := b.made(t); n != 1 {
		t.Errorf("it happened %d times", n)
	}
}

func TestWithoutAKeyItHappensEachTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var guard *idempotency.Guard[string]
	for range 2 {
		err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
			_, err := guard.Do(t.Context(), tx, func() (string, error) { return making("one")(tx) })
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := b.made(t); n != 2 {
		t.Errorf("it happened %d times, want 2", n)
	}
}

func TestAnotherRequestWithTheKeyIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.do(t.Context(), b.request, making("first")); err != nil {
		t.Fatal(err)
	}
	other := b.request
	other.Hash = hashOf(t, "two")
	_, err := b.do(t.Context(), other, making("other"))
	for _, err := range []error{err, b.store.Check(t.Context(), other)} {
		if !errs.Is(err, idempotency.Reused) {
			t.Errorf("got %v, want %s", err, idempotency.Reused)
		}
	}
	if n := b.made(t); n != 1 {
		t.Errorf("it happened %d times", n)
	}
}

func TestKeysBelongToWhoSentThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.do(t.Context(), b.request, making("first")); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*idempotency.Request){
		"another organization": func(r *idempotency.Request) { r.OrganizationID = uuid.New() },
		"another principal":    func(r *idempotency.Request) { r.PrincipalID = uuid.New() },
		"another route":        func(r *idempotency.Request) { r.Route = "POST /others" },
		"another key":          func(r *idempotency.Request) { r.Key = "KEY" },
	} {
		r := b.request
		edit(&r)
		if _, err := b.do(t.Context(), r, making(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := b.made(t); n != 5 {
		t.Errorf("it happened %d times, want 5", n)
	}
}

func TestWhatFailedIsNotKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refused := errs.E(errs.Validation, "Refused.")
	_, err := b.do(t.Context(), b.request, func(tx pgx.Tx) (string, error) {
		if _, err := making("refused")(tx); err != nil {
			return "", err
		}
		return "", refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("the effect's error became %v", err)
	}
	guard := &idempotency.Guard[string]{Request: b.request, Answer: func(string) (idempotency.Answer, error) { return idempotency.Answer{}, refused }}
	err = pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		_, err := guard.Do(t.Context(), tx, func() (string, error) { return making("unanswerable")(tx) })
		return err
	})
	if !errors.Is(err, refused) {
		t.Errorf("the answer's error became %v", err)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM idempotency_keys"); n != 0 {
		t.Errorf("%d keys are kept", n)
	}
	if made, err := b.do(t.Context(), b.request, making("second")); err != nil || made != "second" {
		t.Errorf("after failures: %q, %v", made, err)
	}
	if n := b.made(t); n != 1 {
		t.Errorf("it happened %d times", n)
	}
}

// TestTheSecondWaitsForTheFirst holds that the key is inserted before the effect: whoever comes second waits, and does not begin its own.
func TestTheSecondWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	for name, outcome := range map[string]error{"which commits": nil, "which fails": errs.E(errs.Conflict, "No.")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			inside, release := make(chan struct{}), make(chan struct{})
			var both sync.WaitGroup
			both.Go(func() {
				_, err := b.do(t.Context(), b.request, func(tx pgx.Tx) (string, error) {
					close(inside)
					<-release
					if outcome != nil {
						return "", outcome
					}
					return making("first")(tx)
				})
				if !errors.Is(err, outcome) {
					t.Errorf("the first: %v", err)
				}
			})
			<-inside
			var second atomic.Bool
			var made string
			var err error
			both.Go(func() {
				made, err = b.do(t.Context(), b.request, func(tx pgx.Tx) (string, error) {
					second.Store(true)
					return making("second")(tx)
				})
			})
			eventually(t, func() bool {
				return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
			})
			if second.Load() {
				t.Error("the second began while the first was under way")
			}
			if err := b.store.Check(t.Context(), b.request); err != nil {
				t.Errorf("what is not committed is seen: %v", err)
			}
			close(release)
			both.Wait()
			if outcome == nil {
				wantReplay(t, err, "first")
			} else if err != nil || made != "second" {
				t.Errorf("the second, after the first failed: %q, %v", made, err)
			}
			if n := b.made(t); n != 1 {
				t.Errorf("it happened %d times", n)
			}
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var all sync.WaitGroup
	var won atomic.Int32
	for i := range 8 {
		all.Go(func() {
			_, err := b.do(t.Context(), b.request, making(fmt.Sprint(i)))
			if _, replayed := errors.AsType[*idempotency.ReplayError](err); err == nil {
				won.Add(1)
			} else if !replayed {
				t.Errorf("one of many: %v", err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 || b.made(t) != 1 {
		t.Errorf("%d of 8 won, it happened %d times", won.Load(), b.made(t))
	}
}

func TestKeysExpire(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.do(t.Context(), b.request, making("first")); err != nil {
		t.Fatal(err)
	}
	if !pgtest.Get[bool](t, b.pool, "SELECT expires_at BETWEEN now() + interval '23 hours' AND now() + interval '24 hours' FROM idempotency_keys") {
		t.Error("a key is not kept for 24 hours")
	}
	pgtest.Exec(t, b.pool, "UPDATE idempotency_keys SET expires_at = now()")
	if err := b.store.Check(t.Context(), b.request); err != nil {
		t.Errorf("an expired key: %v", err)
	}
	// It is free for any request, whose answer then counts.
	other := b.request
	other.Hash = hashOf(t, "two")
	if made, err := b.do(t.Context(), other, making("second")); err != nil || made != "second" {
		t.Errorf("an expired key: %q, %v", made, err)
	}
	wantReplay(t, b.store.Check(t.Context(), other), "second")
	if !errs.Is(b.store.Check(t.Context(), b.request), idempotency.Reused) {
		t.Error("the first request still has the key")
	}
}

// TestWhatHasExpiredGoes holds that each new key takes more than itself away, so that the table does not grow.
func TestWhatHasExpiredGoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pgtest.Exec(t, b.pool, `INSERT INTO idempotency_keys (organization_id, principal_id, route, key, request_hash, expires_at)
		SELECT gen_random_uuid(), gen_random_uuid(), 'r', 'old', '', now() - interval '1 hour' FROM generate_series(1, 15)`)
	for i, want := range []int{6, 2, 3} { // ten go with each key
		r := b.request
		r.Key = fmt.Sprint(i)
		if _, err := b.do(t.Context(), r, making("one")); err != nil {
			t.Fatal(err)
		}
		if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM idempotency_keys"); n != want {
			t.Errorf("%d keys are left, want %d", n, want)
		}
	}
}

func TestHashOf(t *testing.T) {
	t.Parallel()
	if hashOf(t, map[string]int{"a": 1, "b": 2}) != hashOf(t, map[string]int{"b": 2, "a": 1}) {
		t.Error("the same said in another order is another request")
	}
	if hashOf(t, map[string]int{"a": 1}) == hashOf(t, map[string]int{"a": 2}) {
		t.Error("two requests have one hash")
	}
	if _, err := idempotency.HashOf(func() {}); err == nil {
		t.Error("what cannot be encoded has a hash")
	}
}

// eventually fails unless the condition comes true within two minutes.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not come true within 2 minutes")
		}
	}
}
