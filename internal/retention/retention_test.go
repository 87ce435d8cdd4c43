package retention_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/retention"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// testBundle is a database with days of history long ago.
type testBundle struct {
	t         testing.TB
	url       string
	pool      *pgxpool.Pool
	purger    *retention.Purger
	org, work uuid.UUID
	number    int
}

func setup(t testing.TB) *testBundle {
	t.Helper()
	url := pgtest.Database(t)
	b := &testBundle{t: t, url: url, pool: pgtest.Open(t, url, postgres.Options{}), purger: retention.New(retention.Config{DirectURL: url, Log: zerolog.Nop()})}
	b.org, b.work = pgtest.Workflow(t, b.pool)
	return b
}

// ago is the UTC day so many days before today, by the database's clock.
func (b *testBundle) ago(days int) time.Time {
	b.t.Helper()
	return pgtest.Get[time.Time](b.t, b.pool, "SELECT (now() AT TIME ZONE 'UTC')::date - $1::int", days)
}

// execution makes one of that day, with an event, a log and a node run, which ended so many hours after the day began; 0: it waits.
func (b *testBundle) execution(day time.Time, endedAfter int) uuid.UUID {
	b.t.Helper()
	b.number++
	id := idOf(day)
	status, ended := "waiting", (*time.Time)(nil)
	if endedAfter > 0 {
		at := day.Add(time.Duration(endedAfter) * time.Hour)
		status, ended = "completed", &at
	}
	pgtest.Exec(b.t, b.pool, "SELECT make_partitions($1)", day)
	pgtest.Exec(b.t, b.pool, `INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, last_seq, queued_at, queue_deadline_at, claimed_at,
			started_at, finished_at, parked_at)
		VALUES ($1, $2, $3, 1, $4, $5::text, 'api', 2, $6::timestamptz, $6, $6, $6, $7, CASE WHEN $5 = 'waiting' THEN $6::timestamptz END)`, id, b.org, b.work, b.number, status, day, ended)
	pgtest.Exec(b.t, b.pool, "INSERT INTO execution_data (execution_id, inputs) VALUES ($1, '{}')", id)
	pgtest.Exec(b.t, b.pool, "INSERT INTO execution_events (day, execution_id, seq, type) VALUES ($2, $1, 1, 'warning')", id, day)
	node := execution.NewID()
	pgtest.Exec(b.t, b.pool, "INSERT INTO node_runs (id, execution_id, node_key, status, finished_at) VALUES ($2, $1, 'a', 'completed', now())", id, node)
	pgtest.Exec(b.t, b.pool, `WITH a AS (INSERT INTO artifacts (id, execution_id, node_run_id, path, executable, size, sha256, state)
			VALUES ($4, $1, $3, 'f', false, 1, sha256('x'), 'complete'))
		INSERT INTO artifact_chunks (day, artifact_id, number, data) VALUES ($2, $4, 0, 'x')`, id, day, node, execution.NewID())
	pgtest.Exec(b.t, b.pool, `INSERT INTO execution_logs (day, execution_id, seq, node_run_id, stream, byte_offset, data) VALUES ($2, $1, 2, $3, 'stdout', 0, 'x')`, id, day, node)
	return id
}

func idOf(day time.Time) uuid.UUID {
	id := execution.FirstID(day.Add(time.Hour))
	_, _ = rand.Read(id[6:])
	id[6], id[8] = 0x70|id[6]&0x0f, 0x80|id[8]&0x3f
	return id
}

// sandbox gives an execution one in that state.
func (b *testBundle) sandbox(id uuid.UUID, state string) {
	b.t.Helper()
	pgtest.Exec(b.t, b.pool, `INSERT INTO sandboxes (id, execution_id, provider, host, provider_id, state, claim, ended_at)
		VALUES ($1, $2, 'fake', 'here', 'x', $3, 1, CASE WHEN $3 = 'destroyed' THEN now() END)`, execution.NewID(), id, state)
}

