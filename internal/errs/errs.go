// Package errs is the one vocabulary of errors that people may read.
//
// An *Error carries a stable code for programs and a sentence for a person.
// Everything else is an internal error: httpapi answers "Internal error" and a
// request id for it, and logs the rest. Branch with Is(err, code) or errors.As.
package errs

import (
	"errors"
	"fmt"
)

// Code names a kind of error. It is part of the public API: snake_case, never reused.
type Code string

// The codes that any package may return. A package with codes of its own
// declares them beside the rule that they report.
const (
	Invalid      Code = "invalid"      // the request is malformed
	Validation   Code = "validation"   // well-formed, but refused; Details say where
	Unauthorized Code = "unauthorized" // no valid credentials
	Forbidden    Code = "forbidden"    // valid credentials without the right
	NotFound     Code = "not_found"    // no such thing, or none that the caller may see
	Conflict     Code = "conflict"     // the state does not allow it
	TooLarge     Code = "too_large"    // a limit of design.md; the sentence names it and its value
	TooMany      Code = "too_many"     // back-pressure; try again later
	Expired      Code = "expired"      // it existed and retention has dropped it
	Unavailable  Code = "unavailable"  // a part that the answer needs is down
	Unknown      Code = "unknown"      // the outcome is not known: it may or may not have happened
	StaleClaim   Code = "stale_claim"  // the right to write this execution is gone
	Internal     Code = "internal"     // a defect of ours
	Finished     Code = "execution_finished"
)

// Detail points at one part of a refused request. Pointer is a JSON pointer (RFC 6901).
type Detail struct {
	Pointer string
	Detail  string
}

// Error is an error that people may read.
type Error struct {
	Code    Code
	Message string // a sentence, with a full stop, free of Go types, SQLSTATEs and paths
	Details []Detail

	cause error
}

// E makes an Error. The message is a format string.
func E(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// With adds a detail and returns the same error.
func (e *Error) With(pointer, format string, args ...any) *Error {
	e.Details = append(e.Details, Detail{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
	return e
}

// Because sets the cause, which logs show and people do not, and returns the same error.
func (e *Error) Because(cause error) *Error {
	e.cause = cause
	return e
}

// Error is for logs; people are shown Message.
func (e *Error) Error() string {
	if e.cause != nil {
		return e.Message + ": " + e.cause.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether err is, or wraps, an Error with the code.
func Is(err error, code Code) bool {
	return CodeOf(err) == code
}

// MessageOf returns the sentence of the outermost Error in err's chain, and otherwise where there is none.
func MessageOf(err error, otherwise string) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Message
	}
	return otherwise
}

// CodeOf returns the code of the outermost Error in err's chain: Internal when there
// is none, and "" when err is nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}
