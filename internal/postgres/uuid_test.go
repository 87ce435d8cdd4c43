package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/pgtest"
)

func TestUUIDsTravel(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	a, b := uuid.New(), uuid.New()
	type row struct {
		One     uuid.UUID
		Maybe   *uuid.UUID
		Absent  *uuid.UUID
		Some    []uuid.UUID
		None    []uuid.UUID
		Missing []uuid.UUID
		Text    string
		Count   int
	}
	want := row{One: a, Maybe: &b, Some: []uuid.UUID{a, b}, None: []uuid.UUID{}, Text: a.String() + b.String(), Count: 2}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe} {
		rows, err := pool.Query(t.Context(), `SELECT $1::uuid AS one, $2::uuid AS maybe, $3::uuid AS absent, $4::uuid[] AS some, $5::uuid[] AS none,
			$6::uuid[] AS missing, array_to_string($4::uuid[], '') AS text, cardinality($4::uuid[]) AS count`,
			mode, want.One, want.Maybe, want.Absent, want.Some, want.None, want.Missing)
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		got, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[row])
		if err != nil {
			t.Errorf("%s: %v", mode, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", mode, diff)
		}
	}
	id := uuid.New()
	if err := pool.QueryRow(t.Context(), "SELECT NULL::uuid").Scan(&id); err != nil || id != uuid.Nil {
		t.Errorf("NULL was read as %s: %v", id, err)
	}
}

// BenchmarkUUIDs sends a thousand ids and reads them again.
func BenchmarkUUIDs(b *testing.B) {
	pool := pgtest.Pool(b)
	ids := make([]uuid.UUID, 1000)
	for i := range ids {
		ids[i] = uuid.New()
	}
	for b.Loop() {
		rows, err := pool.Query(b.Context(), "SELECT unnest($1::uuid[])", ids)
		if err != nil {
			b.Fatal(err)
		}
		if got, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil || len(got) != len(ids) {
			b.Fatal(err)
		}
	}
}
