// Package queue decides where an execution is: it admits executions, hands them to workers,
// ends or signals them on a cancel or a deadline, and keeps the workers' leases.
//
// A non-terminal execution is in exactly one place:
//
//	           claim (worker_id set, claim + 1)
//	┌────────┐ ─────────────────────────────────▶ ┌────────┐
//	│ ready  │                                    │  held  │ ── journal: terminal status ──▶ ended
//	└────────┘ ◀───────────────────────────────── └────────┘
//	 a row in    release, drain, reaper            worker_id set,    │
//	 execution_  (claim + 1, first in order)       status running    │ journal: Park
//	 queue                                                           │ (claim + 1, if nobody has
//	  │  ▲                                                           ▼  signaled since it was decided)
//	  │  │   signal (approve, reject, cancel)                     ┌────────┐
//	  │  └─────────── timer (UnparkDue) ───────────────────────── │ parked │
//	  │                                                           └────────┘
//	  │                                                            status waiting, worker_id null, no queue
//	  │                                                            row; a timer if a time moves it
//	  └── never claimed: cancel, queue deadline: terminal at once, in one transaction with its row
//
// Each arrow is one transaction guarded by the state that it leaves; zero rows mean that
// somebody else was first. The claim rises whenever the right changes hands, in both directions. One that is ready after it was
// parked keeps the status waiting until it is claimed.
//
// Whoever changes a fact that an engine must react to does it under the execution's row lock: the fact, its event, signal + 1;
// the queue row if it is parked, a wake-up if it is held. Locks are taken in the order executions (by id), workflows,
// queue and timers, node runs.
//
// Failure cases:
//   - Two workers claim: SKIP LOCKED hands each a different row; a claim never waits for a lock.
//   - A worker dies: its lease runs out, the reaper declares it gone, which is final, and frees what it held. A reaper that has
//     just started, or has just found the database again, waits for one lease: an outage is not the death of every worker.
//   - A worker leaves: it gives back what it holds in one statement per hundred; what it cannot give back, the reaper frees.
//   - A worker was frozen: its claim is stale, so none of its writes has an effect, and it starts nothing outside the
//     database, since it cannot be sure of its lease (package worker).
//   - The answer to a claim is lost and the worker lives: it finds what it holds and does not drive (Recover).
//   - A cancel and a claim meet: both lock the execution's row. If the cancel is first, the
//     claim finds no queue row; if the claim is first, the cancel becomes a signal, which the
//     worker learns of by NOTIFY, by its next look, or by its next renewal.
//   - A worker that is gone, draining or past its lease claims nothing: the claim itself asks
//     for an active worker.
//   - A decision or a cancel lands while the engine parks: the park is refused, or the queue row is made; there is no third way.
//   - An execution is in no place all the same: after a minute the control plane puts it back, and counts it.
//   - Two reruns want one sandbox: it moves by compare-and-set on its owner and its state, in the transaction that admits the rerun. The
//     other one is refused, or plans again where it left the choice.
//   - A rerun is canceled before it begins: the sandbox that it was to go on in is kept as before.
//   - A wake-up is lost: workers look every second, whatever they were told.
package queue
