// Package event reads the history of an execution: numbered events and log chunks, which share one
// sequence without gaps. Package journal and package queue write it.
package event

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Type names what happened. The whole list is in design.md, section 6.
type Type string

// The event types.
const (
	ExecutionQueued          Type = "execution.queued"
	ExecutionClaimed         Type = "execution.claimed"
	ExecutionReleased        Type = "execution.released"
	ExecutionStarted         Type = "execution.started"
	ExecutionWaiting         Type = "execution.waiting"
	ExecutionCancelRequested Type = "execution.cancel_requested"
	ExecutionCompleted       Type = "execution.completed"
	ExecutionFailed          Type = "execution.failed"
	ExecutionCanceled        Type = "execution.canceled"
	ExecutionTimedOut        Type = "execution.timed_out"

	SandboxCreating Type = "sandbox.creating"
	SandboxWaiting  Type = "sandbox.waiting"
	SandboxReady    Type = "sandbox.ready"
	SandboxFailed   Type = "sandbox.failed"

	NodeStarted     Type = "node.started"
	NodeAttached    Type = "node.attached"
	NodeWaiting     Type = "node.waiting"
	NodeRetrying    Type = "node.retrying"
	NodeCompleted   Type = "node.completed"
	NodeFailed      Type = "node.failed"
	NodeSkipped     Type = "node.skipped"
	NodeCanceled    Type = "node.canceled"
	NodeTimedOut    Type = "node.timed_out"
	NodeInterrupted Type = "node.interrupted"

	Artifact   Type = "artifact"
	Checkpoint Type = "checkpoint"

	Log     Type = "log"
	Warning Type = "warning"
)

// EndsExecution reports whether the type is the last event of an execution.
func (t Type) EndsExecution() bool {
	return t == ExecutionCompleted || t == ExecutionFailed || t == ExecutionCanceled || t == ExecutionTimedOut
}

// Stream is one of a command's two output streams.
type Stream string

// The streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// MaxChunk is the most bytes in one log chunk.
const MaxChunk = 64 << 10

// Event is one entry of an execution's history. A log chunk has Type Log, and Stream, Offset and Chunk
// instead of Data.
type Event struct {
	Seq       int64
	Time      time.Time
	Type      Type
	NodeRunID *uuid.UUID // nil for events of the whole execution; so are the next three
	Node      string
	Index     int
	Attempt   int

	Data json.RawMessage // a JSON object

	Stream Stream
	Offset int64 // in stored bytes of this stream of this node run
	Chunk  []byte
}
