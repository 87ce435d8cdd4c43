package event_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// testBundle is an execution with a history: records 1 to 12, of which each third is a chunk of node run a, and the one
// after it a chunk of b, on standard error in turns.
type testBundle struct {
	pool       *pgxpool.Pool
	statements *pgtest.Statements
	store      *event.Store
	id, a, b   uuid.UUID
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	statements := new(pgtest.Statements)
	pool := pgtest.Open(t, pgtest.Database(t), postgres.Options{Tracer: statements})
	b := &testBundle{pool: pool, statements: statements, store: event.NewStore(pool), id: execution.NewID(), a: execution.NewID(), b: execution.NewID()}
	org, workflow := pgtest.Workflow(t, pool)
	pgtest.Exec(t, pool, `INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, last_seq, queued_at, queue_deadline_at)
		VALUES ($1, $2, $3, 1, 1, 'queued', 'api', 12, now(), now())`, b.id, org, workflow)
	pgtest.Exec(t, pool, `INSERT INTO node_runs (id, execution_id, node_key, index, attempt, status) VALUES ($2, $1, 'first', 0, 2, 'running'), ($3, $1, 'second', 7, 1, 'running')`,
		b.id, b.a, b.b)
	pgtest.Exec(t, pool, `INSERT INTO execution_events (day, execution_id, seq, type, node_run_id, data)
		SELECT execution_day($1), $1, n, 'warning', CASE WHEN n = 5 THEN $2::uuid END, jsonb_build_object('n', n) FROM generate_series(2, 12, 3) AS n`, b.id, b.a)
	pgtest.Exec(t, pool, `INSERT INTO execution_logs (day, execution_id, seq, node_run_id, stream, byte_offset, data)
		SELECT execution_day($1), $1, n, CASE WHEN n % 3 = 0 THEN $2::uuid ELSE $3::uuid END, CASE WHEN n % 2 = 0 THEN 'stderr' ELSE 'stdout' END, n * 10,
			convert_to(repeat(chr(64 + n), n), 'UTF8') || '\x00'
		FROM generate_series(1, 12) AS n WHERE n % 3 <> 2`, b.id, b.a, b.b)
	return b
}