func (b *testBundle) purge(o retention.Options) retention.Report {
	b.t.Helper()
	report, err := b.purger.Purge(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	return report
}

// present are the days of which there are tables (t), executions (x), and anything of these (a: artifacts, n: node runs, d: data).
func (b *testBundle) present(days ...time.Time) map[string]string {
	b.t.Helper()
	found := map[string]string{}
	for _, day := range days {
		first, below := execution.DayIDs(day)
		found[day.Format(time.DateOnly)] = pgtest.Get[string](b.t, b.pool, `SELECT repeat('t', (SELECT count(*)::int FROM pg_class WHERE relname IN ('execution_events_' || $3, 'execution_logs_' || $3, 'artifact_chunks_' || $3)))
			|| repeat('x', (SELECT count(*)::int FROM executions WHERE id >= $1 AND id < $2))
			|| repeat('a', (SELECT count(*)::int FROM artifacts WHERE execution_id >= $1 AND execution_id < $2))
			|| repeat('n', (SELECT count(*)::int FROM node_runs WHERE execution_id >= $1 AND execution_id < $2))
			|| repeat('d', (SELECT count(*)::int FROM execution_data WHERE execution_id >= $1 AND execution_id < $2))`, first, below, day.Format("20060102"))
	}
	return found
}

func dates(days []retention.Day) []string {
	var texts []string
	for _, d := range days {
		texts = append(texts, d.Date.Format(time.DateOnly))
	}
	return texts
}

// TestPurge holds what keeps a day, and that everything of the others goes.
func TestPurge(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ended, waits, late, reused, tidy, young := b.ago(50), b.ago(49), b.ago(48), b.ago(47), b.ago(31), b.ago(29)
	b.execution(ended, 1)
	b.execution(ended, 19*24) // of that day, and long running
	waiting := b.execution(waits, 0)
	b.execution(waits, 1)
	recent := b.execution(late, 30*24)
	source := b.execution(reused, 1)
	after := b.execution(b.ago(3), 1) // goes on in the sandbox of source, which it keeps
	pgtest.Exec(t, b.pool, "UPDATE executions SET sandbox_from = $2, rerun_of = $2 WHERE id = $1", after, source)
	b.sandbox(after, "kept")
	gone := b.execution(tidy, 1)
	b.sandbox(gone, "destroyed")
	rerun := b.execution(b.ago(2), 0)
	pgtest.Exec(t, b.pool, "UPDATE executions SET rerun_of = $2 WHERE id = $1", rerun, gone)
	b.execution(young, 1)
	pgtest.Exec(t, b.pool, "SELECT make_partitions($1)", b.ago(60)) // on which there was nothing
	days := []time.Time{b.ago(60), ended, waits, late, reused, tidy, young}
	before := b.present(days...)

	if r := b.purge(retention.Options{}); !r.Before.IsZero() || r.Gone != nil || r.Kept != nil {
		t.Errorf("with retention off: %+v", r)
	}
	wantGone := []string{b.ago(60).Format(time.DateOnly), ended.Format(time.DateOnly), tidy.Format(time.DateOnly)}
	wantKept := []string{waits.Format(time.DateOnly), late.Format(time.DateOnly), reused.Format(time.DateOnly)}
	for _, dry := range []bool{true, false} {
		r := b.purge(retention.Options{Days: 30, DryRun: dry})
		if diff := cmp.Diff([][]string{wantGone, wantKept}, [][]string{dates(r.Gone), dates(r.Kept)}); diff != "" {
			t.Fatalf("dry run %t: gone and kept (-want +got):\n%s", dry, diff)
		}
		for i, want := range []struct {
			keeper uuid.UUID
			status execution.Status
			ended  bool
		}{{waiting, execution.Waiting, false}, {recent, execution.Completed, true}, {source, execution.Completed, true}} {
			if k := r.Kept[i].Keeper; k == nil || k.ID != want.keeper || k.Status != want.status || (k.EndedAt != nil) != want.ended {
				t.Errorf("dry run %t: %s is kept by %+v, want %+v", dry, wantKept[i], k, want)
			}
		}
		if g := r.Gone[1]; g.Executions != 2 || g.Bytes == 0 {
			t.Errorf("dry run %t: %s had %d executions and %d bytes", dry, wantGone[1], g.Executions, g.Bytes)
		}
		if dry {
			if diff := cmp.Diff(before, b.present(days...)); diff != "" {
				t.Fatalf("a dry run changed something:\n%s", diff)
			}
		}
	}
	for _, day := range wantGone {
		before[day] = ""
	}
	if diff := cmp.Diff(before, b.present(days...)); diff != "" {
		t.Errorf("what there is (-want +got):\n%s", diff)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE id = $1 AND rerun_of IS NULL", rerun); n != 1 {
		t.Error("the rerun of what is gone does not stand by itself")
	}
	if r := b.purge(retention.Options{Days: 30}); r.Gone != nil || len(r.Kept) != 3 {
		t.Errorf("once more: %v gone, %v kept", dates(r.Gone), dates(r.Kept))
	}

	// What kept the days ends.
	pgtest.Exec(t, b.pool, "UPDATE executions SET status = 'canceled', parked_at = NULL, finished_at = now() - interval '31 days' WHERE id = ANY ($1)", []uuid.UUID{waiting, recent})
	pgtest.Exec(t, b.pool, "UPDATE sandboxes SET state = 'destroyed', ended_at = now() WHERE execution_id = $1", after)
	if r := b.purge(retention.Options{Days: 30}); len(r.Gone) != 3 || r.Kept != nil {
		t.Errorf("without keepers: %v gone, %v kept", dates(r.Gone), dates(r.Kept))
	}
}

// TestBefore purges by a date, which may not be so late that a day is still written.
func TestBefore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.execution(b.ago(3), 1)
	b.execution(b.ago(2), 1)
	b.execution(b.ago(1), 1)
	if _, err := b.purger.Purge(t.Context(), retention.Options{Before: b.ago(0)}); !errs.Is(err, errs.Validation) {
		t.Errorf("before today: %v", err)
	}
	if r := b.purge(retention.Options{Before: b.ago(2), Days: 1}); len(r.Gone) != 1 || !r.Gone[0].Date.Equal(b.ago(3)) {
		t.Errorf("gone are %v", dates(r.Gone))
	}
	if r := b.purge(retention.Options{Before: b.ago(1)}); len(r.Gone) != 1 || !r.Gone[0].Date.Equal(b.ago(2)) {
		t.Errorf("gone are %v", dates(r.Gone))
	}
}

