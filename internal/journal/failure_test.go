package journal_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/pgtest"
)

// TestRefusedData has Postgres refuse what one execution says: that one ends, with all that it has, and its neighbour
// in the same batch does not notice.
func TestRefusedData(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	nul := json.RawMessage(`{"a": "\u0000"}`)
	for _, c := range []struct {
		name  string
		spoil func(e *journal.Entry, run journal.NodeRun)
	}{
		{"a chunk of more than 64 KiB", func(e *journal.Entry, run journal.NodeRun) {
			e.Records = append(e.Records, chunk(run, 0, strings.Repeat("x", event.MaxChunk+1)))
		}},
		{"an empty chunk", func(e *journal.Entry, run journal.NodeRun) { e.Records = append(e.Records, chunk(run, 0, "")) }},
		{"NUL in an event", func(e *journal.Entry, _ journal.NodeRun) { e.Records[0].Data = nul }},
		{"no JSON", func(e *journal.Entry, _ journal.NodeRun) { e.Records[0].Data = json.RawMessage(`{`) }},
		{"JSON too deep", func(e *journal.Entry, _ journal.NodeRun) {
			e.Records[0].Data = json.RawMessage(strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000))
		}},
		{"an unknown status of a node run", func(e *journal.Entry, run journal.NodeRun) {
			run.Status = "tired"
			e.NodeRuns = append(e.NodeRuns, run)
		}},
		{"NUL in a summary", func(e *journal.Entry, run journal.NodeRun) {
			run.Summary = "a\x00b"
			e.NodeRuns = append(e.NodeRuns, run)
		}},
		{"one place for two node runs", func(e *journal.Entry, run journal.NodeRun) {
			for range 2 {
				run.ID, run.Key = execution.NewID(), "again"
				e.NodeRuns = append(e.NodeRuns, run)
			}
		}},
		{"a key too long for the index", func(e *journal.Entry, run journal.NodeRun) {
			run.ID, run.Key = execution.NewID(), randomText(1<<17)
			e.NodeRuns = append(e.NodeRuns, run)
		}},
		{"a sandbox that is ready without a provider's id", func(e *journal.Entry, _ journal.NodeRun) {
			e.Sandboxes = append(e.Sandboxes, journal.Sandbox{ID: execution.NewID(), State: journal.SandboxReady})
		}},
		{"outputs of the execution", func(e *journal.Entry, _ journal.NodeRun) {
			e.End = &journal.End{Status: execution.Completed, Outputs: nul}
			e.Records = append(e.Records, journal.Record{Type: event.ExecutionCompleted})
		}},
		{"an unknown end", func(e *journal.Entry, _ journal.NodeRun) { e.End = &journal.End{Status: "over"} }},
	} {
		ids := b.claimed(2)
		bad, good := ids[0], ids[1]
		begin, run := started(bad, "running")
		done := journal.NodeRun{ID: execution.NewID(), Key: "done", Attempt: 1, Status: execution.NodeCompleted}
		box := journal.Sandbox{ID: execution.NewID(), Provider: "fake", Host: "host", ProviderID: "p", State: journal.SandboxReady}
		begin.NodeRuns, begin.Sandboxes = append(begin.NodeRuns, done), append(begin.Sandboxes, box)
		j.commit(t, begin)
		spoiled := warning(bad, 1)
		c.spoil(spoiled, run)

		release := b.hold(j)
		answers := []<-chan answer{
			j.submit(t, warning(good, 1)), j.submit(t, warning(bad, 1)), j.submit(t, spoiled), j.submit(t, warning(good, 1)), j.submit(t, warning(bad, 0)),
		}
		release()
		for i, want := range []errs.Code{"", errs.Internal, errs.Internal, "", errs.StaleClaim} {
			if a := <-answers[i]; (a.err == nil) != (want == "") || a.err != nil && !errs.Is(a.err, want) {
				t.Errorf("%s: entry %d got %v, want %q", c.name, i, a.err, want)
			}
		}
		checkRefused(b, c.name, bad, run, done, box)
		if x := b.get(good); x.Status != execution.Running || x.LastSeq != 4 {
			t.Errorf("%s: the neighbour %+v", c.name, x)
		}
		_, err := j.Commit(t.Context(), warning(bad, 1))
		wantCode(t, err, errs.StaleClaim)
	}
}

// checkRefused asserts that nothing of a refused execution goes on.
func checkRefused(b *testBundle, name string, id [16]byte, run, done journal.NodeRun, box journal.Sandbox) {
	b.t.Helper()
	x := b.get(id)
	if x.Status != execution.Failed || x.Failure == nil || x.Failure.Code != "internal" || x.Outputs != nil {
		b.t.Errorf("%s: execution %+v, failure %+v", name, x, x.Failure)
	}
	want := []event.Type{event.ExecutionQueued, event.ExecutionClaimed, event.NodeStarted, event.NodeInterrupted, event.ExecutionFailed}
	if diff := cmp.Diff(want, b.types(id)); diff != "" {
		b.t.Errorf("%s: %s", name, diff)
	}
	got := map[[16]byte]execution.NodeStatus{}
	for _, r := range b.nodeRuns(id) {
		got[r.ID] = r.Status
	}
	statuses := map[[16]byte]execution.NodeStatus{run.ID: execution.NodeInterrupted, done.ID: execution.NodeCompleted}
	if diff := cmp.Diff(statuses, got); diff != "" {
		b.t.Errorf("%s: %s", name, diff)
	}
	if state := pgtest.Get[string](b.t, b.pool, "SELECT string_agg(id::text || ' ' || state, ', ') FROM sandboxes WHERE execution_id = $1", id); state != box.ID.String()+" destroying" {
		b.t.Errorf("%s: sandboxes %s", name, state)
	}
}

