package journal

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/queue"
)

// batch is the rows of one commit, as the arrays that its statements take.
type batch struct {
	receipts map[uuid.UUID]Receipt
	refused  map[*pending]error // errStale or errSignaled

	nodeRuns   dbsqlc.NodeRunUpsertManyParams
	nodeRunRow map[uuid.UUID]int // a node run's row in nodeRuns: a statement may touch it only once
	events     dbsqlc.EventInsertManyParams
	logs       dbsqlc.LogInsertManyParams
	cursors    cursorColumns
	cursorRow  map[uuid.UUID]int
	masks      dbsqlc.MaskInsertManyParams
	sandboxes  dbsqlc.SandboxUpsertManyParams
	sandboxRow map[uuid.UUID]int
	artifacts  []uuid.UUID // that become complete
	dropped    []uuid.UUID
	executions executionColumns
	results    resultColumns
	timers     timerColumns
	leaving    []uuid.UUID // executions that end and have a slot in a concurrency group
	children   []queue.Request
	parents    []uuid.UUID // of executions that end
}

type cursorColumns struct {
	Ids                      []uuid.UUID
	Cursors                  []string
	StdoutBytes, StderrBytes []int64
}

type executionColumns struct {
	Ids      []uuid.UUID
	LastSeqs []int64
	Statuses []string
	Started  []bool
}

type resultColumns struct {
	Ids             []uuid.UUID
	Outputs, Errors []string
}

type timerColumns struct {
	Ids     []uuid.UUID
	DueMs   []int64
	Reasons []string
}

// head is an execution's row under the lock, moving on as entries are numbered.
type head struct {
	dbsqlc.JournalLockRow
	day     time.Time
	started bool
	end     *End
	park    *Park
	left    bool // given back by an entry of this batch: whatever follows is late
}

