package secret

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/redact"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bundle is a database with one workflow, and a store with the key a.
type bundle struct {
	t        *testing.T
	pool     *pgxpool.Pool
	store    *Store
	a, b     string // keys
	org      uuid.UUID
	workflow uuid.UUID
	by       audit.Actor
	numbers  int
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, pool: pgtest.Pool(t), a: NewKey("a"), b: NewKey("b")}
	b.store = b.with(b.a)
	b.org, b.workflow = pgtest.Workflow(t, b.pool)
	b.by = audit.Actor{OrganizationID: b.org, Kind: audit.User, Name: "ada", Address: "192.0.2.1", RequestID: "r-1"}
	return b
}

// with is a store of a process that has the keys.
func (b *bundle) with(keys ...string) *Store {
	b.t.Helper()
	return NewStore(b.pool, ring(b.t, keys...))
}

func (b *bundle) set(key, value string) int {
	b.t.Helper()
	version, err := b.store.Set(b.t.Context(), b.by, Change{WorkflowID: b.workflow, Key: key, Value: redact.Value(value), Mask: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return version
}

// held makes an execution that a worker holds.
func (b *bundle) held() Reader {
	b.t.Helper()
	b.numbers++
	r := Reader{ExecutionID: execution.NewID(), Claim: 1, OrganizationID: b.org, WorkflowID: b.workflow, WorkerID: uuid.New(), Worker: "host"}
	pgtest.Exec(b.t, b.pool, `INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, claim, worker_id, queued_at, queue_deadline_at, claimed_at)
		VALUES ($1, $2, $3, 1, $4, 'running', 'api', 1, $5, now(), now() + interval '1 day', now())`, r.ExecutionID, b.org, b.workflow, b.numbers, r.WorkerID)
	return r
}

// end ends an execution. With a sandbox state, it leaves a sandbox behind.
func (b *bundle) end(r Reader, sandbox string) (sandboxID uuid.UUID) {
	b.t.Helper()
	pgtest.Exec(b.t, b.pool, "UPDATE executions SET status = 'completed', finished_at = now(), worker_id = NULL, claim = claim + 1 WHERE id = $1", r.ExecutionID)
	if sandbox == "" {
		return uuid.Nil
	}
	sandboxID = execution.NewID()
	pgtest.Exec(b.t, b.pool, "INSERT INTO sandboxes (id, execution_id, provider, provider_id, host, state, claim) VALUES ($1, $2, 'p', 'x', 'h', $3, 1)", sandboxID, r.ExecutionID, sandbox)
	return sandboxID
}

// read reads as the holder of a claim and returns KEY=value@version.
func (b *bundle) read(r Reader) []string {
	b.t.Helper()
	values, err := b.store.Read(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	return shown(values)
}

func shown(values []Value) []string {
	var list []string
	for _, v := range values {
		list = append(list, fmt.Sprintf("%s=%s@%d", v.Key, string(v.Text), v.Version))
	}
	return list
}

// kept lists what is not erased, as KEY@version.
func (b *bundle) kept() []string {
	b.t.Helper()
	return b.rows(`SELECT s.key || '@' || v.version FROM secret_versions v JOIN secrets s ON s.id = v.secret_id
		WHERE v.ciphertext IS NOT NULL ORDER BY s.created_at, v.version`)
}

func (b *bundle) rows(sql string, args ...any) []string {
	b.t.Helper()
	return pgtest.Get[[]string](b.t, b.pool, "SELECT COALESCE(array_agg(x.v), '{}') FROM ("+sql+") AS x (v)", args...)
}

func (b *bundle) audits() []string {
	b.t.Helper()
	return b.rows("SELECT actor_kind || ' ' || actor || ' ' || action || ' ' || target || ' ' || data FROM audit_log ORDER BY id")
}

func want[T any](t *testing.T, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func wantCode(t *testing.T, err error, code errs.Code, text string) {
	t.Helper()
	if !errs.Is(err, code) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want the code %s and %q", err, code, text)
	}
}

func TestSetListRevealDelete(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	if v := b.set("B_KEY", "value-one"); v != 1 {
		t.Errorf("the first version is %d", v)
	}
	if v := b.set("B_KEY", "value-two"); v != 2 {
		t.Errorf("the second version is %d", v)
	}
	b.set("A_KEY", "another-value")

	list, err := b.store.List(ctx, b.workflow)
	if err != nil || len(list) != 2 || list[0].Key != "A_KEY" || list[1].Version != 2 || list[1].UpdatedBy != "ada" || !list[1].Mask || list[1].LastUsedAt != nil {
		t.Errorf("got %+v and %v", list, err)
	}
	value, version, err := b.store.Reveal(ctx, b.by, b.workflow, "B_KEY")
	if err != nil || string(value) != "value-two" || version != 2 {
		t.Errorf("revealed version %d and %v", version, err)
	}
	if err := b.store.Delete(ctx, b.by, b.workflow, "B_KEY"); err != nil {
		t.Fatal(err)
	}
	want(t, b.kept(), []string{"A_KEY@1"})
	if again := b.set("B_KEY", "value-three"); again != 1 {
		t.Errorf("a new secret of a name that was deleted begins with version %d", again)
	}
	want(t, b.audits(), []string{
		`user ada secret.set B_KEY {"version": 1}`, `user ada secret.set B_KEY {"version": 2}`, `user ada secret.set A_KEY {"version": 1}`,
		`user ada secret.reveal B_KEY {"version": 2}`, `user ada secret.delete B_KEY {}`, `user ada secret.set B_KEY {"version": 1}`,
	})
}

func TestUnknownSecretsAndWorkflows(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	_, _, err := b.store.Reveal(ctx, b.by, b.workflow, "NONE")
	wantCode(t, err, errs.NotFound, `"NONE"`)
	wantCode(t, b.store.Delete(ctx, b.by, b.workflow, "NONE"), errs.NotFound, `"NONE"`)
	_, err = b.store.Get(ctx, b.workflow, "NONE")
	wantCode(t, err, errs.NotFound, `"NONE"`)
	_, err = b.store.Set(ctx, b.by, Change{WorkflowID: uuid.New(), Key: "KEY", Value: "a-value", Mask: true})
	wantCode(t, err, errs.NotFound, "workflow")
	want(t, b.audits(), []string{})
}

func TestWithoutKeys(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.set("KEY", "a-value")
	r := b.held()
	before := b.audits()
	none := NewStore(b.pool, nil)
	_, err := none.Set(ctx, b.by, Change{WorkflowID: b.workflow, Key: "KEY", Value: "a-value", Mask: true})
	wantCode(t, err, errs.Unavailable, "FOUNDRY_ENCRYPTION_KEYS")
	_, _, err = none.Reveal(ctx, b.by, b.workflow, "KEY")
	wantCode(t, err, errs.Unavailable, "FOUNDRY_ENCRYPTION_KEYS")
	_, err = none.Read(ctx, r)
	wantCode(t, err, KeyMissing, `The secret KEY is encrypted with the key "a"`)
	_, err = none.SealMask(r.ExecutionID, 1, "mask")
	wantCode(t, err, KeyMissing, "")
	if err := none.CheckKeys(ctx); err != nil {
		t.Error(err)
	}
	want(t, b.audits(), before)
	if list, err := none.List(ctx, b.workflow); err != nil || len(list) != 1 {
		t.Errorf("got %v and %v", list, err)
	}
	if err := none.Delete(ctx, b.by, b.workflow, "KEY"); err != nil {
		t.Error(err)
	}
}

func TestLimitsOfAWorkflow(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	big := strings.Repeat("v", MaxValue)
	for n := range MaxTotal / MaxValue {
		b.set(fmt.Sprintf("BIG_%d", n), big)
	}
	b.set("BIG_0", big) // takes the place of its former value
	_, err := b.store.Set(ctx, b.by, Change{WorkflowID: b.workflow, Key: "MORE", Value: "a-value", Mask: true})
	wantCode(t, err, errs.TooLarge, "at most 262144 bytes together; with this one they would have 262151")
	b.set("BIG_0", "a-value")
	for n := range MaxPerOwner - MaxTotal/MaxValue {
		b.set(fmt.Sprintf("KEY_%d", n), "a-value")
	}
	_, err = b.store.Set(ctx, b.by, Change{WorkflowID: b.workflow, Key: "MORE", Value: "a-value", Mask: true})
	wantCode(t, err, errs.TooLarge, "at most 100 secrets")
	b.set("KEY_0", "b-value")
}

func TestConcurrentSetsAreNumbered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	versions := make([]int, 8)
	var group sync.WaitGroup
	for n := range versions {
		group.Go(func() {
			var err error
			versions[n], err = b.store.Set(t.Context(), b.by, Change{WorkflowID: b.workflow, Key: "KEY", Value: "a-value", Mask: true})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	slices.Sort(versions)
	want(t, versions, []int{1, 2, 3, 4, 5, 6, 7, 8})
	want(t, b.kept(), []string{"KEY@8"})
}

func TestReadKeepsTheVersionsOfTheFirstClaim(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.set("ONE", "one-old")
	b.set("TWO", "two-old")
	r := b.held()
	want(t, b.read(r), []string{"ONE=one-old@1", "TWO=two-old@1"})
	b.set("ONE", "one-new")
	b.set("THREE", "three-new")
	if err := b.store.Delete(t.Context(), b.by, b.workflow, "TWO"); err != nil {
		t.Fatal(err)
	}
	// A mask that is taken away later does not uncover what this execution printed.
	if _, err := b.store.Set(t.Context(), b.by, Change{WorkflowID: b.workflow, Key: "ONE", Value: "one-shown"}); err != nil {
		t.Fatal(err)
	}

	pgtest.Exec(t, b.pool, "UPDATE executions SET claim = 3 WHERE id = $1", r.ExecutionID)
	r.Claim = 3
	values, err := b.store.Read(t.Context(), r)
	if err != nil || !values[0].Mask {
		t.Fatalf("got %v and %v, want both masked", values, err)
	}
	want(t, shown(values), []string{"ONE=one-old@1", "ONE=one-new@2", "ONE=one-shown@3", "TWO=two-old@1"})
	for _, v := range values {
		if given := v.Key == "TWO" || v.Version == 1; v.MaskOnly == given {
			t.Errorf("%s@%d is only to be masked: %t", v.Key, v.Version, v.MaskOnly)
		}
	}
	want(t, b.read(b.held()), []string{"ONE=one-shown@3", "THREE=three-new@1"})

	reads := b.rows("SELECT target || ' ' || data || ' ' || actor FROM audit_log WHERE action = 'secret.read' AND execution_id = $1 ORDER BY id", r.ExecutionID)
	want(t, reads, []string{
		`ONE {"claim": 1, "version": 1} host`, `TWO {"claim": 1, "version": 1} host`, `ONE {"claim": 3, "version": 1} host`, `ONE {"claim": 3, "version": 2} host`, `ONE {"claim": 3, "version": 3} host`, `TWO {"claim": 3, "version": 1} host`,
	})
	if info, err := b.store.Get(t.Context(), b.workflow, "ONE"); err != nil || info.LastUsedAt == nil {
		t.Errorf("got %+v and %v, want the time of the last use", info, err)
	}
}

func TestASecretOfLaterIsNotGiven(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.held()
	want(t, b.read(r), nil)
	b.set("LATE", "late-value")
	want(t, b.read(r), nil)
}

func TestStaleClaimReadsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.set("KEY", "a-value")
	ended := b.held()
	b.end(ended, "")
	other := b.held()
	for name, r := range map[string]Reader{
		"older":   {ExecutionID: other.ExecutionID, Claim: 0, OrganizationID: b.org, WorkflowID: b.workflow},
		"newer":   {ExecutionID: other.ExecutionID, Claim: 2, OrganizationID: b.org, WorkflowID: b.workflow},
		"ended":   {ExecutionID: ended.ExecutionID, Claim: 2, OrganizationID: b.org, WorkflowID: b.workflow},
		"unknown": {ExecutionID: uuid.New(), Claim: 1, OrganizationID: b.org, WorkflowID: b.workflow},
	} {
		values, err := b.store.Read(t.Context(), r)
		if !errs.Is(err, errs.StaleClaim) || values != nil {
			t.Errorf("%s: got %v and %v", name, values, err)
		}
	}
	want(t, b.rows("SELECT target FROM audit_log WHERE action = 'secret.read'"), []string{})
	want(t, b.rows("SELECT version::text FROM execution_secrets"), []string{})
}

func TestVersionsAreErasedWhenNobodyNeedsThem(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.set("KEY", "value-1")
	live, keeper := b.held(), b.held()
	b.read(live)
	b.read(keeper)
	b.set("KEY", "value-2")
	b.set("KEY", "value-3")
	want(t, b.kept(), []string{"KEY@1", "KEY@2", "KEY@3"}) // who was given the first masks all that follow
	sandbox := b.end(keeper, "kept")
	b.end(live, "")
	b.set("KEY", "value-4")
	want(t, b.kept(), []string{"KEY@1", "KEY@2", "KEY@3", "KEY@4"})
	if err := b.store.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	want(t, b.kept(), []string{"KEY@1", "KEY@2", "KEY@3", "KEY@4"})
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'destroyed', ended_at = now() WHERE id = $1", sandbox)
	if err := b.store.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	want(t, b.kept(), []string{"KEY@4"})

	last := b.held()
	b.read(last)
	if err := b.store.Delete(ctx, b.by, b.workflow, "KEY"); err != nil {
		t.Fatal(err)
	}
	want(t, b.read(last), []string{"KEY=value-4@4"})
	b.end(last, "")
	if err := b.store.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	want(t, b.kept(), []string{})
}

// TestAPinIsNeverErased has executions begin while a secret is set again and again.
func TestAPinIsNeverErased(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.set("KEY", "value-0")
	readers := make([]Reader, 40)
	for n := range readers {
		readers[n] = b.held()
	}
	stop := make(chan struct{})
	var setter sync.WaitGroup
	setter.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			_, err := b.store.Set(context.WithoutCancel(t.Context()), b.by, Change{WorkflowID: b.workflow, Key: "KEY", Value: "a-value", Mask: true})
			if err != nil {
				t.Error(err)
			}
		}
	})
	var group sync.WaitGroup
	for _, r := range readers {
		group.Go(func() {
			values, err := b.store.Read(t.Context(), r)
			if err != nil || len(values) != 1 {
				t.Errorf("got %v and %v, want one secret", values, err)
			}
		})
	}
	group.Wait()
	close(stop)
	setter.Wait()
}

// TestMovedOrChangedRowsDoNotOpen does on the database what somebody with access to it could.
func TestMovedOrChangedRowsDoNotOpen(t *testing.T) {
	t.Parallel()
	swap := func(columns string) string {
		return `UPDATE secret_versions v SET (` + columns + `) = (SELECT ` + columns + ` FROM secret_versions o JOIN secrets s ON s.id = o.secret_id AND s.key = 'OTHER' WHERE o.version = 1)
			FROM secrets s WHERE s.id = v.secret_id AND s.key = 'KEY' AND v.version = 2`
	}
	for name, sql := range map[string]string{
		"the row of another secret":  swap("key_id, wrapped_key, ciphertext"),
		"its ciphertext":             swap("key_id, ciphertext"),
		"its data key":               swap("key_id, wrapped_key"),
		"an older version":           `UPDATE secret_versions v SET (wrapped_key, ciphertext) = (SELECT wrapped_key, ciphertext FROM secret_versions o WHERE o.secret_id = v.secret_id AND o.version = 1) WHERE v.version = 2`,
		"another version's number":   `UPDATE secrets SET latest_version = 3 WHERE key = 'KEY'`,
		"another workflow":           `UPDATE secrets SET workflow_id = (SELECT id FROM workflows ORDER BY id DESC LIMIT 1) WHERE key = 'KEY'`,
		"another key":                `UPDATE secrets SET key = 'KEY2' WHERE key = 'KEY'`,
		"a bit of the ciphertext":    `UPDATE secret_versions SET ciphertext = set_bit(ciphertext, 3, 1 - get_bit(ciphertext, 3)) WHERE version = 2`,
		"a bit of the data key":      `UPDATE secret_versions SET wrapped_key = set_bit(wrapped_key, 200, 1 - get_bit(wrapped_key, 200)) WHERE version = 2`,
		"the name of the key":        `UPDATE secret_versions SET key_id = 'b' WHERE version = 2`,
		"a ciphertext that is short": `UPDATE secret_versions SET ciphertext = '\x00' WHERE version = 2`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.store = b.with(b.a, b.b)
			_, _ = pgtest.Workflow(t, b.pool) // a second one
			b.set("KEY", "value-1")
			first := b.held()
			b.read(first) // so that version 1 is kept
			b.set("KEY", "value-2")
			b.set("OTHER", "other-value")
			if name == "another version's number" {
				pgtest.Exec(t, b.pool, "UPDATE secret_versions SET version = 3 WHERE version = 2")
			}
			if pgtest.Exec(t, b.pool, sql) != 1 {
				t.Fatal("nothing was changed")
			}
			key := pgtest.Get[string](t, b.pool, "SELECT key FROM secrets WHERE key LIKE 'KEY%'")
			r := b.held()
			r.WorkflowID = pgtest.Get[uuid.UUID](t, b.pool, "SELECT workflow_id FROM secrets WHERE key = $1", key)
			_, err := b.store.Read(t.Context(), r)
			wantCode(t, err, Altered, "The secret "+key+" cannot be opened")
			if strings.Contains(err.Error(), "value-") {
				t.Errorf("the error tells a value: %v", err)
			}
			_, _, err = b.store.Reveal(t.Context(), b.by, r.WorkflowID, key)
			wantCode(t, err, Altered, "")
		})
	}
}

