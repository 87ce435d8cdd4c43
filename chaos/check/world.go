package check

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// World is what the database holds, from one snapshot.
type World struct {
	Executions map[uuid.UUID]*Execution
	Sandboxes  []Sandbox
	Queued     []uuid.UUID // executions with a row in the queue, among the timers, or in a concurrency group
	Crowds     []Crowd
}

// Crowd is how full a concurrency group has been at most, in committed time: from the first claim of an execution in it to its end.
type Crowd struct {
	Group string
	Most  int
}

// Execution is an execution with its history.
type Execution struct {
	ID         uuid.UUID
	Workflow   string // slug
	Group      string // the concurrency group, empty without one
	Parent     *uuid.UUID
	ParentRun  *uuid.UUID // the node run of the parent that runs it
	Status     string
	Claim      int64
	QueuedAt   time.Time
	FinishedAt *time.Time
	Canceled   bool // a cancel was requested
	Deadline   bool // its time was up
	Outputs    json.RawMessage
	Failure    Failure
	NodeRuns   []*NodeRun // by key, index and attempt
	Events     []Event    // by sequence
	Chunks     []Chunk    // by sequence
	Reads      []Read
	Files      []File
}

// File is an artifact or a file of a checkpoint that is complete.
type File struct {
	NodeRunID  uuid.UUID
	Checkpoint int // its number; 0 for an artifact
	Path       string
	Size       int64
	SHA256     []byte
	Content    []byte // the SHA-256 of the bytes that are there
	There      int64  // how many they are
}

// Failure is the code of an error; empty without one.
type Failure struct {
	Code string `json:"code"`
}

// NodeRun is one attempt of a node.
type NodeRun struct {
	ID                       uuid.UUID
	Key                      string
	Index                    int
	Attempt                  int
	Status                   string
	ExitCode                 *int
	Failure                  Failure
	Outputs                  json.RawMessage
	Decision                 json.RawMessage
	StdoutBytes, StderrBytes int64
	StartedAt, FinishedAt    *time.Time
}

// Event is one event.
type Event struct {
	Seq       int64
	Type      string
	NodeRunID *uuid.UUID
	Data      json.RawMessage
}

// Chunk is one piece of output.
type Chunk struct {
	Seq       int64
	NodeRunID uuid.UUID
	Stream    string
	Offset    int64
	Data      []byte
}

// Read is the audit row of a secret that an execution was given.
type Read struct {
	Claim int64
	Key   string
}

// Sandbox is a row of sandboxes.
type Sandbox struct {
	ID          uuid.UUID
	ExecutionID uuid.UUID
	ProviderID  string
	State       string
}

