package workflow

import (
	"regexp"
	"time"

	"foundry/internal/expr"
	"foundry/internal/graph"
)

// Definition is a compiled text. It is immutable and safe for concurrent use.
type Definition struct {
	Name        string
	Description string
	Inputs      []Input  // in text order
	Env         []EnvVar // of every run node; may use inputs and execution
	Sandbox     Sandbox
	Files       []File
	// Timeout of the execution from its first claim, without the time it is parked.
	Timeout time.Duration
	// QueueTimeout limits the time until the first claim.
	QueueTimeout time.Duration
	Concurrency  *Concurrency // nil: as many side by side as there are workers for
	MaxParallel  int          // nodes side by side, 1 to 32
	Priority     int          // -10 to 10, higher goes first
	Nodes        []Node       // in text order
	Outputs      []Output     // of the execution; may use inputs, nodes, env and execution

	// Graph over Nodes: index i of the graph is Nodes[i].
	Graph *graph.Graph
}

// Kind is what a node does, named as the key that says so.
type Kind string

// The kinds of nodes.
const (
	KindRun Kind = "run" // a command in the sandbox
	KindSet Kind = "set" // outputs from expressions, in the worker
	// KindApproval waits for a person's decision, KindWait for a time. No worker holds an execution that does nothing else.
	KindApproval Kind = "approval"
	KindWait     Kind = "wait"
	// KindWorkflow runs another workflow as an execution of its own, and waits for its end.
	KindWorkflow Kind = "workflow"
)

// Shell is what runs a node's script.
type Shell string

// The shells. ShellDefault is bash, or sh where there is no bash.
const (
	ShellDefault Shell = ""
	ShellBash    Shell = "bash"
	ShellSh      Shell = "sh"
	ShellPython  Shell = "python"
	ShellNode    Shell = "node"
)

// Node is one vertex of the graph. Script, Shell, Env, Secrets and RetryOn are zero unless Kind is KindRun, Retries unless it is that or
// KindWorkflow; Set, Approval, Wait, Workflow and Inputs are zero unless it is theirs.
type Node struct {
	Key             string
	Kind            Kind
	Description     string
	Needs           []string   // keys, as listed
	If              *expr.Expr // nil without a condition
	ContinueOnError bool

	// Matrix and Repeat let it run more than once; at most one of them is set.
	Matrix      *Matrix
	Repeat      *Repeat
	MaxParallel int  // instances of a matrix side by side, 1 to 32; 0 leaves it to Definition.MaxParallel
	FailFast    bool // the first failure in a matrix ends what else of it runs

	Script string
	Shell  Shell
	Env    []EnvVar // besides, and before, Definition.Env; may use inputs, nodes, env and execution
	// Secrets are the keys of those that the command gets; nil is all of the workflow's, empty is none. A secret wins over a
	// variable of the same name.
	Secrets []string
	Timeout time.Duration // of one attempt, or of an approval's waiting; 0 is no limit but the execution's
	Retries Retries
	RetryOn []int // exit codes that are worth a retry; empty is every failure

	Set      []Output
	Approval *Approval
	Wait     *Wait
	Workflow string   // slug of the workflow to run, the newest version of it when the node begins
	Inputs   []Output // of that execution; may use inputs, nodes, env, execution, and matrix or repeat where the node has one
}

// Approval asks people for a decision.
type Approval struct {
	Message *expr.Template // nil without one; may use inputs, nodes, env and execution
	// Roles that may decide, besides owners; empty is everybody who may run the workflow.
	Roles []string
}

// Wait is a pause. One of its fields is set; both may use inputs, nodes, env and execution.
type Wait struct {
	For   *expr.Template // a duration, as in 90s, 1h30m or 2d
	Until *expr.Template // an instant, RFC 3339
}

// EnvVar is one environment variable of commands.
type EnvVar struct {
	Name  string
	Value *expr.Template
}

// Output is a named value: of a set node, or of the execution.
type Output struct {
	Name  string
	Value *expr.Template
}

// Backoff is how the pause between attempts grows.
type Backoff string

// The kinds of back-off.
const (
	Exponential Backoff = "exponential" // doubles with each failed attempt
	Constant    Backoff = "constant"
)

// Retries says how often and when a failed node is run again. The zero value is never.
type Retries struct {
	Max      int // attempts after the first, 0 to 20
	Backoff  Backoff
	Initial  time.Duration // pause before the first retry
	MaxDelay time.Duration // longest pause
}

// Delay is the pause, without jitter, before the retry that follows the failed attempt with
// this number, counted from 1.
func (r Retries) Delay(failed int) time.Duration {
	delay := min(r.Initial, r.MaxDelay)
	if r.Backoff == Constant {
		return delay
	}
	for ; failed > 1 && delay < r.MaxDelay; failed-- {
		delay = min(2*delay, r.MaxDelay)
	}
	return delay
}

// Keep says when a sandbox outlives its execution.
type Keep string

// The values of keep. KeepDefault leaves it to the installation.
const (
	KeepDefault   Keep = ""
	KeepNever     Keep = "never"
	KeepOnFailure Keep = "on-failure"
	KeepAlways    Keep = "always"
)

// Sandbox is what the text asks of the machine. A zero field leaves the choice to the
// provider or the installation.
type Sandbox struct {
	Image    string // excludes Snapshot
	Snapshot string // brings its own sizes
	CPU      int    // cores
	Memory   int64  // bytes
	Disk     int64  // bytes
	Network  Network
	Volumes  []Volume
	Keep     Keep
	KeepFor  time.Duration
	LogLimit int64 // bytes of output per attempt, 1 to 64 MiB
}

// Network limits what a sandbox can reach; the zero value is no limit.
type Network struct {
	Block bool
	Allow []string // domains, *.domains, addresses and CIDR blocks; excludes Block
}

// Volume is a named disk that outlives sandboxes.
type Volume struct {
	Name string
	Path string // absolute and clean
}

// File is put into the workspace before the first node. Its content is not part of the text.
type File struct {
	Path   string // in the workspace: relative, clean, with slashes
	Source string // beside the text: relative, clean, with slashes
	Line   int    // of Path in the text, from 1
	Column int
}

// InputType is the type of an input.
type InputType string

// The types of inputs.
const (
	InputString  InputType = "string"
	InputInteger InputType = "integer"
	InputNumber  InputType = "number"
	InputBoolean InputType = "boolean"
	InputObject  InputType = "object"
	InputArray   InputType = "array"
)

// Input is a declared input. Values are those of package expr; limits that are not given
// are nil.
type Input struct {
	Name        string
	Type        InputType
	Description string
	Required    bool
	Default     any // nil without a default
	Enum        []any
	Minimum     *float64 // integer, number
	Maximum     *float64
	MinLength   *int // characters of a string, items of an array
	MaxLength   *int
	Pattern     *regexp.Regexp // string; matches anywhere unless anchored
}

// Node returns the node with the key.
func (d *Definition) Node(key string) (*Node, bool) {
	i, ok := d.Graph.Index(key)
	if !ok {
		return nil, false
	}
	return &d.Nodes[i], true
}
