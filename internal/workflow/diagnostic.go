package workflow

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a diagnostic refuses the text.
type Severity string

// An error refuses the text, a warning does not.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one fault of a text. Lines and columns count from 1, columns in characters;
// the end is behind the last character.
type Diagnostic struct {
	Code      string   `json:"code"`
	Severity  Severity `json:"severity"`
	Message   string   `json:"message"`        // a sentence
	Hint      string   `json:"hint,omitempty"` // what to do about it, a sentence
	Line      int      `json:"line"`
	Column    int      `json:"column"`
	EndLine   int      `json:"end_line"`
	EndColumn int      `json:"end_column"`
	Path      string   `json:"path"` // JSON pointer into the text, "" for the whole
}

// Diagnostics are sorted by position.
type Diagnostics []Diagnostic //nolint:errname // it is a report first; Load alone uses it as the cause of an error

// maxDiagnostics bounds the answer, errors and warnings each; who has 100 faults mends those
// first.
const maxDiagnostics = 100

// Failed reports whether one of them refuses the text.
func (ds Diagnostics) Failed() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == SeverityError })
}

// Error lists the diagnostics, one line each.
func (ds Diagnostics) Error() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// String is "line:column: message hint".
func (d Diagnostic) String() string {
	s := fmt.Sprintf("%d:%d: %s", d.Line, d.Column, d.Message)
	if d.Hint != "" {
		s += " " + d.Hint
	}
	return s
}

// sorted puts errors of one place before its warnings and drops repeats.
func sorted(ds Diagnostics) Diagnostics {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(string(a.Severity), string(b.Severity)))
	})
	return slices.Compact(ds)
}
