// Package journal makes durable what a worker does to the executions that it holds.
//
// One journal per process commits in groups. Whatever was submitted while the last commit was in
// flight is written by the next; there is no timer, so one idle caller pays one commit and a
// busy worker pays one for many. A commit is two round trips, whatever the number of executions, and one or two more for each child that is queued:
//
//	Submit ──▶ queue (16 MiB or 10,000 entries; full means Submit waits)
//	             │ take all
//	             ▼
//	BEGIN · JournalLock ── locks, fences and numbers ──▶ entries with a stale claim: errs.StaleClaim
//	             │
//	             ▼
//	node runs · events · logs · cursors · sandboxes · artifacts · executions · results · NOTIFY · COMMIT
//	             │
//	             ├── done ───────────────────────────▶ callers get a Receipt
//	             ├── 40001, 40P01, connection lost before COMMIT ─▶ the same batch again, for a minute
//	             ├── class 21, 22, 23 or 54 ─────────▶ again one execution at a time; the one that still
//	             │                                     fails ends failed, code internal
//	             └── connection lost at COMMIT ──────▶ errs.Unknown: the engine drops all that it
//	                                                   knows of the execution and loads it again
//
// Sequence numbers are counted up from last_seq under the execution's row lock in the transaction
// that inserts them, so sequence order is commit order and there are no gaps.
//
// Failure cases:
//   - The worker's claim was taken away: its entries are dropped from the batch, the others commit.
//   - The process dies before COMMIT: nothing happened. After it: everything did, and the next
//     holder of the claim reads it.
//   - The answer to COMMIT is lost: nobody guesses (errs.Unknown). What the same engine has submitted after
//     it fails too (Session), or a chunk of output might be stored behind one that is missing.
//   - An engine is stopped while its claim stays (Session.Abandon): what it has not made durable is refused, so that
//     the next one, which locks the row first, reads all that will ever be there.
//   - Somebody changes a fact while an engine decides to end or park: the entry is refused (errs.Conflict), and it decides again.
//     So does the journal itself where it ends an execution.
//   - The database is slow: the queue fills, Submit waits, and output stays in the sandbox's file.
//   - One execution's data cannot be stored: it alone ends, with its unfinished node runs interrupted
//     and its sandboxes to be destroyed.
//   - Run's context ends: what is queued or in flight still commits, for at most a second.
package journal