// randomText does not compress, unlike a repeated letter, which would fit into an index.
func randomText(n int) string {
	text := make([]byte, n)
	state := uint32(1)
	for i := range text {
		state = state*1664525 + 1013904223
		text[i] = 'a' + byte(state>>24)%26
	}
	return string(text)
}

// TestFailuresOfTheDatabase lets a trigger fail commits with the class of each thing that goes wrong. A sequence counts, since
// it is not rolled back.
func TestFailuresOfTheDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	for _, sql := range []string{
		"CREATE SEQUENCE times",
		"CREATE TABLE failure (code text, times int)",
		`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
		DECLARE f record;
		BEGIN
			SELECT * INTO f FROM failure;
			IF FOUND AND NEW.type = 'warning' AND nextval('times') <= f.times THEN RAISE EXCEPTION 'planted' USING ERRCODE = f.code; END IF;
			RETURN NEW;
		END $$`,
		"CREATE TRIGGER fail BEFORE INSERT ON execution_events FOR EACH ROW EXECUTE FUNCTION fail()",
	} {
		pgtest.Exec(t, b.pool, sql)
	}
	for _, c := range []struct {
		code    string
		retried bool
	}{
		{"40001", true},
		{"40P01", true},
		{"53300", true},
		{"55P03", true},
		{"57014", true},
		{"58030", true},
		{"25006", true},
		{"08006", true},
		{"XX000", false},
		{"42703", false},
	} {
		id := b.claimed(1)[0]
		pgtest.Exec(t, b.pool, "ALTER SEQUENCE times RESTART")
		pgtest.Exec(t, b.pool, "INSERT INTO failure VALUES ($1, 2)", c.code)
		_, err := j.Commit(t.Context(), warning(id, 1))
		tries := pgtest.Get[int](t, b.pool, "SELECT last_value FROM times")
		pgtest.Exec(t, b.pool, "DELETE FROM failure")
		switch {
		case c.retried && (err != nil || tries != 3 || b.get(id).LastSeq != 3):
			t.Errorf("%s: %v after %d tries", c.code, err, tries)
		case !c.retried && (err == nil || tries != 1 || b.get(id).LastSeq != 2 || b.get(id).Status != execution.Running):
			t.Errorf("%s: %v after %d tries", c.code, err, tries)
		}
	}
}

func TestDeadlockIsRetried(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	ids := b.claimed(3) // in order of id, as the journal locks them
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	for _, sql := range []string{"SET LOCAL statement_timeout = 0", "SET LOCAL deadlock_timeout = '1h'", "SELECT 1 FROM executions WHERE id = '" + ids[2].String() + "' FOR UPDATE"} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	letOn := b.lock(ids[1])
	defer letOn()
	release := b.hold(j)
	var answers []<-chan answer
	for _, id := range ids {
		answers = append(answers, j.submit(t, warning(id, 1)))
	}
	release()
	b.awaitBlocked() // it has the first and waits for the second
	second := make(chan error, 1)
	go func() {
		_, err := tx.Exec(t.Context(), "SELECT 1 FROM executions WHERE id = $1 FOR UPDATE", ids[0])
		second <- err
	}()
	await(t, "the test to wait for the first", func() bool {
		return pgtest.Get[int](t, b.pool, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'SELECT 1 FROM executions%'`) == 1
	})
	// Who waits looks for a deadlock once, and is the victim then: the journal, which waits last, for the third, and so when both do.
	letOn()
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, a := range answers {
		if a := <-a; a.err != nil {
			t.Error(a.err)
		}
	}
	await(t, "the count of the deadlock", func() bool {
		return pgtest.Get[int](t, b.pool, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") >= 1
	})
}

// TestSession holds that entries which stand on a failed one fail with it, until the engine has loaded again.
func TestSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	ids := b.claimed(2)
	session, other := new(journal.Session), new(journal.Session)
	in := func(s *journal.Session, e *journal.Entry) *journal.Entry {
		e.Session = s
		return e
	}
	j.commit(t, in(session, warning(ids[0], 1)))
	if _, err := j.Commit(t.Context(), in(session, warning(ids[0], 9))); !errs.Is(err, errs.StaleClaim) {
		t.Fatal(err)
	}
	if _, err := j.Commit(t.Context(), in(session, warning(ids[0], 1))); !errs.Is(err, errs.StaleClaim) {
		t.Errorf("after a failure of its session: %v", err)
	}
	j.commit(t, in(other, warning(ids[1], 1)))
	j.commit(t, in(new(journal.Session), warning(ids[0], 1)))
	if x := b.get(ids[0]); x.LastSeq != 4 {
		t.Errorf("last_seq %d", x.LastSeq)
	}
}
