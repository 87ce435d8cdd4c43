package audit_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/audit"
	"foundry/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// write records entries, each in a transaction of its own, as their order is that of their ids.
func write(t *testing.T, pool *pgxpool.Pool, entries ...audit.Entry) {
	t.Helper()
	for _, e := range entries {
		if err := audit.Write(t.Context(), pool, e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWriteBelongsToItsTransaction(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	org := uuid.New()
	entry := audit.Entry{Actor: audit.Actor{OrganizationID: org, Kind: audit.System, Name: "foundry"}, Action: audit.WorkflowCreate}
	undone := errors.New("the change was refused")
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if err := audit.Write(t.Context(), tx, entry); err != nil {
			return err
		}
		if n := pgtest.Get[int](t, pool, "SELECT count(*) FROM audit_log"); n != 0 {
			t.Errorf("others see %d entries before the commit", n)
		}
		return undone
	})
	if !errors.Is(err, undone) {
		t.Fatal(err)
	}
	if n := pgtest.Get[int](t, pool, "SELECT count(*) FROM audit_log"); n != 0 {
		t.Errorf("%d entries outlived what they record", n)
	}
	if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return audit.Write(t.Context(), tx, entry) }); err != nil {
		t.Fatal(err)
	}
	if n := pgtest.Get[int](t, pool, "SELECT count(*) FROM audit_log"); n != 1 {
		t.Errorf("%d entries after the commit, want 1", n)
	}
}

func TestARecordSaysWhatWasWritten(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	actor, workflow, execution := uuid.New(), uuid.New(), uuid.New()
	full := audit.Entry{
		Actor: audit.Actor{
			OrganizationID: uuid.New(), Kind: audit.Token, ID: &actor, Name: "ci", Address: "192.0.2.1", RequestID: "r1",
		},
		Action: audit.SecretSet, WorkflowID: &workflow, ExecutionID: &execution, Target: "KEY", Data: map[string]any{"version": 2},
	}
	bare := audit.Entry{Actor: audit.Actor{OrganizationID: full.Actor.OrganizationID, Kind: audit.System, Name: "foundry"}, Action: audit.LinkCreate}
	write(t, pool, full, bare)
	list, err := audit.NewStore(pool).List(t.Context(), audit.ListParams{OrganizationID: full.Actor.OrganizationID, Limit: 10})
	if err != nil || len(list) != 2 {
		t.Fatalf("%d records (%v)", len(list), err)
	}
	want := full
	want.Data = nil // it comes back as JSON
	if diff := cmp.Diff(want, list[1].Entry); diff != "" || string(list[1].Raw) != `{"version": 2}` {
		t.Errorf("the record's data is %s, the rest (-want +got):\n%s", list[1].Raw, diff)
	}
	if diff := cmp.Diff(bare, list[0].Entry); diff != "" || string(list[0].Raw) != "{}" {
		t.Errorf("the bare record's data is %s, the rest (-want +got):\n%s", list[0].Raw, diff)
	}
	for _, r := range list {
		if r.ID.Version() != 7 || time.Since(r.Time).Abs() > time.Hour {
			t.Errorf("the record is %s of %s", r.ID, r.Time)
		}
	}
	if err := audit.Write(t.Context(), pool, audit.Entry{Actor: full.Actor, Action: audit.SecretSet, Data: map[string]any{"f": func() {}}}); err == nil {
		t.Error("data that cannot be encoded was written")
	}
}

// TestList holds each filter and their combinations, page by page, and that an organization sees its own record only.
func TestList(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	store := audit.NewStore(pool)
	org, other := uuid.New(), uuid.New()
	workflows := []uuid.UUID{uuid.New(), uuid.New()}
	actions := []audit.Action{audit.WorkflowCreate, audit.WorkflowUpdate, audit.SecretSet}
	var all []audit.Entry
	for i := range 60 {
		e := audit.Entry{
			Actor:  audit.Actor{OrganizationID: org, Kind: audit.User, Name: fmt.Sprintf("person %d", i%4)},
			Action: actions[i%3], Target: fmt.Sprint(i),
		}
		if i%5 != 0 {
			e.WorkflowID = &workflows[i%2]
		}
		all = append(all, e)
	}
	write(t, pool, all...)
	theirs := all[0]
	theirs.Actor.OrganizationID, theirs.WorkflowID = other, &workflows[0]
	write(t, pool, theirs)

	action, person := string(audit.WorkflowUpdate), "person 1"
	for bits := range 1 << 3 {
		p := audit.ListParams{OrganizationID: org}
		if bits&1 != 0 {
			p.Action = &action
		}
		if bits&2 != 0 {
			p.WorkflowID = &workflows[1]
		}
		if bits&4 != 0 {
			p.Actor = &person
		}
		var want []string
		for _, e := range slices.Backward(all) {
			if (p.Action == nil || *p.Action == string(e.Action)) && (p.Actor == nil || *p.Actor == e.Actor.Name) &&
				(p.WorkflowID == nil || e.WorkflowID != nil && *p.WorkflowID == *e.WorkflowID) {
				want = append(want, e.Target)
			}
		}
		for _, size := range []int{1, 7, len(want), 100} {
			if got := targets(t, store, p, max(size, 1)); !slices.Equal(got, want) {
				t.Errorf("filters %03b in pages of %d: %q, want %q", bits, size, got, want)
			}
		}
		if len(want) == 0 {
			t.Errorf("filters %03b find nothing, which tests nothing", bits)
		}
	}
	if got := targets(t, store, audit.ListParams{OrganizationID: other}, 10); !slices.Equal(got, []string{"0"}) {
		t.Errorf("the other organization sees %q", got)
	}
	nobody := "nobody"
	if got := targets(t, store, audit.ListParams{OrganizationID: org, Actor: &nobody}, 10); len(got) != 0 {
		t.Errorf("nobody did %q", got)
	}
}

// targets reads all pages.
func targets(t *testing.T, store *audit.Store, p audit.ListParams, size int) (all []string) {
	t.Helper()
	p.Limit, p.Before = size, nil
	for {
		page, err := store.List(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			all = append(all, r.Target)
		}
		if len(page) < size {
			return all
		}
		p.Before = &page[size-1].ID
	}
}