func (b *testBundle) page(t *testing.T, after int64, limit int, f event.LogFilter) []event.Event {
	t.Helper()
	page, err := b.store.Page(t.Context(), b.id, after, limit, f)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func seqs(page []event.Event) []int64 {
	var numbers []int64
	for _, e := range page {
		numbers = append(numbers, e.Seq)
	}
	return numbers
}

func TestPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct {
		after  int64
		limit  int
		filter event.LogFilter
		want   []int64
	}{
		"everything":                   {0, 100, event.LogFilter{}, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		"no logs":                      {0, 100, event.LogFilter{None: true}, []int64{2, 5, 8, 11}},
		"none wins":                    {0, 100, event.LogFilter{None: true, NodeRuns: []uuid.UUID{b.a}}, []int64{2, 5, 8, 11}},
		"logs of one":                  {0, 100, event.LogFilter{NodeRuns: []uuid.UUID{b.a}}, []int64{2, 3, 5, 6, 8, 9, 11, 12}},
		"logs of two":                  {0, 100, event.LogFilter{NodeRuns: []uuid.UUID{b.b, b.a}}, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		"logs of a stranger":           {0, 100, event.LogFilter{NodeRuns: []uuid.UUID{uuid.New()}}, []int64{2, 5, 8, 11}},
		"a limit":                      {0, 5, event.LogFilter{}, []int64{1, 2, 3, 4, 5}},
		"a limit on both halves":       {3, 4, event.LogFilter{NodeRuns: []uuid.UUID{b.a}}, []int64{5, 6, 8, 9}},
		"after":                        {10, 100, event.LogFilter{}, []int64{11, 12}},
		"after the last":               {12, 100, event.LogFilter{}, nil},
		"a limit above the most":       {11, 1 << 30, event.LogFilter{}, []int64{12}},
		"a limit that ends with a log": {0, 1, event.LogFilter{}, []int64{1}},
	} {
		if got := seqs(b.page(t, c.after, c.limit, c.filter)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}

	page := b.page(t, 2, 4, event.LogFilter{})
	for i := range page {
		if d := time.Since(page[i].Time); d < -time.Hour || d > time.Hour {
			t.Errorf("record %d is %v old", page[i].Seq, d)
		}
		page[i].Time = time.Time{}
	}
	want := []event.Event{
		{Seq: 3, Type: event.Log, NodeRunID: &b.a, Node: "first", Index: 0, Attempt: 2, Stream: event.Stdout, Offset: 30, Chunk: []byte("CCC\x00")},
		{Seq: 4, Type: event.Log, NodeRunID: &b.b, Node: "second", Index: 7, Attempt: 1, Stream: event.Stderr, Offset: 40, Chunk: []byte("DDDD\x00")},
		{Seq: 5, Type: event.Warning, NodeRunID: &b.a, Node: "first", Index: 0, Attempt: 2, Data: []byte(`{"n": 5}`)},
		{Seq: 6, Type: event.Log, NodeRunID: &b.a, Node: "first", Index: 0, Attempt: 2, Stream: event.Stderr, Offset: 60, Chunk: []byte("FFFFFF\x00")},
	}
	if diff := cmp.Diff(want, page); diff != "" {
		t.Error(diff)
	}
	if e := b.page(t, 7, 1, event.LogFilter{None: true})[0]; e.NodeRunID != nil || e.Node != "" {
		t.Errorf("an event of the whole execution has the node %q", e.Node)
	}
	if stranger, err := b.store.Page(t.Context(), execution.NewID(), 0, 10, event.LogFilter{}); err != nil || len(stranger) != 0 {
		t.Errorf("another execution has %d records, %v", len(stranger), err)
	}
}

// TestPageIsAtMostPageMax holds that nobody gets more, whatever they ask for.
func TestPageIsAtMostPageMax(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pgtest.Exec(t, b.pool, "INSERT INTO execution_events (day, execution_id, seq, type) SELECT execution_day($1), $1, n, 'warning' FROM generate_series(13, 2000) AS n", b.id)
	page := b.page(t, 0, 5000, event.LogFilter{})
	if len(page) != event.PageMax || page[len(page)-1].Seq != event.PageMax {
		t.Errorf("%d records", len(page))
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stdout, stderr := event.Stdout, event.Stderr
	for name, c := range map[string]struct {
		p    event.LogParams
		want []int64
	}{
		"all":              {event.LogParams{Limit: 100}, []int64{1, 3, 4, 6, 7, 9, 10, 12}},
		"of a node run":    {event.LogParams{NodeRunID: &b.b, Limit: 100}, []int64{1, 4, 7, 10}},
		"of its stream":    {event.LogParams{NodeRunID: &b.b, Stream: &stdout, Limit: 100}, []int64{1, 7}},
		"of a stream":      {event.LogParams{Stream: &stderr, Limit: 100}, []int64{4, 6, 10, 12}},
		"after and limit":  {event.LogParams{After: 3, Limit: 2}, []int64{4, 6}},
		"after the newest": {event.LogParams{After: 12, Limit: 2}, nil},
	} {
		c.p.ExecutionID = b.id
		page, err := b.store.Logs(t.Context(), c.p)
		if got := seqs(page); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

// TestLogSeek looks for every byte of a text and compares with the text itself.
func TestLogSeek(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stdout := event.Stdout
	for _, stream := range []*event.Stream{nil, &stdout} {
		p := event.LogParams{ExecutionID: b.id, NodeRunID: &b.b, Stream: stream, Limit: 100}
		all, err := b.store.Logs(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		position := int64(0)
		for _, chunk := range all {
			begin := position
			for range chunk.Chunk {
				after, before, err := b.store.LogSeek(t.Context(), p, position)
				if err != nil || before != begin {
					t.Fatalf("byte %d: after %d, %d bytes before, %v; want %d before", position, after, before, err, begin)
				}
				p.After = after
				if rest, err := b.store.Logs(t.Context(), p); err != nil || rest[0].Seq != chunk.Seq {
					t.Fatalf("byte %d: chunk %d follows %d, %v", position, rest[0].Seq, after, err)
				}
				position++
			}
		}
		if _, _, err := b.store.LogSeek(t.Context(), p, position); !errs.Is(err, errs.NotFound) {
			t.Errorf("beyond the end: %v", err)
		}
	}
	if _, _, err := b.store.LogSeek(t.Context(), event.LogParams{ExecutionID: b.id}, 0); !errs.Is(err, errs.Invalid) {
		t.Errorf("without a node run: %v", err)
	}
}

func TestEndsExecution(t *testing.T) {
	t.Parallel()
	for _, s := range execution.Statuses() {
		if e := event.Type("execution." + string(s)); e.EndsExecution() != s.Terminal() {
			t.Errorf("%s ends an execution: %t", e, e.EndsExecution())
		}
	}
	if event.NodeCompleted.EndsExecution() || event.ExecutionStarted.EndsExecution() {
		t.Error("other events end an execution")
	}
}

func TestAFreshDatabaseHasPartitions(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	if err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	n, err := event.NewStore(pgtest.Open(t, url, postgres.Options{})).PartitionsAhead(t.Context())
	if err != nil || n < event.DaysAhead-1 || n > event.DaysAhead { // midnight may have passed
		t.Errorf("for %d days, %v", n, err)
	}
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ahead := func() int {
		t.Helper()
		n, err := b.store.PartitionsAhead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	drop := func(parent string, days int) {
		t.Helper()
		pgtest.Exec(t, b.pool, "DROP TABLE "+parent+time.Now().UTC().AddDate(0, 0, days).Format("_20060102"))
	}
	if err := b.store.EnsurePartitions(t.Context()); err != nil { // the template may be of days ago
		t.Fatal(err)
	}
	drop("execution_logs", 20)
	if n := ahead(); n != 19 {
		t.Errorf("with a gap in the logs at 20: %d", n)
	}
	drop("execution_events", 5)
	if n := ahead(); n != 4 {
		t.Errorf("with a gap in the events at 5: %d", n)
	}

	_, err := b.pool.Exec(t.Context(), "INSERT INTO execution_events (day, execution_id, seq, type) VALUES ($1, $2, 1, 'warning')", time.Now().UTC().AddDate(0, 0, 5), b.id)
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || !strings.Contains(pg.Message, "no partition") {
		t.Errorf("a day without a partition: %v", err)
	}

	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := b.store.EnsurePartitions(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := ahead(); n != event.DaysAhead {
		t.Errorf("%d days ahead, want %d", n, event.DaysAhead)
	}
	if err := b.store.EnsurePartitions(t.Context()); err != nil {
		t.Errorf("once more: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.store.EnsurePartitions(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

// TestPlans holds that every read of a history touches one partition and has an index, also with the plan that a
// prepared statement falls back to.
func TestPlans(t *testing.T) {
	t.Parallel()
	b := setup(t)
	// Other executions of the day, so that reading them all would be the worse plan.
	for from := 0; from < 20000; from += 2000 { // each well within the time that a statement has
		pgtest.Exec(t, b.pool, `INSERT INTO execution_logs (day, execution_id, seq, node_run_id, stream, byte_offset, data)
			SELECT execution_day($1), md5((n / 100)::text)::uuid, 1 + n % 100, md5((n / 50)::text)::uuid, 'stdout', n, 'text'
			FROM generate_series($2::int, $2::int + 1999) AS n`, b.id, from)
		pgtest.Exec(t, b.pool, `INSERT INTO execution_logs (day, execution_id, seq, node_run_id, stream, byte_offset, data)
			SELECT execution_day($1), $1, n, md5((n / 50)::text)::uuid, 'stdout', n, 'text'
			FROM generate_series(greatest(13, $2::int + 1), $2::int + 2000) AS n`, b.id, from)
		pgtest.Exec(t, b.pool, `INSERT INTO execution_events (day, execution_id, seq, type)
			SELECT execution_day($1), md5((n / 10)::text)::uuid, 1 + n % 10, 'warning' FROM generate_series($2::int / 2, $2::int / 2 + 999) AS n`, b.id, from)
	}
	pgtest.Exec(t, b.pool, "ANALYZE execution_logs, execution_events")
	day := execution.Day(b.id).Format("_20060102")
	events, logs, ofNodeRun := "execution_events"+day+"_pkey", "execution_logs"+day+"_pkey", "execution_logs"+day+"_day_execution_id_node_run_id_seq_idx"

	read := func(p event.LogParams) {
		if _, err := b.store.Logs(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, query string
		f           func()
		want        []string
	}{
		{"a page", "EventPage", func() { b.page(t, 3, 100, event.LogFilter{}) }, []string{events, logs}},
		{"a page without logs", "EventPage", func() { b.page(t, 3, 100, event.LogFilter{None: true}) }, []string{events}},
		{"a page with logs of one node run", "EventPage", func() { b.page(t, 3, 100, event.LogFilter{NodeRuns: []uuid.UUID{b.a}}) }, []string{events, ofNodeRun}},
		{"all logs", "LogPage", func() { read(event.LogParams{ExecutionID: b.id, After: 3, Limit: 100}) }, []string{logs}},
		{"logs of a node run", "LogPage", func() { read(event.LogParams{ExecutionID: b.id, NodeRunID: &b.a, After: 3, Limit: 100}) }, []string{ofNodeRun}},
		{"a place in a log", "LogSeek", func() {
			if _, _, err := b.store.LogSeek(t.Context(), event.LogParams{ExecutionID: b.id, NodeRunID: &b.a}, 1); err != nil {
				t.Fatal(err)
			}
		}, []string{ofNodeRun}},
	} {
		c.f()
		statement := b.statements.Last(t, c.query)
		for _, generic := range []bool{false, true} {
			var got []string
			for _, scan := range pgtest.Explain(t, b.pool, statement, generic).Scans() {
				table, index, _ := strings.Cut(scan, " ")
				if !strings.HasPrefix(scan, "execution_") {
					continue // the node runs' keys
				}
				if index == "" { // below a bitmap scan
					got = append(got, table)
				} else if !strings.HasPrefix(index, "Bitmap") {
					got = append(got, index)
				}
			}
			if generic {
				// It cannot know which logs are asked for; what counts is one partition, by an index of it.
				for _, index := range got {
					if !slices.Contains([]string{events, logs, ofNodeRun}, index) {
						t.Errorf("%s with a generic plan: %q", c.name, got)
					}
				}
				continue
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
	}
}