// TestManyExecutions holds that a day goes whole, in as many batches as it needs.
func TestManyExecutions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	day := b.ago(40)
	pgtest.Exec(t, b.pool, `INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, queued_at, queue_deadline_at, finished_at)
		SELECT (substr($1::text, 1, 13) || '-7' || substr(md5(n::text), 1, 3) || '-8' || substr(md5(n::text), 4, 3) || '-' || substr(md5(n::text), 7, 12))::uuid, $2, $3, 1, n, 'completed', 'api', $4, $4, $4
		FROM generate_series(1, 2500) AS n`, execution.FirstID(day), b.org, b.work, day)
	if r := b.purge(retention.Options{Days: 30}); len(r.Gone) != 1 || r.Gone[0].Executions != 2500 {
		t.Errorf("gone are %+v", r.Gone)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); n != 0 {
		t.Errorf("%d executions are left", n)
	}
}

// TestHalfDone begins where a process died: while a table was detached, after that, and with only rows left.
func TestHalfDone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begun, loose, rows, whole := b.ago(40), b.ago(41), b.ago(42), b.ago(43)
	for _, day := range []time.Time{begun, loose, rows, whole} {
		b.execution(day, 1)
	}
	b.leavePending("execution_events", begun)
	pgtest.Exec(t, b.pool, "ALTER TABLE execution_logs DETACH PARTITION execution_logs"+loose.Format("_20060102"))
	pgtest.Exec(t, b.pool, "DROP TABLE execution_events"+rows.Format("_20060102")+", execution_logs"+rows.Format("_20060102"))
	if r := b.purge(retention.Options{Days: 30}); len(r.Gone) != 4 {
		t.Errorf("gone are %v", dates(r.Gone))
	}
	for day, left := range b.present(begun, loose, rows, whole) {
		if left != "" {
			t.Errorf("of %s there is %q", day, left)
		}
	}
}

// leavePending begins to detach a table behind a reader, and gives it up.
func (b *testBundle) leavePending(parent string, day time.Time) {
	b.t.Helper()
	reader, err := b.pool.Begin(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = reader.Rollback(b.t.Context()) }()
	if _, err := reader.Exec(b.t.Context(), "SELECT FROM "+parent+" LIMIT 1"); err != nil {
		b.t.Fatal(err)
	}
	conn, err := postgres.Connect(b.t.Context(), b.url, "test")
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(b.t.Context())
	if _, err := conn.Exec(b.t.Context(), "SET lock_timeout = '50ms'"); err != nil {
		b.t.Fatal(err)
	}
	_, err = conn.Exec(b.t.Context(), "ALTER TABLE "+parent+" DETACH PARTITION "+parent+day.Format("_20060102")+" CONCURRENTLY", pgx.QueryExecModeSimpleProtocol)
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != pgerrcode.LockNotAvailable {
		b.t.Fatalf("detaching behind a reader: %v", err)
	}
	if !pgtest.Get[bool](b.t, b.pool, "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = $1::text::regclass", parent+day.Format("_20060102")) {
		b.t.Fatal("the table is not pending: this test holds nothing")
	}
}

