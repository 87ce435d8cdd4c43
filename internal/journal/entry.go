package journal

import (
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/queue"
	"foundry/internal/redact"
)

// Entry is what one execution does in one step. All of it becomes durable together, or none.
type Entry struct {
	ExecutionID uuid.UUID
	Claim       int64
	Session     *Session // nil stands alone
	Signal      int64    // the newest signal that was known when the entry was decided
	Guarded     bool     // refused with errs.Conflict when somebody has changed a fact since Signal; so are an End and a Park
	Started     bool     // the first entry of an execution that nobody has begun
	Records     []Record
	NodeRuns    []NodeRun
	Cursors     []Cursor
	Masks       []Mask
	Sandboxes   []Sandbox
	// Artifacts are complete with the entry: ids of rows of package artifact, in the state stored. Their events are among the records. Those in
	// Dropped are not shown any more.
	Artifacts, Dropped []uuid.UUID
	Children           []queue.Request // executions that its node runs wait for; each has an id, and this execution as its parent
	Parent             *uuid.UUID      // with an End: the execution that waits for this one, and is signaled; nil without one
	// End ends the execution, and Park gives it back until a signal or a time moves it on. Nothing of it may be
	// submitted afterwards.
	End  *End
	Park *Park
}

// guarded reports whether what the entry says stands on the facts that were known.
func (e *Entry) guarded() bool { return e.Guarded || e.End != nil || e.Park != nil }

// last reports whether the entry gives the claim back.
func (e *Entry) last() bool { return e.End != nil || e.Park != nil }

// Session ties together the entries of one engine since it has loaded an execution. After the first
// of them that fails, all others fail with the same error, also those that were submitted before it
// was known: what they say would stand on something that may never have happened. The zero value is ready.
type Session struct {
	err       error // of the journal's goroutine
	abandoned atomic.Bool
}

// Abandon refuses, with errs.StaleClaim, what of the session is not durable yet and is not being committed while
// the execution's row is locked. Who locks that row afterwards reads what the session has left.
func (s *Session) Abandon() { s.abandoned.Store(true) }

// Record is an event or, with Type event.Log, a chunk of output. Records are numbered in order.
type Record struct {
	Type      event.Type
	NodeRunID uuid.UUID       // zero for events of the whole execution
	Data      json.RawMessage // a JSON object; nil is {}

	Stream event.Stream
	Offset int64  // in stored bytes
	Chunk  []byte // 1 byte to event.MaxChunk
}

// NodeRun is the newest state of a node run; the zero value of a field means that it is absent.
// A terminal state is written once and never changed.
type NodeRun struct {
	ID           uuid.UUID
	Key          string
	Index        int
	Attempt      int
	Status       execution.NodeStatus
	SandboxID    uuid.UUID
	ShimProtocol int
	ExitCode     *int
	Outputs      json.RawMessage
	Summary      string
	Failure      *execution.Failure
	Prompt       json.RawMessage // of an approval: a JSON object; kept once it is written
	Combination  json.RawMessage // of a matrix: a JSON object; kept once it is written
	DueIn        *time.Duration  // of one that waits: when it ends by itself, from now; kept once it is written
	RetryIn      *time.Duration  // of one that failed: the pause before the node runs again
}

// Cursor is how far a node run's output has been recorded. Frame, Out and Err count raw bytes of the
// shim's file and of the two streams; StdoutBytes and StderrBytes count stored ones.
type Cursor struct {
	NodeRunID   uuid.UUID
	Position    Position
	StdoutBytes int64
	StderrBytes int64
}

// Position is a place in a node run's raw output: Frame is the file offset to read on from.
type Position struct {
	Frame int64           `json:"frame"`
	Out   redact.Position `json:"out"`
	Err   redact.Position `json:"err"`
}

// Mask is a value that a command announced, sealed. Its number is new in its execution.
type Mask struct {
	Number     int
	KeyID      string
	WrappedKey []byte
	Ciphertext []byte
}

// Sandbox is an intent to call a provider, or the result of a call.
type Sandbox struct {
	ID         uuid.UUID
	Provider   string
	Host       string
	ProviderID string // once known
	State      SandboxState
	Isolation  string
	Reason     string
	KeepMS     int64 // for SandboxKept: milliseconds from now
}

// SandboxState is the state of a sandboxes row.
type SandboxState string

// The states that a worker writes. Creating, starting and destroying are intents, committed before the call.
const (
	SandboxCreating   SandboxState = "creating"
	SandboxStarting   SandboxState = "starting"
	SandboxReady      SandboxState = "ready"
	SandboxKept       SandboxState = "kept"
	SandboxDestroying SandboxState = "destroying"
	SandboxFailed     SandboxState = "failed"
)

// End is the end of an execution. Its event is the last of the entry's records.
type End struct {
	Status  execution.Status // terminal
	Outputs json.RawMessage
	Failure *execution.Failure
}

// Park is a pause that holds no worker. Its event is the last of the entry's records.
type Park struct {
	DueIn  *time.Duration // when the execution goes on by itself, from now; nil is never
	Reason string         // a word for DueIn: wait, retry, approval
}

// Receipt says what a commit found.
type Receipt struct {
	LastSeq int64
	Signal  int64 // as it was under the lock: higher than known means that somebody wants something
	// Refused are children that were not admitted, by id, and why. All else of the entry is durable.
	Refused map[uuid.UUID]*errs.Error
}

// size estimates the bytes that the entry holds in memory.
func (e *Entry) size() int {
	n := 256
	for _, r := range e.Records {
		n += 128 + len(r.Data) + len(r.Chunk)
	}
	for _, r := range e.NodeRuns {
		n += 256 + len(r.Outputs) + len(r.Summary) + len(r.Prompt) + len(r.Combination)
	}
	for _, m := range e.Masks {
		n += 128 + len(m.Ciphertext)
	}
	n += 64 * (len(e.Artifacts) + len(e.Dropped))
	for _, c := range e.Children {
		n += 512 + len(c.Inputs)
	}
	if e.End != nil {
		n += len(e.End.Outputs)
	}
	return n
}
