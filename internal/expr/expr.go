package expr

// Limits of one expression and one evaluation.
const (
	// MaxDepth bounds nesting: parentheses, calls, operators and values of fromJSON.
	MaxDepth = 50
	// MaxSize bounds each value that an evaluation makes, in bytes.
	MaxSize = 1 << 20
	// maxWork bounds the bytes that one evaluation reads and writes in all.
	maxWork = 16 << 20
)

// Code says what kind of fault an Error is. The words are part of the public API.
type Code string

// Faults of a text (Parse and Check) and of an evaluation.
const (
	BadExpression    Code = "bad_expression"    // not the grammar, or a wrong number of arguments
	UnknownFunction  Code = "unknown_function"  // no such function
	UnknownContext   Code = "unknown_context"   // no such context
	ContextElsewhere Code = "context_elsewhere" // a context that exists, but not here
	StatusElsewhere  Code = "status_elsewhere"  // a status function outside `if`
	Failed           Code = "expression"        // the evaluation failed
)

// Error is a fault at one place of an expression.
type Error struct {
	Code Code
	Pos  int    // byte offset in the text that was parsed
	Msg  string // a sentence
	Hint string // what to do about it, a sentence, or ""
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Msg
	}
	return e.Msg + " " + e.Hint
}

// Value is nil, bool, float64, string, []any or map[string]any, and so are its parts.
type Value = any

// Env is what an evaluation can see. It is read, never changed.
type Env struct {
	// Contexts by name in lower case; one that is missing is null.
	Contexts map[string]Value
	// Status is what the status functions say; calling them with nil is an error.
	Status *Status
}

// Status is the state of what a node needs, for success(), failure() and canceled().
type Status struct {
	Success, Failure, Canceled bool
}

// Expr is a parsed expression. It is immutable and safe for concurrent use.
type Expr struct {
	root   node
	source string
}

// String returns the text of the expression as it was given, without `${{ }}`.
func (e *Expr) String() string { return e.source }

// Eval computes the value. The error is an *Error with code Failed.
func (e *Expr) Eval(env Env) (Value, error) {
	ev := evaluator{env: env}
	v, err := ev.eval(e.root)
	if err != nil {
		return nil, err
	}
	return plain(v), nil
}

// UsesStatus reports whether the expression calls success, failure, always or canceled. A
// condition that does not has `success() &&` implied.
func (e *Expr) UsesStatus() bool {
	found := false
	walk(e.root, func(n node) {
		if c, ok := n.(*call); ok && c.fn.status {
			found = true
		}
	})
	return found
}