// newBatch fences and numbers the entries by the rows that the lock returned.
func newBatch(entries []*pending, rows []dbsqlc.JournalLockRow) (*batch, error) {
	b := &batch{
		receipts: make(map[uuid.UUID]Receipt, len(rows)), refused: map[*pending]error{},
		nodeRunRow: map[uuid.UUID]int{}, cursorRow: map[uuid.UUID]int{}, sandboxRow: map[uuid.UUID]int{},
	}
	heads := make(map[uuid.UUID]*head, len(rows))
	for _, row := range rows {
		heads[row.ID] = &head{JournalLockRow: row, day: execution.Day(row.ID)}
	}
	for _, p := range entries {
		h := heads[p.entry.ExecutionID]
		session := p.entry.Session
		if h == nil || h.Finished || h.left || h.Claim != p.entry.Claim || session != nil && session.abandoned.Load() {
			b.refused[p] = errStale
			continue
		}
		if p.entry.guarded() && h.Signal > p.entry.Signal {
			b.refused[p] = errSignaled
			continue
		}
		if err := b.add(h, p.entry); err != nil {
			return nil, err
		}
	}
	for _, row := range rows { // in id order, as they were locked
		if err := b.advance(heads[row.ID], row.LastSeq); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *batch) add(h *head, e *Entry) error {
	h.started = h.started || e.Started
	for _, r := range e.NodeRuns {
		if err := b.addNodeRun(h.ID, r); err != nil {
			return err
		}
	}
	for _, r := range e.Records {
		h.LastSeq++
		b.addRecord(h, r)
	}
	for _, c := range e.Cursors {
		if err := b.addCursor(c); err != nil {
			return err
		}
	}
	for _, m := range e.Masks {
		b.addMask(h.ID, m)
	}
	for _, s := range e.Sandboxes {
		b.addSandbox(h, s)
	}
	b.artifacts, b.dropped = append(b.artifacts, e.Artifacts...), append(b.dropped, e.Dropped...)
	b.children = append(b.children, e.Children...)
	if e.End != nil && e.Parent != nil {
		b.parents = append(b.parents, *e.Parent)
	}
	h.end, h.park, h.left = e.End, e.Park, e.last()
	return nil
}

func (b *batch) addRecord(h *head, r Record) {
	if r.Type == event.Log {
		l := &b.logs
		l.Days, l.ExecutionIds, l.Seqs = append(l.Days, h.day), append(l.ExecutionIds, h.ID), append(l.Seqs, h.LastSeq)
		l.NodeRunIds, l.Streams = append(l.NodeRunIds, r.NodeRunID), append(l.Streams, string(r.Stream))
		l.ByteOffsets, l.Data = append(l.ByteOffsets, r.Offset), append(l.Data, r.Chunk)
		return
	}
	data := "{}"
	if len(r.Data) > 0 {
		data = string(r.Data)
	}
	v := &b.events
	v.Days, v.ExecutionIds, v.Seqs = append(v.Days, h.day), append(v.ExecutionIds, h.ID), append(v.Seqs, h.LastSeq)
	v.Types, v.NodeRunIds, v.Data = append(v.Types, string(r.Type)), append(v.NodeRunIds, r.NodeRunID), append(v.Data, data)
}

func (b *batch) addNodeRun(executionID uuid.UUID, r NodeRun) error {
	failure, err := encode(r.Failure)
	if err != nil {
		return err
	}
	exitCode := int32(-1)
	if r.ExitCode != nil {
		exitCode = int32(*r.ExitCode)
	}
	started := r.Status != execution.NodeSkipped && r.Status != execution.NodePending
	n := &b.nodeRuns
	if i, ok := b.nodeRunRow[r.ID]; ok {
		if n.Finished[i] {
			return nil // terminal states never change
		}
		if r.SandboxID != uuid.Nil {
			n.SandboxIds[i], n.ShimProtocols[i] = r.SandboxID, int16(r.ShimProtocol)
		}
		n.Statuses[i], n.ExitCodes[i], n.Errors[i] = string(r.Status), exitCode, failure
		n.Outputs[i], n.Summaries[i], n.RetryMs[i] = string(r.Outputs), r.Summary, milliseconds(r.RetryIn)
		n.Started[i], n.Finished[i] = n.Started[i] || started, r.Status.Terminal()
		return nil
	}
	b.nodeRunRow[r.ID] = len(n.Ids)
	n.Ids, n.ExecutionIds = append(n.Ids, r.ID), append(n.ExecutionIds, executionID)
	n.NodeKeys, n.Indexes, n.Attempts = append(n.NodeKeys, r.Key), append(n.Indexes, int32(r.Index)), append(n.Attempts, int32(r.Attempt))
	n.Statuses, n.SandboxIds = append(n.Statuses, string(r.Status)), append(n.SandboxIds, r.SandboxID)
	n.ShimProtocols, n.ExitCodes = append(n.ShimProtocols, int16(r.ShimProtocol)), append(n.ExitCodes, exitCode)
	n.Errors, n.Outputs, n.Summaries = append(n.Errors, failure), append(n.Outputs, string(r.Outputs)), append(n.Summaries, r.Summary)
	n.Prompts, n.Matrices, n.DueMs = append(n.Prompts, string(r.Prompt)), append(n.Matrices, string(r.Combination)), append(n.DueMs, milliseconds(r.DueIn))
	n.RetryMs = append(n.RetryMs, milliseconds(r.RetryIn))
	n.Started, n.Finished = append(n.Started, started), append(n.Finished, r.Status.Terminal())
	return nil
}

func (b *batch) addCursor(c Cursor) error {
	position, err := json.Marshal(c.Position)
	if err != nil {
		return fmt.Errorf("encoding a cursor: %w", err)
	}
	u := &b.cursors
	if i, ok := b.cursorRow[c.NodeRunID]; ok {
		u.Cursors[i], u.StdoutBytes[i], u.StderrBytes[i] = string(position), c.StdoutBytes, c.StderrBytes
		return nil
	}
	b.cursorRow[c.NodeRunID] = len(u.Ids)
	u.Ids, u.Cursors = append(u.Ids, c.NodeRunID), append(u.Cursors, string(position))
	u.StdoutBytes, u.StderrBytes = append(u.StdoutBytes, c.StdoutBytes), append(u.StderrBytes, c.StderrBytes)
	return nil
}

func (b *batch) addMask(executionID uuid.UUID, m Mask) {
	u := &b.masks
	u.ExecutionIds, u.Numbers = append(u.ExecutionIds, executionID), append(u.Numbers, int32(m.Number))
	u.KeyIds, u.WrappedKeys = append(u.KeyIds, m.KeyID), append(u.WrappedKeys, m.WrappedKey)
	u.Ciphertexts = append(u.Ciphertexts, m.Ciphertext)
}

func (b *batch) addSandbox(h *head, s Sandbox) {
	u := &b.sandboxes
	if i, ok := b.sandboxRow[s.ID]; ok {
		if final := SandboxState(u.States[i]); final == SandboxDestroying || final == SandboxFailed {
			return
		}
		u.States[i], u.Reasons[i], u.KeepMs[i], u.Claims[i] = string(s.State), s.Reason, s.KeepMS, h.Claim
		if s.ProviderID != "" {
			u.ProviderIds[i], u.Isolations[i] = s.ProviderID, s.Isolation
		}
		return
	}
	b.sandboxRow[s.ID] = len(u.Ids)
	u.Ids, u.ExecutionIds, u.Claims = append(u.Ids, s.ID), append(u.ExecutionIds, h.ID), append(u.Claims, h.Claim)
	u.Providers, u.Hosts = append(u.Providers, s.Provider), append(u.Hosts, s.Host)
	u.ProviderIds, u.States = append(u.ProviderIds, s.ProviderID), append(u.States, string(s.State))
	u.Isolations, u.Reasons, u.KeepMs = append(u.Isolations, s.Isolation), append(u.Reasons, s.Reason), append(u.KeepMs, s.KeepMS)
}

// advance adds the execution's own row, unless nothing of it is left in the batch.
func (b *batch) advance(h *head, lastSeq int64) error {
	b.receipts[h.ID] = Receipt{LastSeq: h.LastSeq, Signal: h.Signal}
	if h.LastSeq == lastSeq && !h.started && !h.left {
		return nil
	}
	status := ""
	if h.park != nil {
		status = string(execution.Waiting)
		if h.park.DueIn != nil {
			t := &b.timers
			t.Ids, t.DueMs, t.Reasons = append(t.Ids, h.ID), append(t.DueMs, milliseconds(h.park.DueIn)), append(t.Reasons, h.park.Reason)
		}
	}
	if h.end != nil {
		status = string(h.end.Status)
		failure, err := encode(h.end.Failure)
		if err != nil {
			return err
		}
		if h.Grouped {
			b.leaving = append(b.leaving, h.ID)
		}
		r := &b.results
		r.Ids, r.Outputs, r.Errors = append(r.Ids, h.ID), append(r.Outputs, string(h.end.Outputs)), append(r.Errors, failure)
	}
	x := &b.executions
	x.Ids, x.LastSeqs = append(x.Ids, h.ID), append(x.LastSeqs, h.LastSeq)
	x.Statuses, x.Started = append(x.Statuses, status), append(x.Started, h.started)
	return nil
}

// milliseconds of a pause, at least 0, and -1 for none.
func milliseconds(d *time.Duration) int64 {
	if d == nil {
		return -1
	}
	return max(d.Milliseconds(), 0)
}

// encode returns the JSON of a failure, or "" for none.
func encode(f *execution.Failure) (string, error) {
	if f == nil {
		return "", nil
	}
	raw, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("encoding a failure: %w", err)
	}
	return string(raw), nil
}
