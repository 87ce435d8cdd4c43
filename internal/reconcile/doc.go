// Package reconcile brings the sandboxes that exist and the rows about them together, where no engine does it: it completes intents that
// nobody completes, stops and expires what rests, and destroys what belongs to nothing (protocols.md, 7). The control plane runs it in a
// loop; so does every worker, for its own host, since the sandboxes of one machine can be reached from there only.
//
// # States of a row that change here
//
//	         parked 10 min           Stop               claim: the engine starts it
//	ready ─────────────────▶ stopping ──────▶ stopped ─────────────────────────────▶ starting, ready
//	  │ ▲                        │               │
//	  │ └──── the engine ────────┘               │
//	  ├──────────┬───────────────┴───────────────┤ parked 7 days; the execution has ended
//	  │          │                               ▼
//	  │        kept ──keep_until, or a person─▶ destroying ──Destroy─▶ destroyed
//	  ▼          ▼
//	failed: Get said twice, 15 s apart, that there is none
//
// A kept sandbox stays kept when it is stopped. creating and starting belong to the engine while its execution lives.
//
// # Rules
//
// The intent is a row first, then the call is made, then the result is a row. Every statement is guarded by the state that it leaves, so any
// number of processes may run a round at once. The provider's list is read before the rows: a row is there before its sandbox, so that what
// is listed without one has lost it. A list proves only what is in it: a sandbox that is not listed is asked for by its provider's id.
//
// # Failure cases
//
//   - A process dies between an intent and its call, or between the call and its result: the next round makes the call again. All of them
//     are harmless twice.
//   - An execution is claimed between the intent to stop and the call: the intent is read again right before the call, and is not carried out.
//     The engine finds the intent in the row, and starts the sandbox after it has written that.
//   - The call to stop arrives after that start, delayed by whatever: the engine finds the sandbox stopped, loads the execution again, and
//     starts it once more. What ran in it is interrupted, which is charged to nobody.
//   - A sandbox is gone while a worker drives its execution: that engine finds out by its own calls, and this package leaves the row alone.
//     While nobody does, the row is marked here, and the next claim finds no sandbox.
//   - The provider does not answer, or says so for a moment only: an outage is never taken for absence, and one answer is not enough.
//   - Creation was asked for and the answer lost: the sandbox is found by its label when its intent to be destroyed is carried out.
//   - The database is a copy: its rows may be behind, and what they miss belongs to the original. Nothing is done until it is adopted.
//     A copy of the whole server's files cannot be told from the original by anything in it, and must not be started beside it.
package reconcile
