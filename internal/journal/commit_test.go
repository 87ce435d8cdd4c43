package journal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/pgtest"
)

// TestSequence has many callers write the same few executions through two journals, while readers follow: what
// a reader has seen up to a number is all that there ever is up to it.
func TestSequence(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	const callers, entries = 12, 12
	ids := b.claimed(3)
	journals := []*running{b.start(), b.start()}
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for _, id := range ids {
		readers.Go(func() {
			seen := int64(0)
			for last := false; ; {
				for _, e := range b.page(id, seen) {
					if e.Seq != seen+1 {
						t.Errorf("a reader that has seen %d gets %d: the number between came late", seen, e.Seq)
						return
					}
					seen = e.Seq
				}
				if last {
					break
				}
				select {
				case <-done:
					last = true
				default:
				}
			}
			if want := int64(2 + callers/3*entries*2); seen != want {
				t.Errorf("%d records, want %d", seen, want)
			}
		})
	}
	for i := range callers {
		writers.Go(func() {
			id, j, before := ids[i%3], journals[i/3%2], int64(0)
			for n := range entries {
				e := warning(id, 1)
				e.Records = append(e.Records, journal.Record{Type: event.Log, NodeRunID: id, Stream: event.Stdout, Offset: int64(n), Chunk: []byte{byte(n)}})
				r, err := j.Commit(t.Context(), e)
				if err != nil || r.LastSeq < before+2 {
					t.Errorf("receipt %+v after %d, %v", r, before, err)
					return
				}
				before = r.LastSeq
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	ids := b.claimed(20)

	j.commit(t, warning(ids[0], 1))
	if n := j.statements.Count("commit"); n != 1 {
		t.Fatalf("one idle caller pays %d commits", n)
	}
	release := b.hold(j)
	var answers []<-chan answer
	for range 5 {
		for _, id := range ids {
			answers = append(answers, j.submit(t, warning(id, 1)))
		}
	}
	if n := j.statements.Count("begin"); n != 2 {
		t.Fatalf("%d transactions have begun", n)
	}
	release()
	for _, a := range answers {
		if a := <-a; a.err != nil {
			t.Error(a.err)
		}
	}
	if n, locks := j.statements.Count("commit"), j.statements.Count("JournalLock"); n != 3 || locks != 3 {
		t.Errorf("%d commits and %d locks, want one more for 100 entries of 20 executions", n, locks)
	}
	if n := j.statements.Count("EventInsertMany"); n != 3 {
		t.Errorf("%d inserts of events, want one a commit", n)
	}
}

func TestStaleClaims(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	ids := b.claimed(2)
	gone := execution.NewID()
	// The second was given back and taken again: its claim is 3.
	pgtest.Exec(t, b.pool, "UPDATE executions SET claim = 3, signal = 7 WHERE id = $1", ids[1])

	release := b.hold(j)
	var stale []<-chan answer
	for _, e := range []*journal.Entry{warning(ids[0], 2), warning(ids[0], 0), warning(ids[1], 1), warning(ids[1], 2), warning(gone, 1)} {
		run, sandbox := execution.NewID(), execution.NewID()
		e.Started = true
		e.NodeRuns = []journal.NodeRun{{ID: run, Key: "late", Attempt: 1, Status: execution.NodeRunning}}
		e.Cursors = []journal.Cursor{{NodeRunID: run}}
		e.Sandboxes = []journal.Sandbox{{ID: sandbox, Provider: "fake", Host: "host", State: journal.SandboxCreating}}
		e.End = &journal.End{Status: execution.Failed}
		stale = append(stale, j.submit(t, e))
	}
	first, second := j.submit(t, warning(ids[0], 1)), j.submit(t, warning(ids[1], 3))
	release()
	for i, a := range stale {
		if a := <-a; !errs.Is(a.err, errs.StaleClaim) {
			t.Errorf("entry %d: %v", i, a.err)
		}
	}
	if a := <-first; a.err != nil || a.receipt.LastSeq != 3 || a.receipt.Signal != 0 {
		t.Errorf("%+v", a)
	}
	if a := <-second; a.err != nil || a.receipt.LastSeq != 3 || a.receipt.Signal != 7 {
		t.Errorf("%+v", a)
	}
	for _, id := range ids {
		if x := b.get(id); x.Status != execution.Running || x.LastSeq != 3 || x.StartedAt != nil {
			t.Errorf("execution %+v", x)
		}
	}
	for _, table := range []string{"node_runs", "sandboxes"} {
		if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM "+table); n != 0 {
			t.Errorf("stale entries wrote %d %s", n, table)
		}
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	id := b.claimed(1)[0]
	release := b.hold(j)
	before, end, late := j.submit(t, warning(id, 1)), j.submit(t, completed(id)), j.submit(t, warning(id, 1))
	release()
	if a := <-before; a.err != nil {
		t.Error(a.err)
	}
	if a := <-end; a.err != nil || a.receipt.LastSeq != 4 {
		t.Errorf("%+v", a)
	}
	if a := <-late; !errs.Is(a.err, errs.StaleClaim) {
		t.Errorf("after the end, in its batch: %v", a.err)
	}
	for _, claim := range []int64{1, 2} {
		_, err := j.Commit(t.Context(), warning(id, claim))
		wantCode(t, err, errs.StaleClaim)
	}
	x := b.get(id)
	if x.Status != execution.Completed || x.FinishedAt == nil || x.WorkerID != nil || string(x.Outputs) != `{"a": 1}` || x.Failure != nil {
		t.Errorf("execution %+v", x)
	}
	if claim := pgtest.Get[int64](t, b.pool, "SELECT claim FROM executions WHERE id = $1", id); claim != 2 {
		t.Errorf("claim %d: the end must give the right back", claim)
	}
	want := []event.Type{event.ExecutionQueued, event.ExecutionClaimed, event.Warning, event.ExecutionCompleted}
	if diff := cmp.Diff(want, b.types(id)); diff != "" {
		t.Error(diff)
	}
}

// TestOneBatch writes every row of an execution several times in one commit: the last word counts.
func TestOneBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	id := b.claimed(1)[0]
	box := journal.Sandbox{ID: execution.NewID(), Provider: "fake", Host: "host", State: journal.SandboxCreating}
	pending := journal.NodeRun{ID: execution.NewID(), Key: "n", Index: 3, Attempt: 2, Status: execution.NodePending}
	first := &journal.Entry{
		ExecutionID: id, Claim: 1, Started: true, NodeRuns: []journal.NodeRun{pending}, Sandboxes: []journal.Sandbox{box},
		Records: []journal.Record{{Type: event.ExecutionStarted}, {Type: event.SandboxCreating, Data: json.RawMessage(`{"a": "b"}`)}},
	}
	run := pending
	run.Status, run.SandboxID, run.ShimProtocol = execution.NodeRunning, box.ID, 4
	box.State, box.ProviderID, box.Isolation = journal.SandboxReady, "p-1", "bwrap"
	second := &journal.Entry{
		ExecutionID: id, Claim: 1, NodeRuns: []journal.NodeRun{run}, Sandboxes: []journal.Sandbox{box},
		Cursors: []journal.Cursor{{NodeRunID: run.ID, Position: journal.Position{Frame: 10}, StdoutBytes: 1}},
		Records: []journal.Record{{Type: event.NodeStarted, NodeRunID: run.ID}, chunk(run, 0, "x")},
	}
	code := 0
	run.Status, run.ExitCode, run.Outputs, run.Summary = execution.NodeCompleted, &code, json.RawMessage(`{"o": "1"}`), "# done"
	box.State, box.Reason, box.KeepMS = journal.SandboxKept, "asked for", 60_000
	third := &journal.Entry{
		ExecutionID: id, Claim: 1, NodeRuns: []journal.NodeRun{run}, Sandboxes: []journal.Sandbox{box},
		Cursors: []journal.Cursor{{NodeRunID: run.ID, Position: journal.Position{Frame: 20}, StdoutBytes: 3, StderrBytes: 9}},
		Records: []journal.Record{chunk(run, 1, "yz"), {Type: event.NodeCompleted, NodeRunID: run.ID}},
	}
	release := b.hold(j)
	answers := []<-chan answer{j.submit(t, first), j.submit(t, second), j.submit(t, third)}
	release()
	for _, a := range answers {
		if a := <-a; a.err != nil || a.receipt.LastSeq != 8 {
			t.Fatalf("%+v", a)
		}
	}
	got := b.nodeRuns(id)[0]
	want := execution.NodeRun{
		ID: run.ID, Key: "n", Index: 3, Attempt: 2, Status: execution.NodeCompleted, SandboxID: &box.ID, Cursor: got.Cursor, StdoutBytes: 3, StderrBytes: 9,
		ExitCode: &code, Outputs: json.RawMessage(`{"o": "1"}`), Summary: "# done", StartedAt: got.StartedAt, FinishedAt: got.FinishedAt,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var cursor journal.Position
	if err := json.Unmarshal(got.Cursor, &cursor); err != nil || cursor.Frame != 20 || got.StartedAt == nil || got.FinishedAt == nil {
		t.Errorf("cursor %s, started %v, finished %v, %v", got.Cursor, got.StartedAt, got.FinishedAt, err)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT shim_protocol FROM node_runs WHERE id = $1", run.ID); n != 4 {
		t.Errorf("shim protocol %d", n)
	}
	text := pgtest.Get[string](t, b.pool, `SELECT concat_ws(' ', state, provider_id, isolation, reason, claim, keep_until > now() + interval '50 s')
		FROM sandboxes WHERE id = $1 AND execution_id = $2`, box.ID, id)
	if text != "kept p-1 bwrap asked for 1 t" {
		t.Errorf("sandbox %s", text)
	}
	if x := b.get(id); x.StartedAt == nil || x.Status != execution.Running {
		t.Errorf("execution %+v", x)
	}
	types := []event.Type{
		event.ExecutionQueued, event.ExecutionClaimed, event.ExecutionStarted, event.SandboxCreating, event.NodeStarted, event.Log, event.Log, event.NodeCompleted,
	}
	if diff := cmp.Diff(types, b.types(id)); diff != "" {
		t.Error(diff)
	}
	if data := string(b.page(id, 3)[0].Data); data != `{"a": "b"}` {
		t.Errorf("data %s", data)
	}
}

func chunk(run journal.NodeRun, offset int64, text string) journal.Record {
	return journal.Record{Type: event.Log, NodeRunID: run.ID, Stream: event.Stdout, Offset: offset, Chunk: []byte(text)}
}

// TestFinalStatesStay holds for later commits and for later entries of the same one.
func TestFinalStatesStay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	id := b.claimed(1)[0]
	finals := []execution.NodeStatus{
		execution.NodeCompleted, execution.NodeFailed, execution.NodeSkipped, execution.NodeCanceled, execution.NodeTimedOut, execution.NodeInterrupted,
	}
	for _, together := range []bool{false, true} {
		ends, again := &journal.Entry{ExecutionID: id, Claim: 1}, &journal.Entry{ExecutionID: id, Claim: 1}
		for _, final := range finals {
			run := journal.NodeRun{ID: execution.NewID(), Key: fmt.Sprint(final, together), Attempt: 1, Status: final, Outputs: json.RawMessage(`{"is": "first"}`)}
			ends.NodeRuns = append(ends.NodeRuns, run)
			run.Outputs, run.Failure = nil, &execution.Failure{Code: "late"}
			for _, late := range []execution.NodeStatus{execution.NodeRunning, execution.NodeFailed, execution.NodeCompleted} {
				run.Status = late
				again.NodeRuns = append(again.NodeRuns, run)
			}
		}
		for _, final := range []journal.SandboxState{journal.SandboxDestroying, journal.SandboxFailed} {
			box := journal.Sandbox{ID: execution.NewID(), Provider: "fake", Host: "host", ProviderID: "p", State: final, Reason: string(final)}
			ends.Sandboxes = append(ends.Sandboxes, box)
			box.State, box.Reason = journal.SandboxReady, "late"
			again.Sandboxes = append(again.Sandboxes, box)
		}
		if together {
			release := b.hold(j)
			answers := []<-chan answer{j.submit(t, ends), j.submit(t, again)}
			release()
			for _, a := range answers {
				if a := <-a; a.err != nil {
					t.Fatal(a.err)
				}
			}
		} else {
			j.commit(t, ends)
			j.commit(t, again)
		}
		if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM sandboxes WHERE state <> reason"); n != 0 {
			t.Errorf("together %t: %d sandboxes left their final state", together, n)
		}
	}
	runs := b.nodeRuns(id)
	if len(runs) != 2*len(finals) {
		t.Errorf("%d node runs", len(runs))
	}
	for _, r := range runs {
		if !strings.HasPrefix(r.Key, string(r.Status)) || r.FinishedAt == nil || r.Failure != nil || string(r.Outputs) != `{"is": "first"}` {
			t.Errorf("%s became %+v", r.Key, r)
		}
	}
}

func TestChunksOfAnyBytes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	id := b.claimed(1)[0]
	entry, run := started(id, "n")
	all := make([]byte, event.MaxChunk)
	for i := range all {
		all[i] = byte(i ^ i>>8)
	}
	chunks := [][]byte{{0}, []byte("\r\n\xff\xfe\x00'\\{,}NULL"), all, []byte(`""`)}
	offset := int64(0)
	for _, c := range chunks {
		entry.Records = append(entry.Records, chunk(run, offset, string(c)))
		offset += int64(len(c))
	}
	j.commit(t, entry)
	logs, err := b.events.Logs(t.Context(), event.LogParams{ExecutionID: id, NodeRunID: &run.ID, Limit: 10})
	if err != nil || len(logs) != len(chunks) {
		t.Fatalf("%d chunks, %v", len(logs), err)
	}
	for i, e := range logs {
		if !bytes.Equal(e.Chunk, chunks[i]) {
			t.Errorf("chunk %d of %d bytes came back changed, with %d bytes", i, len(chunks[i]), len(e.Chunk))
		}
	}
}