// Load reads the world.
func Load(ctx context.Context, pool *pgxpool.Pool) (*World, error) {
	w := &World{Executions: map[uuid.UUID]*Execution{}}
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		for _, load := range []func(context.Context, pgx.Tx) error{
			w.loadExecutions, w.loadNodeRuns, w.loadEvents, w.loadChunks, w.loadReads, w.loadFiles, w.loadSandboxes, w.loadQueued, w.loadCrowds,
		} {
			if err := load(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading what has happened: %w", err)
	}
	return w, nil
}

// each calls scan for every row of a query.
func each(ctx context.Context, tx pgx.Tx, sql string, scan func(pgx.Rows) error) error {
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (w *World) loadExecutions(ctx context.Context, tx pgx.Tx) error {
	const sql = `
SELECT e.id, w.slug, COALESCE(e.concurrency_group, ''), e.parent_execution_id, e.parent_node_run_id, e.status, e.claim, e.queued_at, e.finished_at, e.cancel_requested_at IS NOT NULL, e.deadline_passed_at IS NOT NULL, d.outputs, COALESCE(d.error->>'code', '')
FROM executions e JOIN workflows w ON w.id = e.workflow_id JOIN execution_data d ON d.execution_id = e.id`
	return each(ctx, tx, sql, func(rows pgx.Rows) error {
		e := &Execution{}
		err := rows.Scan(&e.ID, &e.Workflow, &e.Group, &e.Parent, &e.ParentRun, &e.Status, &e.Claim, &e.QueuedAt, &e.FinishedAt, &e.Canceled, &e.Deadline, &e.Outputs, &e.Failure.Code)
		w.Executions[e.ID] = e
		return err
	})
}

func (w *World) loadNodeRuns(ctx context.Context, tx pgx.Tx) error {
	const sql = `
SELECT execution_id, id, node_key, index, attempt, status, exit_code, COALESCE(error->>'code', ''), outputs, decision, stdout_bytes, stderr_bytes, started_at, finished_at
FROM node_runs ORDER BY execution_id, node_key, index, attempt`
	return each(ctx, tx, sql, func(rows pgx.Rows) error {
		var execution uuid.UUID
		n := &NodeRun{}
		err := rows.Scan(&execution, &n.ID, &n.Key, &n.Index, &n.Attempt, &n.Status, &n.ExitCode, &n.Failure.Code, &n.Outputs, &n.Decision, &n.StdoutBytes, &n.StderrBytes, &n.StartedAt, &n.FinishedAt)
		if e := w.Executions[execution]; e != nil {
			e.NodeRuns = append(e.NodeRuns, n)
		}
		return err
	})
}

func (w *World) loadEvents(ctx context.Context, tx pgx.Tx) error {
	const sql = "SELECT execution_id, seq, type, node_run_id, data FROM execution_events ORDER BY execution_id, seq"
	return each(ctx, tx, sql, func(rows pgx.Rows) error {
		var execution uuid.UUID
		var event Event
		err := rows.Scan(&execution, &event.Seq, &event.Type, &event.NodeRunID, &event.Data)
		if e := w.Executions[execution]; e != nil {
			e.Events = append(e.Events, event)
		}
		return err
	})
}

func (w *World) loadChunks(ctx context.Context, tx pgx.Tx) error {
	const sql = "SELECT execution_id, seq, node_run_id, stream, byte_offset, data FROM execution_logs ORDER BY execution_id, seq"
	return each(ctx, tx, sql, func(rows pgx.Rows) error {
		var execution uuid.UUID
		var chunk Chunk
		err := rows.Scan(&execution, &chunk.Seq, &chunk.NodeRunID, &chunk.Stream, &chunk.Offset, &chunk.Data)
		if e := w.Executions[execution]; e != nil {
			e.Chunks = append(e.Chunks, chunk)
		}
		return err
	})
}

func (w *World) loadReads(ctx context.Context, tx pgx.Tx) error {
	const sql = "SELECT execution_id, (data->>'claim')::bigint, target FROM audit_log WHERE action = 'secret.read' AND execution_id IS NOT NULL ORDER BY id"
	return each(ctx, tx, sql, func(rows pgx.Rows) error {
		var execution uuid.UUID
		var read Read
		err := rows.Scan(&execution, &read.Claim, &read.Key)
		if e := w.Executions[execution]; e != nil {
			e.Reads = append(e.Reads, read)
		}
		return err
	})
}

func (w *World) loadFiles(ctx context.Context, tx pgx.Tx) error {
	const sql = `
SELECT a.execution_id, a.node_run_id, a.checkpoint, a.path, a.size, a.sha256, sha256(COALESCE(c.content, '')), COALESCE(octet_length(c.content), 0)
FROM artifacts a LEFT JOIN LATERAL (
    SELECT string_agg(data, '' ORDER BY number) AS content FROM artifact_chunks c WHERE c.day = execution_day(a.execution_id) AND c.artifact_id = a.id) AS c ON true
WHERE a.state = 'complete' ORDER BY a.execution_id, a.node_run_id, a.checkpoint, a.path`
	return each(ctx, tx, sql, func(rows pgx.Rows) error {
		var execution uuid.UUID
		var f File
		err := rows.Scan(&execution, &f.NodeRunID, &f.Checkpoint, &f.Path, &f.Size, &f.SHA256, &f.Content, &f.There)
		if e := w.Executions[execution]; e != nil {
			e.Files = append(e.Files, f)
		}
		return err
	})
}

func (w *World) loadSandboxes(ctx context.Context, tx pgx.Tx) error {
	const sql = "SELECT id, execution_id, COALESCE(provider_id, ''), state FROM sandboxes ORDER BY id"
	return each(ctx, tx, sql, func(rows pgx.Rows) error {
		var s Sandbox
		err := rows.Scan(&s.ID, &s.ExecutionID, &s.ProviderID, &s.State)
		w.Sandboxes = append(w.Sandboxes, s)
		return err
	})
}

func (w *World) loadQueued(ctx context.Context, tx pgx.Tx) error {
	const sql = `
SELECT execution_id FROM execution_queue UNION SELECT execution_id FROM execution_timers
UNION SELECT execution_id FROM concurrency_slots UNION SELECT execution_id FROM concurrency_waiters`
	return each(ctx, tx, sql, func(rows pgx.Rows) error {
		var id uuid.UUID
		err := rows.Scan(&id)
		w.Queued = append(w.Queued, id)
		return err
	})
}

// loadCrowds counts in the order of the times: an end before a begin at the same one. A claim's event has the time of its writing, after the
// admission was committed; an end has that of its transaction's begin, before it frees the place. So none seems to overlap that does not.
func (w *World) loadCrowds(ctx context.Context, tx pgx.Tx) error {
	const sql = `
WITH held AS (
    SELECT e.concurrency_group AS name, c.began, COALESCE(e.finished_at, 'infinity') AS ended
    FROM executions e
    JOIN (SELECT execution_id, min(time) AS began FROM execution_events WHERE type = 'execution.claimed' GROUP BY execution_id) AS c ON c.execution_id = e.id
    WHERE e.concurrency_group IS NOT NULL
), changes AS (
    SELECT name, began AS at, 1 AS change FROM held UNION ALL SELECT name, ended, -1 FROM held
)
SELECT name, max(inside)::int FROM (SELECT name, sum(change) OVER (PARTITION BY name ORDER BY at, change) AS inside FROM changes) AS x GROUP BY name ORDER BY name`
	return each(ctx, tx, sql, func(rows pgx.Rows) error {
		var crowd Crowd
		err := rows.Scan(&crowd.Group, &crowd.Most)
		w.Crowds = append(w.Crowds, crowd)
		return err
	})
}

// last returns the newest attempts of each node, by index.
func (x *Execution) last() map[string][]*NodeRun {
	last := map[string][]*NodeRun{}
	for _, n := range x.NodeRuns {
		if runs := last[n.Key]; len(runs) > 0 && runs[len(runs)-1].Index == n.Index {
			runs[len(runs)-1] = n
		} else {
			last[n.Key] = append(runs, n)
		}
	}
	return last
}

// streams returns the output of each node run, by stream.
func (x *Execution) streams() map[uuid.UUID]map[string][]byte {
	all := map[uuid.UUID]map[string][]byte{}
	for _, c := range x.Chunks {
		if all[c.NodeRunID] == nil {
			all[c.NodeRunID] = map[string][]byte{}
		}
		all[c.NodeRunID][c.Stream] = append(all[c.NodeRunID][c.Stream], c.Data...)
	}
	return all
}
