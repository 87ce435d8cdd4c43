package journal_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
)

// meddler is a tracer that has something happen each time that the journal has read the node runs of what it is to end, and not the sandboxes yet.
type meddler struct {
	pgtest.Statements
	meddle func()
}

func (m *meddler) TraceQueryStart(ctx context.Context, conn *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(d.SQL, "-- name: SandboxListByExecution ") {
		m.meddle()
	}
	return m.Statements.TraceQueryStart(ctx, conn, d)
}

// startMeddled runs a journal whose reads of what it is to end are meddled with.
func (b *testBundle) startMeddled(meddle func()) *running {
	b.t.Helper()
	m := &meddler{meddle: meddle}
	return b.startOn(pgtest.Open(b.t, b.url, postgres.Options{Tracer: m, MaxConns: 2}), &m.Statements)
}

// refusals are the two ways in which the journal ends an execution by itself. Each returns what its caller gets.
func refusals() map[string]func(*testing.T, *running, uuid.UUID) error {
	return map[string]func(*testing.T, *running, uuid.UUID) error{
		"nobody can go on": func(t *testing.T, j *running, id uuid.UUID) error {
			t.Helper()
			return j.Fail(t.Context(), id, 1, execution.Failure{Code: "secret", Message: "It cannot be opened."})
		},
		"its data cannot be stored": func(t *testing.T, j *running, id uuid.UUID) error {
			t.Helper()
			e := warning(id, 1)
			e.Records[0].Data = json.RawMessage(`{`)
			_, err := j.Commit(t.Context(), e)
			if errs.Is(err, errs.Internal) {
				return nil
			}
			return err
		},
	}
}

// TestDecisionWhileTheJournalEndsAnExecution holds that a node run which somebody ends between the read and the write has one end.
func TestDecisionWhileTheJournalEndsAnExecution(t *testing.T) {
	t.Parallel()
	for name, refuse := range refusals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			defer b.check()
			id := b.claimed(1)[0]
			times := 0
			j := b.startMeddled(func() {
				if times++; times > 1 {
					return
				}
				err := b.queue.Decide(t.Context(), queue.Decision{
					ExecutionID: id, Node: "ask", Approved: true, Permit: func([]string) error { return nil },
					By: audit.Actor{OrganizationID: b.org, Kind: audit.User, Name: "ann"},
				})
				if err != nil {
					t.Error(err)
				}
			})
			entry, other := started(id, "other")
			ask := journal.NodeRun{ID: execution.NewID(), Key: "ask", Attempt: 1, Status: execution.NodeWaiting, Prompt: json.RawMessage(`{"message": "Sure?"}`)}
			entry.NodeRuns = append(entry.NodeRuns, ask)
			j.commit(t, entry)

			if err := refuse(t, j, id); err != nil {
				t.Fatal(err)
			}
			if x := b.get(id); x.Status != execution.Failed || times != 2 {
				t.Errorf("status %s after %d reads", x.Status, times)
			}
			got := map[uuid.UUID]execution.NodeStatus{}
			for _, r := range b.nodeRuns(id) {
				got[r.ID] = r.Status
			}
			want := map[uuid.UUID]execution.NodeStatus{ask.ID: execution.NodeCompleted, other.ID: execution.NodeInterrupted}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			types := []event.Type{
				event.ExecutionQueued, event.ExecutionClaimed, event.NodeStarted, event.NodeCompleted, event.NodeInterrupted, event.ExecutionFailed,
			}
			if diff := cmp.Diff(types, b.types(id)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestFactsThatDoNotRest changes a fact at every read: the journal gives up, and has ended nothing.
func TestFactsThatDoNotRest(t *testing.T) {
	t.Parallel()
	for name, refuse := range refusals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			defer b.check()
			id := b.claimed(1)[0]
			j := b.startMeddled(func() { pgtest.Exec(t, b.pool, "UPDATE executions SET signal = signal + 1 WHERE id = $1", id) })
			wantCode(t, refuse(t, j, id), errs.Conflict)
			if x := b.get(id); x.Status != execution.Running {
				t.Errorf("status %s", x.Status)
			}
		})
	}
}

// TestFailWithoutAnExecution holds that there is nothing to wait for.
func TestFailWithoutAnExecution(t *testing.T) {
	t.Parallel()
	b := setup(t)
	wantCode(t, b.start().Fail(t.Context(), execution.NewID(), 1, execution.Failure{Code: "secret"}), errs.StaleClaim)
}
