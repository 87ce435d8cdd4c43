package execution_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"foundry/internal/execution"
	"foundry/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestDayIsThatOfPostgres compares the Go and the SQL of the rule that says in which partition an execution lives.
func TestDayIsThatOfPostgres(t *testing.T) {
	t.Parallel()
	conn, err := pgtest.Pool(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	// The session's zone must not matter: a day is a UTC day.
	if _, err := conn.Exec(t.Context(), "SET timezone = 'Pacific/Kiritimati'"); err != nil {
		t.Fatal(err)
	}
	const day = int64(24 * time.Hour / time.Millisecond)
	rapid.Check(t, func(r *rapid.T) {
		// Up to the year 4147, often at the edge of a day.
		ms := rapid.Int64Range(0, 795_000).Draw(r, "day")*day + rapid.OneOf(rapid.Just(int64(0)), rapid.Just(day-1), rapid.Int64Range(0, day-1)).Draw(r, "ms")
		id := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, "id"))
		for i := range 6 {
			id[i] = byte(ms >> (8 * (5 - i)))
		}
		want := time.UnixMilli(ms).UTC().Format(time.DateOnly)
		if got := execution.Day(id); got.Format(time.DateOnly) != want || got.Location() != time.UTC || !got.Equal(got.Truncate(24*time.Hour)) {
			r.Fatalf("Day(%s) = %v, want %s", id, got, want)
		}
		rows, err := conn.Query(t.Context(), "SELECT execution_day($1)::text", id)
		if err != nil {
			r.Fatal(err)
		}
		if got, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string]); err != nil || got != want {
			r.Fatalf("execution_day(%s) = %s, %v, want %s", id, got, err, want)
		}
	})
}

func TestNewIDsAreInOrder(t *testing.T) {
	t.Parallel()
	before := execution.NewID()
	for range 1000 {
		id := execution.NewID()
		if slices.Compare(before[:], id[:]) >= 0 {
			t.Fatalf("%s comes after %s", id, before)
		}
		before = id
	}
	if d := time.Since(execution.Day(before)); d < 0 || d > 25*time.Hour {
		t.Errorf("the day of a new id began %v ago", d)
	}
}

func TestTransitions(t *testing.T) {
	t.Parallel()
	const (
		q, r, w = execution.Queued, execution.Running, execution.Waiting
		c, f    = execution.Completed, execution.Failed
		x, o    = execution.Canceled, execution.TimedOut
	)
	allowed := map[execution.Status][]execution.Status{q: {r, x, o}, r: {w, c, f, x, o}, w: {r, x, o}, c: nil, f: nil, x: nil, o: nil}
	all := append(execution.Statuses(), "unheard of")
	if len(all) != len(allowed)+1 {
		t.Errorf("%d statuses", len(all)-1)
	}
	for _, from := range all {
		for _, to := range all {
			if got, want := from.CanBecome(to), slices.Contains(allowed[from], to); got != want {
				t.Errorf("%s to %s: %t", from, to, got)
			}
		}
		if got, want := from.Terminal(), slices.Contains([]execution.Status{c, f, x, o}, from); got != want {
			t.Errorf("%s is terminal: %t", from, got)
		}
	}
	if words := o.Words(); words != "timed out" {
		t.Errorf("words %q", words)
	}
}

// TestStatusesAreTheSchemas holds that Go and the CHECKs of the schema know the same words, and agree on which are terminal: the
// schema ties those to finished_at.
func TestStatusesAreTheSchemas(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	words := func(check string) []string {
		rows, err := pool.Query(t.Context(), `SELECT DISTINCT m[1] FROM pg_constraint, regexp_matches(pg_get_constraintdef(oid), '''([a-z_]+)''::text', 'g') AS m
			WHERE conname = $1 ORDER BY 1`, check)
		if err != nil {
			t.Fatal(err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	var all, ends []string
	for _, s := range execution.Statuses() {
		all = append(all, string(s))
		if s.Terminal() {
			ends = append(ends, string(s))
		}
	}
	slices.Sort(all)
	slices.Sort(ends)
	if got := words("executions_status_check"); !slices.Equal(got, all) {
		t.Errorf("the schema knows %q, Go %q", got, all)
	}
	if got := words("executions_check"); !slices.Equal(got, ends) {
		t.Errorf("the schema ends with %q, Go with %q", got, ends)
	}
	var nodeEnds []string
	for _, s := range words("node_runs_status_check") {
		if execution.NodeStatus(s).Terminal() {
			nodeEnds = append(nodeEnds, s)
		}
	}
	if got := words("node_runs_check"); !slices.Equal(got, nodeEnds) || len(got) != 6 {
		t.Errorf("the schema ends node runs with %q, Go with %q", got, nodeEnds)
	}
	if execution.NodeStatus("unheard of").Terminal() {
		t.Error("an unknown status is terminal")
	}
}
