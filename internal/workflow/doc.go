// Package workflow compiles the text of a workflow.
//
//	text ──parse──▶ tree with positions ──read──▶ Definition ──check──▶ accepted
//	                       │                          │                     │
//	                       └──────────── Diagnostics, sorted by position ───┘
//
// Compile is for new versions and does all three. Load is for stored versions and leaves
// out the check: what was accepted once compiles for ever, so a new rule about texts that
// can be run belongs into check.go, never into the readers.
//
// Each object of the text has a list of fields (a key and the function that reads it), from
// which unknown keys, "did you mean" and the test against schema.json follow. The kind of a
// node is the one key of the table in kind.go that it has; a further kind is a line there.
//
// The package does no I/O. Definition and everything below it is immutable.
package workflow
