package workflow

import (
	"fmt"
	"slices"
	"strings"

	"foundry/internal/errs"
	"foundry/internal/expr"
	"foundry/internal/spelling"
)

// Compile reads the text of a new version. The definition is nil when a diagnostic is an
// error. All faults that can be told apart are reported at once, 100 at most.
func Compile(text []byte) (*Definition, Diagnostics) {
	if len(text) > MaxSource {
		return nil, Diagnostics{{
			Code: "too_large", Severity: SeverityError, Line: 1, Column: 1, EndLine: 1, EndColumn: 1,
			Message: fmt.Sprintf("A workflow text has at most %d KiB; this one has %d bytes.", MaxSource>>10, len(text)),
			Hint:    "Move long scripts into files.",
		}}
	}
	c := newCompiler(text)
	c.read()
	if c.def != nil {
		c.check()
	}
	diagnostics := sorted(c.list)
	if diagnostics.Failed() {
		return nil, diagnostics
	}
	return c.def, diagnostics
}

// Load reads a text that was accepted as a version before, in the grammar that is stored
// with it. The error is for logs: a stored text that does not load is a defect of ours.
func Load(text []byte, grammar int) (*Definition, error) {
	if grammar != Grammar {
		return nil, errs.E(errs.Internal, "The version was written in grammar %d, which this release does not know.", grammar)
	}
	c := newCompiler(text)
	c.read()
	if diagnostics := sorted(c.list); diagnostics.Failed() {
		return nil, errs.E(errs.Internal, "A version that was accepted does not compile.").Because(diagnostics)
	}
	return c.def, nil
}

// compiler reads one text into one definition.
type compiler struct {
	report
	text  string
	def   *Definition // nil when the text is no mapping
	nodes []*nodeText // as def.Nodes
	sites []site
}

func newCompiler(text []byte) *compiler {
	s := strings.TrimPrefix(string(text), "\ufeff")
	return &compiler{text: s, report: report{src: newSource(s)}}
}

// site is a place with an expression, to be checked once all names are known.
type site struct {
	v     *value
	place place
	node  int // index in def.Nodes, or -1
	found interface {
		Check(expr.Scope) []*expr.Error
		References() []expr.Reference
	}
	base int // offset of the expression's text in v.text
}

// read builds the definition.
func (c *compiler) read() {
	root := parse(c.text, &c.report)
	if root == nil || root.shape != shapeMap {
		return
	}
	c.def = &Definition{
		Timeout: DefaultTimeout, QueueTimeout: DefaultQueueTimeout, MaxParallel: DefaultMaxParallel,
	}
	c.object(root, c.workflowFields())
	c.require(root, "name")
	c.require(root, "nodes")
	c.buildGraph()
}

func (c *compiler) workflowFields() []field {
	d := c.def
	return []field{
		{"name", func(v *value) { d.Name = c.name(v) }},
		{"description", func(v *value) { d.Description = c.prose(v) }},
		{"inputs", func(v *value) { d.Inputs = c.inputs(v) }},
		{"env", func(v *value) { d.Env = c.env(v, placeWorkflowEnv, -1) }},
		{"sandbox", func(v *value) { c.object(v, c.sandboxFields(&d.Sandbox)); c.sandbox(v) }},
		{"files", func(v *value) { d.Files = c.files(v) }},
		{"concurrency", func(v *value) { d.Concurrency = c.concurrency(v) }},
		{"timeout", func(v *value) { d.Timeout = c.duration(v, DefaultTimeout) }},
		{"queue-timeout", func(v *value) { d.QueueTimeout = c.duration(v, DefaultQueueTimeout) }},
		{"max-parallel", func(v *value) { d.MaxParallel = c.integer(v, 1, MaxParallel, DefaultMaxParallel) }},
		{"priority", func(v *value) { d.Priority = c.integer(v, -MaxPriority, MaxPriority, 0) }},
		{"nodes", c.readNodes},
		{"outputs", func(v *value) { d.Outputs = c.outputs(v, placeOutputs, -1) }},
	}
}

// field is a key of an object and what reads its value.
type field struct {
	key  string
	read func(*value)
}

// object reads a mapping by its fields and reports the keys that it does not have.
func (c *compiler) object(v *value, fields []field) {
	if !c.shaped(v, shapeMap) {
		return
	}
	for _, e := range v.entries {
		if c.full() {
			return
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == e.key })
		if i < 0 {
			c.unknownKey(e, fields)
			continue
		}
		fields[i].read(e.value)
	}
}

func (c *compiler) unknownKey(e entry, fields []field) {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	hint := habit(e.key)
	if near := spelling.Nearest(e.key, keys); hint == "" && near != "" {
		hint = fmt.Sprintf("Did you mean %q?", near)
	}
	if hint == "" {
		slices.Sort(keys)
		hint = fmt.Sprintf("Known here: %s.", strings.Join(slices.Compact(keys), ", "))
	}
	c.fault(e.mark, e.path, "unknown_key", fmt.Sprintf("Unknown key %q.", e.key), hint)
}

// habit answers the keys that people bring from GitHub Actions.
func habit(key string) string {
	switch key {
	case "jobs":
		return "Jobs are called nodes here: write nodes."
	case "steps":
		return "A node runs one script: write run, or make each step a node that needs the one before."
	case "timeout-minutes":
		return "Write timeout with a unit, as in timeout: 10m."
	case "strategy":
		return "There is no strategy: write matrix, max-parallel and fail-fast in the node itself."
	case "uses", "with":
		return "There are no actions: write run with a command."
	case "on":
		return "A text does not say what starts it: executions are queued through the API, the command line or the dashboard."
	case "runs-on", "container":
		return "The machine is described by sandbox at the top of the text."
	case "working-directory":
		return "Every command starts in the workspace: write cd into run."
	case "cancel-in-progress":
		return "Write on-conflict: cancel-running."
	case "fail-fast":
		return "fail-fast is for a node with a matrix; nodes that do not need a failed one go on."
	}
	return ""
}

// require reports a key that is missing.
func (c *compiler) require(v *value, key string) bool {
	if v.entry(key) != nil {
		return true
	}
	c.fault(v.mark, v.path, "missing_key", fmt.Sprintf("The key %q is missing.", key), "")
	return false
}
