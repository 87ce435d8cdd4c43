// Package redact masks secret values in what a command prints, before anything
// stores or shows it. It is pure: no clock, no goroutine, no I/O.
//
// A byte of a stream is masked when any match of any pattern covers it, and a maximal
// run of masked bytes is stored as one ***, wherever the stream was cut into
// writes and wherever a process took over from another. What a Writer knows
// between two calls is therefore only a Position and the raw bytes behind it,
// which a successor reads again:
//
//	raw     ├──────────── stored ───────────┼───── held back ─────┤
//	                                       Pos
//	                         ├── masked run ──────┤
//	                            *** is stored   MaskedTo
//
// Held back, without any timer, is what cannot be decided yet: a suffix that may
// begin a pattern (less than 1 KiB, since longer patterns are matched as pieces of 512
// bytes) or an unfinished line that begins with "::" (at most 8 KiB).
//
// # Masks that a command announces
//
// A line ::add-mask::value adds value to the patterns of every stream of the
// execution, for matches that begin behind that line. The line itself is stored as
// ::add-mask::***. Position.Line is the state:
//
//	           "::add-mask::" of a finished line:
//	           the mask is announced
//	LineStart ───────────────────────────────────▶ LineMask
//	 │     ▲                                          │
//	 │ any │ newline                          newline │
//	 ▼     │                                          ▼
//	LineInside ◀──────────────────────────────────────┘
//
// A Position never lies inside the prefix. So whoever resumes either reads the whole
// line again or is given its mask, which was stored in the transaction that moved
// the position past the prefix.
//
// # Failure cases
//
//   - The process dies before the transaction: position, bytes and masks
//     are those of the one before, and the raw bytes are read again.
//   - A mask was announced on one stream and is used on another, then its
//     transaction is lost: both streams' positions still agree with what they
//     stored, and the line is read again.
//   - The line of a mask is longer than 8 KiB: it is masked to its end, but only its
//     first 8 KiB become a mask.
//   - The stream ends inside an ::add-mask:: line: the line counts as finished.
//   - Too many masks: see Set.Refused.
//   - A value is spread over two streams, or was cut, reversed or encoded
//     otherwise than design.md names: it is not found.
package redact
