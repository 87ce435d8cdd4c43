package graph

// Status is the state of a node, or of one run of it. The words are those of the database
// and the API.
type Status string

// Terminal statuses are completed, failed, skipped, canceled and timed_out; they never
// change. Interrupted ends a run but not its node, which is run again.
const (
	Pending     Status = "pending"
	Running     Status = "running"
	Waiting     Status = "waiting"
	Completed   Status = "completed"
	Failed      Status = "failed"
	Skipped     Status = "skipped"
	Canceled    Status = "canceled"
	TimedOut    Status = "timed_out"
	Interrupted Status = "interrupted"
)

// Terminal reports whether a node in this state is done for good.
func (s Status) Terminal() bool {
	switch s {
	case Completed, Failed, Skipped, Canceled, TimedOut:
		return true
	case Pending, Running, Waiting, Interrupted:
		return false
	}
	return false
}

// Verdict is how an execution ended.
type Verdict string

// The verdicts that the graph alone can give; a deadline is not its affair.
const (
	VerdictCompleted Verdict = "completed"
	VerdictFailed    Verdict = "failed"
	VerdictCanceled  Verdict = "canceled"
)

// Cancel says whether the execution is to be canceled, and how hard.
type Cancel int

// NotCanceled is the zero value. Requested skips what has not started unless its condition
// says yes; Forced, the second request, skips that too.
const (
	NotCanceled Cancel = iota
	Requested
	Forced
)