func TestMasks(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	r, other := b.held(), b.held()
	insert := func(owner Reader, number int, sealed Sealed) {
		pgtest.Exec(t, b.pool, "INSERT INTO execution_masks VALUES ($1, $2, $3, $4, $5)", owner.ExecutionID, number, sealed.KeyID, sealed.WrappedKey, sealed.Ciphertext)
	}
	if masks, next, err := b.store.Masks(ctx, r.ExecutionID); err != nil || len(masks) != 0 || next != 1 {
		t.Errorf("at first %v, next %d, %v", masks, next, err)
	}
	first, _ := b.store.SealMask(r.ExecutionID, 1, "first mask")
	second, _ := b.store.SealMask(r.ExecutionID, 2, "second mask")
	insert(r, 1, first)
	insert(r, 2, second)
	masks, next, err := b.store.Masks(ctx, r.ExecutionID)
	if err != nil || next != 3 || len(masks) != 2 || string(masks[1]) != "second mask" {
		t.Errorf("got %d masks, next %d, %v", len(masks), next, err)
	}
	insert(other, 1, first)
	_, _, err = b.store.Masks(ctx, other.ExecutionID)
	wantCode(t, err, Altered, "")
	_, _, err = b.with(b.b).Masks(ctx, r.ExecutionID)
	wantCode(t, err, KeyMissing, "")

	b.end(r, "kept")
	b.end(other, "destroying")
	if err := b.store.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM execution_masks"); n != 3 {
		t.Errorf("%d masks are left while there are sandboxes", n)
	}
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'destroyed', ended_at = now()")
	if err := b.store.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM execution_masks"); n != 0 {
		t.Errorf("%d masks are left without sandboxes", n)
	}
}
