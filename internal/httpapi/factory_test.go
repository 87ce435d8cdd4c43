package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/artifact"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
)

const helloText = `name: Hello
inputs:
  who: { type: string, default: world }
  times: { type: integer, default: 1, minimum: 1, maximum: 10 }
nodes:
  greet:
    run: echo hello
  after:
    needs: [greet]
    run: echo after
`

// workflow pushes helloText under the slug.
func (b *testBundle) workflow(t *testing.T, slug string) openapi.Workflow {
	t.Helper()
	return post[openapi.Workflow](t, b, apiPrefix+"/workflows", map[string]any{"source": helloText, "slug": slug}, http.StatusCreated)
}

// queued asks for an execution.
func (b *testBundle) queued(t *testing.T, slug string) uuid.UUID {
	t.Helper()
	return post[openapi.ExecutionQueued](t, b, apiPrefix+"/workflows/"+slug+"/executions", nil, http.StatusAccepted).ID
}

// started makes a queued execution look as if a worker had taken it.
func (b *testBundle) started(t *testing.T, slug string) uuid.UUID {
	t.Helper()
	id := b.queued(t, slug)
	b.exec(t, "DELETE FROM execution_queue WHERE execution_id = $1", id)
	b.exec(t, "UPDATE executions SET status = 'running', claim = 1, claimed_at = now(), started_at = now() WHERE id = $1", id)
	return id
}

// finish ends an execution.
func (b *testBundle) finish(t *testing.T, id uuid.UUID, status execution.Status) {
	t.Helper()
	b.exec(t, "DELETE FROM execution_queue WHERE execution_id = $1", id)
	b.exec(t, "UPDATE executions SET status = $2, worker_id = NULL, finished_at = now() WHERE id = $1", id, string(status))
}

// run is a node run whose log a test writes.
type run struct {
	b           *testBundle
	id          uuid.UUID
	executionID uuid.UUID
	written     map[event.Stream]int64
}

// nodeRun makes a node run that started as many seconds after the others as there were before it.
func (b *testBundle) nodeRun(t *testing.T, executionID uuid.UUID, key string, index, attempt int) *run {
	t.Helper()
	r := &run{b: b, id: execution.NewID(), executionID: executionID, written: map[event.Stream]int64{}}
	b.exec(t, `INSERT INTO node_runs (id, execution_id, node_key, index, attempt, status, started_at)
		VALUES ($1, $2, $3, $4, $5, 'running', now() + (SELECT count(*) FROM node_runs WHERE execution_id = $2) * interval '1 second')`,
		r.id, executionID, key, index, attempt)
	return r
}

// log stores one chunk as the journal does: numbered, and with the sizes of the node run moved.
func (r *run) log(t *testing.T, stream event.Stream, chunk string) {
	t.Helper()
	r.b.exec(t, `INSERT INTO execution_logs (day, execution_id, seq, node_run_id, stream, byte_offset, data) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		execution.Day(r.executionID), r.executionID, r.b.nextSeq(t, r.executionID), r.id, string(stream), r.written[stream], []byte(chunk))
	r.written[stream] += int64(len(chunk))
	r.b.exec(t, "UPDATE node_runs SET stdout_bytes = $2, stderr_bytes = $3 WHERE id = $1", r.id, r.written[event.Stdout], r.written[event.Stderr])
}

// event appends an event; r may be nil for the whole execution.
func (b *testBundle) event(t *testing.T, executionID uuid.UUID, r *run, kind event.Type, data any) {
	t.Helper()
	encoded, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	var nodeRunID *uuid.UUID
	if r != nil {
		nodeRunID = &r.id
	}
	b.exec(t, "INSERT INTO execution_events (day, execution_id, seq, type, node_run_id, data) VALUES ($1, $2, $3, $4, $5, $6)",
		execution.Day(executionID), executionID, b.nextSeq(t, executionID), string(kind), nodeRunID, encoded)
}

func (b *testBundle) nextSeq(t *testing.T, executionID uuid.UUID) (seq int64) {
	t.Helper()
	err := b.pool.QueryRow(t.Context(), "UPDATE executions SET last_seq = last_seq + 1 WHERE id = $1 RETURNING last_seq", executionID).Scan(&seq)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func (b *testBundle) worker(t *testing.T, state string, slots int, lease string) uuid.UUID {
	t.Helper()
	id := execution.NewID()
	b.exec(t, `INSERT INTO workers (id, state, host, pid, version, slots, lease_until, gone_at)
		VALUES ($1, $2, 'host-1', 4242, '1.2.3', $3, now() + $4::interval, CASE WHEN $2 = 'gone' THEN now() END)`, id, state, slots, lease)
	return id
}

func (b *testBundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := b.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%.40s…: %v", sql, err)
	}
}

func executionPath(id uuid.UUID, rest string) string {
	return fmt.Sprintf("%s/executions/%s%s", apiPrefix, id, rest)
}

// artifact stores a complete file of a node run; checkpoint is 0 for an artifact.
func (b *testBundle) artifact(t *testing.T, r *run, checkpoint int, path, content string) uuid.UUID {
	t.Helper()
	id := execution.NewID()
	b.exec(t, `INSERT INTO artifacts (id, execution_id, node_run_id, checkpoint, path, executable, size, sha256, state, appeared)
		VALUES ($1, $2, $3, $4::int, $5, false, octet_length($6::bytea), sha256($6), 'complete', $4::int)`, id, r.executionID, r.id, checkpoint, path, []byte(content))
	for number := 0; len(content) > 0; number++ {
		n := min(len(content), artifact.ChunkSize)
		b.exec(t, "INSERT INTO artifact_chunks (day, artifact_id, number, data) VALUES ($1, $2, $3, $4)",
			execution.Day(r.executionID), id, number, []byte(content[:n]))
		content = content[n:]
	}
	return id
}
