// Package sandbox says what Foundry needs of a machine that runs other people's commands,
// and drives the shim in it.
//
// A Provider gives machines, a Sandbox is the little that one must be able to do, and
// Shim is the client of the supervisor in it. Providers are in packages below this one;
// sandboxtest has the suite that each must pass.
package sandbox

import (
	"context"
	"io"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
)

// Codes of this package beside errs.NotFound (no such sandbox or file), errs.Invalid (the request
// can never work; the sentence says why), errs.Unavailable (ask again later) and errs.Unknown
// (the call may or may not have had its effect; repeat it, since every call may be repeated).
const (
	// Quota means that the provider has no room or rate left now. It is not a failure of
	// the execution: back off and try again.
	Quota errs.Code = "sandbox_quota"
)

// Labels that Foundry sets.
const (
	LabelInstallation = "foundry.installation"
	LabelSandbox      = "foundry.sandbox"
	LabelExecution    = "foundry.execution"
)

// Spec asks for a sandbox. Zero sizes are the provider's defaults.
type Spec struct {
	ID        uuid.UUID         // ours; never used for another sandbox
	Labels    map[string]string // for List
	Image     string
	Snapshot  string // brings its own sizes
	CPU       float64
	MemoryMiB int
	DiskMiB   int
	Network   Network
	Volumes   []Volume
	// ExpireAfter is a guard for a sandbox that everybody forgot; 0 is the provider's default.
	ExpireAfter time.Duration
}

// Network is a policy. The zero value is open; Allow and Block together are invalid.
type Network struct {
	Block bool
	Allow []string // domains and CIDRs
}

// Volume is storage that outlives the sandbox.
type Volume struct {
	Name string
	Path string // absolute, as commands see it
}

// State of a sandbox as its provider tells it.
type State string

// States. One that has been destroyed has none: Get answers errs.NotFound.
const (
	Creating   State = "creating"
	Ready      State = "ready" // commands can be run
	Stopping   State = "stopping"
	Stopped    State = "stopped" // files are kept, processes are gone
	Starting   State = "starting"
	Destroying State = "destroying"
	Failed     State = "failed" // it will never be ready; Reason says why
)

// Info describes a sandbox.
type Info struct {
	ID         uuid.UUID // Spec.ID
	ProviderID string    // for every call after Create
	State      State
	Reason     string // a sentence for State Failed
	Labels     map[string]string
	// Workspace is the working directory of commands, as they see it.
	Workspace string
	// ShimRoot is the folder of the shim's directories, outside the workspace, as Run, PutFile
	// and ReadFile see it.
	ShimRoot string
	// ShimCommand calls the shim in the sandbox; a subcommand and its arguments are appended.
	ShimCommand []string
	// Isolation is a word for people: bwrap, process, or the provider's own.
	Isolation string
	CreatedAt time.Time
	// ExpiresAt is when the provider's guard destroys it; zero is never.
	ExpiresAt time.Time
}

// Provider gives sandboxes. All methods may be called concurrently, by several processes, and
// again after any error: a repeat completes what was begun and is harmless where it was done.
// An outage is errs.Unavailable, never errs.NotFound.
type Provider interface {
	// Name is the word stored with a sandbox: local, daytona.
	Name() string
	// Create makes the sandbox of Spec.ID, or finds it: two calls with one id make one
	// sandbox. It may return before the state is Ready; ask with Get. A policy that the
	// provider cannot enforce is errs.Invalid, never ignored. No room is Quota.
	Create(ctx context.Context, spec Spec) (Info, error)
	// Get asks for the present state; errs.NotFound once it is gone.
	Get(ctx context.Context, providerID string) (Info, error)
	// List returns the sandboxes that have all the labels. It may lag behind Create and
	// Destroy: absence from it proves nothing.
	List(ctx context.Context, labels map[string]string) ([]Info, error)
	// Start makes a stopped sandbox ready again, with its files. A ready one stays so.
	Start(ctx context.Context, providerID string) (Info, error)
	// Stop ends all processes and keeps the files. A stopped one stays so.
	Stop(ctx context.Context, providerID string) error
	// Destroy ends all processes and removes everything. No error once it is gone.
	Destroy(ctx context.Context, providerID string) error
	// SetExpiry moves the guard to a time from now; 0 is the provider's default.
	SetExpiry(ctx context.Context, providerID string, after time.Duration) error
	// Open returns a handle on a sandbox. It need not ask the provider: a sandbox that is
	// gone or stopped may show only at the first call.
	Open(ctx context.Context, providerID string) (Sandbox, error)
}

// Sandbox is a handle on one machine; its methods may be called concurrently. Paths are
// absolute and lie below Info.Workspace or Info.ShimRoot; others are errs.Invalid. Links are
// never followed out of them. A machine that is gone is errs.NotFound, and
// one that cannot be reached or is stopped is errs.Unavailable.
type Sandbox interface {
	// Run runs a short trusted command of Foundry's own, which is the shim; the commands of
	// workflows are started by the shim. A command that ran is no error, whatever its
	// exit code. When ctx ends first the outcome is errs.Unknown and the command may
	// go on. The sandbox may run it twice: only what is harmless twice is run.
	Run(ctx context.Context, cmd Command) (Result, error)
	// PutFile writes a file at once or not at all, with the folders above it, replacing
	// one that exists. Mode is that of the file.
	PutFile(ctx context.Context, path string, content io.Reader, mode uint32) error
	// ReadFile returns up to limit bytes from offset; fewer only at the end of the file,
	// none beyond it. Anything that is not a regular file is errs.Invalid.
	ReadFile(ctx context.Context, path string, offset, limit int64) ([]byte, error)
	// List returns the entries of a folder by name, not those below.
	List(ctx context.Context, path string) ([]Entry, error)
	// Delete removes a file or a folder with all in it. No error when there is none.
	Delete(ctx context.Context, path string) error
}

// Command is what Run runs.
type Command struct {
	Argv []string
	// Env is added to the sandbox's own environment, as NAME=value. It carries secrets: it
	// never shows in an argument list, a file or a log.
	Env   []string
	Dir   string // empty is the workspace
	Stdin []byte
	Shim  string // the shim's subcommand, where it is one: a name for the call, without effect
}

// Result is how a command of Run ended. Stdout is capped at 4 MiB; beyond that Run fails.
type Result struct {
	ExitCode int
	Stdout   []byte
}

// Entry is a line of List.
type Entry struct {
	Name string
	Size int64 // of a regular file, in bytes
	Kind EntryKind
}

// EntryKind tells regular files from folders and from all that must not be read.
type EntryKind string

// Kinds of an Entry.
const (
	File   EntryKind = "file"
	Folder EntryKind = "folder"
	Other  EntryKind = "other" // links, sockets, devices
)
