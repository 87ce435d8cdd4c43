package execution

import "strings"

// Status is where an execution is in its life. Terminal ones never change.
type Status string

// The statuses of an execution.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Waiting   Status = "waiting" // for an approval, a timer or a child; no worker holds it
	Completed Status = "completed"
	Failed    Status = "failed"
	Canceled  Status = "canceled"
	TimedOut  Status = "timed_out"
)

// Statuses lists every status of an execution, in the order of a life.
func Statuses() []Status {
	return []Status{Queued, Running, Waiting, Completed, Failed, Canceled, TimedOut}
}

// Terminal reports whether the execution has ended.
func (s Status) Terminal() bool {
	switch s {
	case Completed, Failed, Canceled, TimedOut:
		return true
	case Queued, Running, Waiting:
		return false
	}
	return false
}

// CanBecome is the transition table.
func (s Status) CanBecome(next Status) bool {
	switch s {
	case Queued:
		return next == Running || next == Canceled || next == TimedOut
	case Running:
		return next == Waiting || next.Terminal()
	case Waiting:
		return next == Running || next == Canceled || next == TimedOut
	case Completed, Failed, Canceled, TimedOut:
		return false
	}
	return false
}

// NodeStatus is where a node run is in its life. Terminal ones never change.
type NodeStatus string

// The statuses of a node run.
const (
	NodePending     NodeStatus = "pending"
	NodeRunning     NodeStatus = "running"
	NodeWaiting     NodeStatus = "waiting"
	NodeCompleted   NodeStatus = "completed"
	NodeFailed      NodeStatus = "failed"
	NodeSkipped     NodeStatus = "skipped"
	NodeCanceled    NodeStatus = "canceled"
	NodeTimedOut    NodeStatus = "timed_out"
	NodeInterrupted NodeStatus = "interrupted" // the machinery died, not the user's command; never charged as an attempt
)

// Terminal reports whether the node run has ended.
func (s NodeStatus) Terminal() bool {
	switch s {
	case NodeCompleted, NodeFailed, NodeSkipped, NodeCanceled, NodeTimedOut, NodeInterrupted:
		return true
	case NodePending, NodeRunning, NodeWaiting:
		return false
	}
	return false
}

// Source says who asked for an execution.
type Source string

// The sources of an execution.
const (
	FromUI        Source = "ui"
	FromAPI       Source = "api"
	FromSchedule  Source = "schedule"
	FromWebhook   Source = "webhook"
	FromExecution Source = "execution" // a sub-workflow
	FromSystem    Source = "system"
)

// Words is the status as a person says it.
func (s Status) Words() string {
	return strings.ReplaceAll(string(s), "_", " ")
}

// Sources lists every source of an execution.
func Sources() []Source {
	return []Source{FromUI, FromAPI, FromSchedule, FromWebhook, FromExecution, FromSystem}
}
