// Package queue decides where an execution is: it admits executions, hands them to workers,
// ends or signals them on a cancel or a deadline, and keeps the workers' leases.
//
// A non-terminal execution is in exactly one place:
//
//	           claim (worker_id set, claim + 1)
//	┌────────┐ ─────────────────────────────────▶ ┌────────┐
//	│ ready  │                                    │  held  │ ── journal: terminal status ──▶ ended
//	└────────┘                                    └────────┘
//	 a row in execution_queue,                     worker_id set, status running;
//	 worker_id null                                no row in execution_queue
//	    │
//	    └── cancel, queue deadline: terminal at once, in one transaction with its row
//
// Each arrow is one statement guarded by the state that it leaves; zero rows mean that
// somebody else was first.
//
// Failure cases:
//   - Two workers claim: SKIP LOCKED hands each a different row; a claim never waits for a lock.
//   - A worker dies after the claim committed and before it read the answer: the execution
//     is held by a worker whose lease runs out.
//   - The answer to a claim is lost and the worker lives: it finds what it holds and does not drive (Recover).
//   - A cancel and a claim meet: both lock the execution's row. If the cancel is first, the
//     claim finds no queue row; if the claim is first, the cancel becomes a signal, which the
//     worker learns of by NOTIFY, by its next look, or by its next renewal.
//   - A worker that is gone, draining or past its lease claims nothing: the claim itself asks
//     for an active worker.
//   - A wake-up is lost: workers look every second, whatever they were told.
package queue
