package shim

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Protocol is the version of everything in this package that another process reads:
// arguments, JSON lines, files and frames. A worker speaks this one and the one before.
const Protocol = 2

// Defaults and limits of a Spec. A zero field of a Spec means its default.
const (
	DefaultGrace        = 10 * time.Second
	DefaultOutputLimit  = 64 << 20  // raw bytes of both streams together
	DefaultOutputsLimit = 256 << 10 // bytes of the FOUNDRY_OUTPUT file
	DefaultSummaryLimit = 256 << 10 // bytes of the FOUNDRY_SUMMARY file
	MaxTailBytes        = 256 << 10 // frame bytes in one TailResult
)

// Limits of a list: of one file, of all files, and of their number.
const (
	MaxListedFile  = 32 << 20
	MaxListedBytes = 128 << 20
	MaxListedFiles = 1000
)

// Names of the files in a shim directory that callers outside this package use.
const (
	SpecFile      = "spec.json"
	OutputFile    = "output"          // the framed records
	StartedFile   = "started"         // made once, by a start or a seal
	ArtifactsDir  = "files/artifacts" // FOUNDRY_ARTIFACTS
	CheckpointDir = "files/checkpoints"
	RestoreDir    = "restore"        // what Spec.Restore names is put here before the start
	IsolationFile = "isolation.json" // in ROOT, beside the directories
)

// Spec says what to run. It is stored in the directory and must hold no secret:
// secrets travel in the environment of the start call.
type Spec struct {
	// Argv is the command. Its first word is looked up in PATH where the command runs.
	// Either Argv or Script is given.
	Argv []string `json:"argv,omitempty"`
	// Script is a text that is put beside the command's other files and executed by
	// Shell: bash (the default; sh -e where there is no bash), sh, python or node.
	Script string `json:"script,omitempty"`
	Shell  string `json:"shell,omitempty"`
	// Dir is the working directory as the command sees it, absolute.
	Dir string `json:"dir"`
	// Timeout is the wall clock from the command's start, on a monotonic clock; 0 is none.
	Timeout time.Duration `json:"timeout_ns,omitempty"`
	// Grace is the time between TERM and KILL.
	Grace time.Duration `json:"grace_ns,omitempty"`
	// OutputLimit, OutputsLimit and SummaryLimit are in bytes.
	OutputLimit  int64 `json:"output_limit,omitempty"`
	OutputsLimit int64 `json:"outputs_limit,omitempty"`
	SummaryLimit int64 `json:"summary_limit,omitempty"`
	// Restore names an entry of RestoreDir, which the start moves into the command's checkpoints. Since protocol 2.
	Restore string `json:"restore,omitempty"`
}

// Validate reports the first thing that makes the spec unusable.
func (s Spec) Validate() error {
	if (len(s.Argv) == 0) == (s.Script == "") {
		return errors.New("a spec needs either argv or a script")
	}
	if !strings.HasPrefix(s.Dir, "/") {
		return fmt.Errorf("the working directory %q is not absolute", s.Dir)
	}
	if s.Timeout < 0 || s.Grace < 0 || s.OutputLimit < 0 || s.OutputsLimit < 0 || s.SummaryLimit < 0 {
		return errors.New("a duration or limit of a spec is negative")
	}
	if s.Restore != "" && (hidden(s.Restore) || strings.ContainsRune(s.Restore, '/')) {
		return fmt.Errorf("%q is no name of a checkpoint", s.Restore)
	}
	if s.Script != "" {
		_, err := ShellArgv(s.Shell, "script")
		return err
	}
	return nil
}

func (s Spec) withDefaults() Spec {
	s.Grace = cmp.Or(s.Grace, DefaultGrace)
	s.OutputLimit = cmp.Or(s.OutputLimit, DefaultOutputLimit)
	s.OutputsLimit = cmp.Or(s.OutputsLimit, DefaultOutputsLimit)
	s.SummaryLimit = cmp.Or(s.SummaryLimit, DefaultSummaryLimit)
	return s
}

// State is what a directory is, or what a call found; see the drawing in doc.go.
type State string

// States of a directory. A start answers one of these, Already or Failed.
const (
	New     State = "new"     // nothing has been started here
	Started State = "started" // the supervisor is alive
	Ended   State = "ended"   // exit.json is there
	Sealed  State = "sealed"  // nothing can ever be started here
	Lost    State = "lost"    // started, but the supervisor died without an exit.json
	Already State = "already" // start only: an earlier start did it
	Failed  State = "failed"  // start only: the command could not be executed; exit.json says so too
)

// Final reports whether the state never changes again.
func (s State) Final() bool { return s == Ended || s == Sealed || s == Lost }

// Result is the JSON line of start, seal and signal.
type Result struct {
	Protocol int   `json:"protocol"`
	State    State `json:"state,omitempty"`
	// Error is set when the call itself failed (State is then empty), and by a start
	// that answers Failed: why the command could not be executed.
	Error string `json:"error,omitempty"`
}

// StartResult is the answer of a start.
type StartResult = Result

// Reason says how a command came to its end.
type Reason string

// Reasons. What happens first wins: a command that exits by itself while a cancel is on
// its way has exited.
const (
	Exited      Reason = "exited"
	Signaled    Reason = "signaled"  // by a signal that the shim did not send
	TimedOut    Reason = "timed_out" // by the shim, because Spec.Timeout had passed
	Canceled    Reason = "canceled"  // by the shim, because of a signal call
	StartFailed Reason = "start_failed"
)