// TestOnePurges holds that a second purge is refused, unless it only looks.
func TestOnePurges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn, err := postgres.Connect(t.Context(), b.url, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(7042025003)"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.purger.Purge(t.Context(), retention.Options{Days: 30}); !errs.Is(err, retention.Busy) {
		t.Errorf("a second purge: %v", err)
	}
	b.purge(retention.Options{Days: 30, DryRun: true})
}

// TestOneDayFails holds that a row which cannot be deleted stops neither the other days nor the sweep.
func TestOneDayFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refused := b.execution(b.ago(41), 1)
	b.execution(b.ago(40), 1)
	pgtest.Exec(t, b.pool, "CREATE TABLE clings (id uuid REFERENCES executions (id))")
	pgtest.Exec(t, b.pool, "INSERT INTO clings VALUES ($1)", refused)
	pgtest.Exec(t, b.pool, "INSERT INTO sign_in_failures VALUES ('x', now() - interval '2 days')")
	report, err := b.purger.Purge(t.Context(), retention.Options{Days: 30})
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != pgerrcode.ForeignKeyViolation {
		t.Errorf("the refusal is told as %v", err)
	}
	if diff := cmp.Diff([]retention.Sweep{{Kind: "sign-in failures", Rows: 1}}, report.Swept); diff != "" || len(report.Gone) != 2 {
		t.Errorf("gone are %v; swept:\n%s", dates(report.Gone), diff)
	}
	if left := b.present(b.ago(40))[b.ago(40).Format(time.DateOnly)]; left != "" {
		t.Errorf("of the other day there is %q", left)
	}
}

// TestWithoutTables holds that a database that nobody migrated is told so.
func TestWithoutTables(t *testing.T) {
	t.Parallel()
	purger := retention.New(retention.Config{DirectURL: pgtest.Empty(t), Log: zerolog.Nop()})
	if _, err := purger.Purge(t.Context(), retention.Options{Days: 30}); !errs.Is(err, errs.Conflict) {
		t.Errorf("an empty database: %v", err)
	}
}

