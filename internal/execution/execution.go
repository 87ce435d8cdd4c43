// Package execution holds what an execution and its node runs are, and reads them.
//
// Nothing here changes an execution: package queue admits, claims and cancels, and package
// journal records what the worker that holds it does.
package execution

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Execution is one run of a workflow's version with inputs.
type Execution struct {
	ID           uuid.UUID
	WorkflowID   uuid.UUID
	WorkflowSlug string
	Version      int
	Number       int64 // counted from 1 per workflow, without gaps
	Status       Status
	Source       Source
	Actor        string // the name of who asked for it; may be empty
	Priority     int
	LastSeq      int64 // of its newest event; rises with every change that a reader can see
	WorkerID     *uuid.UUID
	RerunOf      *uuid.UUID // the execution that it goes on from; lists leave it nil
	Group        *string    // the concurrency group that it has entered; nil without one
	Blocked      bool       // queued, and its group has no room for it
	Parent       *Parent    // what runs it; lists leave it nil, and so it is once the parent's history is gone

	QueuedAt          time.Time
	ClaimedAt         *time.Time
	StartedAt         *time.Time
	DeadlineAt        *time.Time
	CancelRequestedAt *time.Time
	FinishedAt        *time.Time

	Inputs  json.RawMessage // a JSON object; lists leave it nil
	Outputs json.RawMessage // a JSON object, or nil
	Failure *Failure
}

// Parent is the node of another execution that runs an execution.
type Parent struct {
	ExecutionID  uuid.UUID
	WorkflowSlug string
	Number       int64
	Node         string // its key
	Index        int
}

// Failure says why an execution or a node run did not complete.
type Failure struct {
	Code    string `json:"code"`            // exit_code, timed_out, expression, sandbox, infrastructure, internal …
	Message string `json:"message"`         // a sentence for a person
	Node    string `json:"node,omitempty"`  // the key of the first node that failed, on an execution
	Index   *int   `json:"index,omitempty"` // and its index, where it has more than one
}

// NodeRun is one attempt of one node.
type NodeRun struct {
	ID          uuid.UUID
	Key         string
	Index       int
	Attempt     int // from 1; numbers every run of the node, charged or not
	Status      NodeStatus
	SandboxID   *uuid.UUID
	Cursor      json.RawMessage // package redact reads it; nil before the first output
	StdoutBytes int64           // stored bytes
	StderrBytes int64
	ExitCode    *int
	Outputs     json.RawMessage
	Summary     string // markdown
	Failure     *Failure
	StartedAt   *time.Time
	FinishedAt  *time.Time

	Prompt     json.RawMessage // of an approval: {message, roles}
	Decision   json.RawMessage // of an approval that was decided: {approved, by, comment}
	DueAt      *time.Time      // of one that waits: when it ends by itself
	DueIn      *time.Duration  // DueAt, from the moment of the reading, by the database's clock
	RetryIn    *time.Duration  // of one that failed: when the node is to be run again, likewise
	ReusedFrom *uuid.UUID      // the node run of an earlier execution that this one stands for

	ChildID     *uuid.UUID      // of a workflow node: the execution that it runs
	Combination json.RawMessage // of a matrix: what it ran for, as it may be shown; else nil
}

// NewID makes the id of an execution, node run or sandbox. Ids of executions are ordered by time to the
// millisecond, and the day in one says in which partition its history lives.
func NewID() uuid.UUID {
	return uuid.Must(uuid.NewV7())
}

// Day returns the UTC day in a UUIDv7, at midnight. It is the Go twin of SQL's execution_day.
func Day(id uuid.UUID) time.Time {
	ms := int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])
	return time.UnixMilli(ms).UTC().Truncate(24 * time.Hour)
}

// DayIDs returns the range of the ids of a UTC day: from first to below, which is left out.
func DayIDs(day time.Time) (first, below uuid.UUID) {
	return FirstID(day), FirstID(day.AddDate(0, 0, 1))
}