// Exit is the content of exit.json.
type Exit struct {
	Protocol int    `json:"protocol"`
	Reason   Reason `json:"reason"`
	// ExitCode is 128 + the signal's number for a command that a signal ended, as in a
	// shell, and -1 for one that was never executed.
	ExitCode int `json:"exit_code"`
	// Signal is the name of the signal that ended the command, such as "SIGKILL", where
	// the shim can see it. Under bubblewrap only the exit code tells.
	Signal    string    `json:"signal,omitempty"`
	Error     string    `json:"error,omitempty"` // for StartFailed, and for output that could not be stored
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at"`
	// OutputSize is the size of the output file in bytes, headers included: a reader whose
	// offset is there has everything.
	OutputSize int64 `json:"output_size"`
	Truncated  bool  `json:"truncated,omitempty"` // the output limit was reached
	// Outputs is the raw FOUNDRY_OUTPUT file, for ParseOutputs. OutputsError is a sentence
	// saying why it could not be taken (too large, not a file); Outputs is then nil.
	Outputs          []byte `json:"outputs,omitempty"`
	OutputsError     string `json:"outputs_error,omitempty"`
	Summary          []byte `json:"summary,omitempty"`
	SummaryTruncated bool   `json:"summary_truncated,omitempty"`
	// HasArtifacts and HasCheckpoints say that the command has left some, for List. Since protocol 2.
	HasArtifacts   bool `json:"has_artifacts,omitempty"`
	HasCheckpoints bool `json:"has_checkpoints,omitempty"`
}

// Done in place of an offset tells tail that everything of a directory has been
// recorded. The directory is marked, and no tail reports it again unless asked by name.
const Done int64 = -1

// TailResult is the JSON line of tail.
type TailResult struct {
	Protocol int       `json:"protocol"`
	Runs     []RunTail `json:"runs"`            // those with something to tell, by name
	Error    string    `json:"error,omitempty"` // the call itself failed; Runs is then nil
}

// RunTail is the news of one directory. One in a final state is told on every call, until the
// caller says Done.
type RunTail struct {
	Dir   string `json:"dir"` // the directory's name in ROOT: the node run's id
	State State  `json:"state"`
	// Offset and Next are the offsets in the output file of the first byte of Frames and of
	// the byte after it. Frames are whole encoded frames, for DecodeFrames.
	Offset int64  `json:"offset"`
	Next   int64  `json:"next"`
	Frames []byte `json:"frames,omitempty"`
	// Size is the output file's size now. A caller that is far behind (Size - Next) reads
	// the file range itself.
	Size int64 `json:"size"`
	// Exit is set when State is Ended and Next has reached its OutputSize.
	Exit *Exit `json:"exit,omitempty"`
	// Checkpoints is a stamp of the checkpoints folder where it has entries: a caller that watches them (protocol 2) is told when it is not the
	// one that he named.
	Checkpoints int64 `json:"checkpoints,omitempty"`
}

// ListResult is the JSON line of list: files that the command has left.
type ListResult struct {
	Protocol int `json:"protocol"`
	// Name and Appeared are of the checkpoint whose files these are; empty when there is none that is newer. Appeared is the change time
	// of the entry in nanoseconds, which a rename sets.
	Name     string       `json:"name,omitempty"`
	Appeared int64        `json:"appeared,omitempty"`
	Files    []ListedFile `json:"files,omitempty"` // by path
	Left     []Left       `json:"left,omitempty"`
	Error    string       `json:"error,omitempty"` // the call itself failed
}

// ListedFile is a regular file with the hash of its content.
type ListedFile struct {
	Path       string `json:"path"` // below the listed folder, with slashes; UTF-8 without control characters
	Size       int64  `json:"size"`
	SHA256     []byte `json:"sha256"`
	Executable bool   `json:"executable,omitempty"`
}

// LeftReason says why something is not listed.
type LeftReason string

// Reasons of a Left.
const (
	LeftSize       LeftReason = "size"  // above MaxListedFile
	LeftCount      LeftReason = "count" // beyond MaxListedFiles
	LeftTotal      LeftReason = "total" // beyond MaxListedBytes
	LeftKind       LeftReason = "kind"  // a link, device, fifo or socket
	LeftName       LeftReason = "name"  // not UTF-8, with control characters, or a path of more than 1,024 bytes
	LeftUnreadable LeftReason = "unreadable"
)

// Left is what is not listed for one reason.
type Left struct {
	Reason   LeftReason `json:"reason"`
	Count    int        `json:"count"`
	Examples []string   `json:"examples"` // at most three
	Size     int64      `json:"size"`     // of the first, in bytes
}

// Isolation is the content of ROOT/isolation.json: how a provider wants commands wrapped.
// Without the file a command runs as a plain process. It is written before the first start.
type Isolation struct {
	// Argv is the wrapper (bubblewrap) with all its options, --new-session included.
	// The shim adds --info-fd, the bind of the directory's files, and the command.
	Argv []string `json:"argv"`
	// Files is where the directory's files appear to the command, such as /foundry/files.
	Files string `json:"files"`
	// Shim is the command that calls the shim inside the wrapper.
	Shim []string `json:"shim"`
}

// Signal is what a signal call asks for.
type Signal string

// Signals.
const (
	TERM Signal = "TERM" // TERM, then KILL after Spec.Grace
	KILL Signal = "KILL"
)