// TestSweep holds which rows go by time alone, with more of one kind than a batch.
func TestSweep(t *testing.T) {
	t.Parallel()
	b := setup(t)
	user := execution.NewID()
	pgtest.Exec(t, b.pool, "INSERT INTO users (id, email, name) VALUES ($1, 'ada@example.com', 'Ada')", user)
	pgtest.Exec(t, b.pool, "INSERT INTO members VALUES ($1, $2, 'owner')", b.org, user)
	old, kept := execution.FirstID(b.ago(402)), execution.FirstID(b.ago(398))
	for id, at := range map[uuid.UUID]int{old: 402, kept: 398, execution.NewID(): 0} {
		pgtest.Exec(t, b.pool, `INSERT INTO audit_log (id, organization_id, actor_kind, actor, action, time) VALUES ($1, $2, 'user', 'a', 'x', now() - make_interval(days => $3))`, id, b.org, at)
	}
	pgtest.Exec(t, b.pool, `INSERT INTO idempotency_keys (organization_id, principal_id, route, key, request_hash, expires_at)
		SELECT $1, $1, 'r', n::text, '', now() - (n - 1) * interval '1 s' + interval '1 h' * (n = 1)::int FROM generate_series(1, 1502) AS n`, b.org)
	pgtest.Exec(t, b.pool, "INSERT INTO sign_in_failures VALUES ('a', now() - interval '25 h'), ('a', now() - interval '23 h')")
	pgtest.Exec(t, b.pool, `INSERT INTO sessions (id, user_id, organization_id, token_hash, expires_at, last_seen_at) VALUES
		(gen_random_uuid(), $1, $2, decode(repeat('01', 32), 'hex'), now(), now()), (gen_random_uuid(), $1, $2, decode(repeat('02', 32), 'hex'), now() + interval '1 d', now() - interval '8 d'),
		(gen_random_uuid(), $1, $2, decode(repeat('03', 32), 'hex'), now() + interval '1 d', now() - interval '6 d')`, user, b.org)
	pgtest.Exec(t, b.pool, `INSERT INTO sign_in_links VALUES (decode(repeat('01', 32), 'hex'), $1, now(), NULL), (decode(repeat('02', 32), 'hex'), $1, now() + interval '1 h', now()),
		(decode(repeat('03', 32), 'hex'), $1, now() + interval '1 h', NULL)`, user)
	pgtest.Exec(t, b.pool, `INSERT INTO invitations (id, organization_id, email, role, token_hash, expires_at, accepted_at) VALUES
		(gen_random_uuid(), $1, 'a@b', 'viewer', decode(repeat('01', 32), 'hex'), now(), NULL), (gen_random_uuid(), $1, 'a@b', 'viewer', decode(repeat('02', 32), 'hex'), now() + interval '1 h', now()),
		(gen_random_uuid(), $1, 'a@b', 'viewer', decode(repeat('03', 32), 'hex'), now() + interval '1 h', NULL)`, b.org)
	pgtest.Exec(t, b.pool, `INSERT INTO tokens (id, organization_id, name, hash, expires_at) SELECT gen_random_uuid(), $1, 'n', decode(repeat(n, 32), 'hex'), now() + at
		FROM (VALUES ('01', interval '-31 d'), ('02', interval '-29 d'), ('03', interval '1 d'), ('04', NULL)) AS t (n, at)`, b.org)
	holder := execution.NewID()
	pgtest.Exec(t, b.pool, `INSERT INTO workers (id, state, host, pid, version, slots, lease_until, gone_at) SELECT id, CASE WHEN gone IS NULL THEN 'active' ELSE 'gone' END, 'h', 1, 'v', 1, now(), now() - gone
		FROM (VALUES ($1::uuid, interval '8 d'), (gen_random_uuid(), '8 d'), (gen_random_uuid(), '6 d'), (gen_random_uuid(), NULL)) AS t (id, gone)`, holder)
	held := b.execution(b.ago(1), 0)
	pgtest.Exec(t, b.pool, "UPDATE executions SET status = 'running', parked_at = NULL, worker_id = $1 WHERE id = $2", holder, held)

	want := []retention.Sweep{
		{Kind: "audit entries", Rows: 1},
		{Kind: "idempotency keys", Rows: 1501},
		{Kind: "sign-in failures", Rows: 1},
		{Kind: "sessions", Rows: 2},
		{Kind: "sign-in links", Rows: 2},
		{Kind: "invitations", Rows: 2},
		{Kind: "tokens", Rows: 1},
		{Kind: "workers", Rows: 1},
	}
	if diff := cmp.Diff(want, b.purge(retention.Options{}).Swept); diff != "" {
		t.Errorf("swept (-want +got):\n%s", diff)
	}
	for name, rows := range map[string]int{"audit_log": 2, "idempotency_keys": 1, "sign_in_failures": 1, "sessions": 1, "sign_in_links": 1, "invitations": 1, "tokens": 3, "workers": 3} {
		if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM "+name); n != rows {
			t.Errorf("%s has %d rows, want %d", name, n, rows)
		}
	}
	if r := b.purge(retention.Options{}); r.Swept != nil {
		t.Errorf("once more: %+v", r.Swept)
	}
}

// TestSweepOfArtifacts holds that what was never stored whole, or has lost its place, goes once its execution has ended, and nothing else does.
func TestSweepOfArtifacts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ended, lives := b.execution(b.ago(3), 1), b.execution(b.ago(3), 0)
	for _, id := range []uuid.UUID{ended, lives} {
		for _, state := range []string{"uploading", "stored", "complete", "dropped"} {
			pgtest.Exec(t, b.pool, `WITH a AS (INSERT INTO artifacts (id, execution_id, node_run_id, path, executable, size, sha256, state)
					VALUES ($1, $2, $2, $3, false, 1, sha256('x'), $3))
				INSERT INTO artifact_chunks (day, artifact_id, number, data) VALUES (execution_day($2), $1, 0, 'x')`, execution.NewID(), id, state)
		}
	}
	report := b.purge(retention.Options{})
	if !slices.Contains(report.Swept, retention.Sweep{Kind: "unfinished artifacts", Rows: 3}) {
		t.Errorf("swept %+v", report.Swept)
	}
	left := pgtest.Get[string](t, b.pool, `SELECT string_agg(state, ' ' ORDER BY execution_id = $1, state) FROM artifacts a
		JOIN artifact_chunks c ON c.artifact_id = a.id WHERE a.path <> 'f'`, lives)
	if left != "complete complete dropped stored uploading" {
		t.Errorf("left are %s", left)
	}
	if chunks := pgtest.Get[int](t, b.pool, "SELECT count(*)::int FROM artifact_chunks"); chunks != 7 {
		t.Errorf("%d chunks, want 5 and one of each execution", chunks)
	}
}
