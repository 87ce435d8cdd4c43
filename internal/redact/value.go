package redact

import (
	"fmt"
	"io"
)

// hidden is what a Value prints wherever it is formatted.
const hidden = "[redacted]"

// Value is a plaintext that must not be stored: a secret's value, or one that
// the running command announced. It prints as [redacted] through fmt,
// encoding/json and encoding.TextMarshaler; string(v) is the way to the
// plaintext. Two traps remain, since its kind is string: encoding/json writes the
// keys of a map as they are, and fmt cannot call methods of unexported fields, so
// a struct that has a Value in one needs a Format method of its own. It may hold
// any bytes.
type Value string

// String returns [redacted].
func (v Value) String() string { return hidden }

// GoString returns [redacted].
func (v Value) GoString() string { return hidden }

// Format writes [redacted] for every verb.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalJSON returns the JSON string "[redacted]".
func (v Value) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalText returns [redacted].
func (v Value) MarshalText() ([]byte, error) { return []byte(hidden), nil }
