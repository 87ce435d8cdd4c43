// Package queue decides where an execution is: it admits executions, hands them to workers,
// ends or signals them on a cancel or a deadline, and keeps the workers' leases.
//
// A non-terminal execution is in exactly one place:
//
//	┌─────────┐  a row in concurrency_waiters: its group has no room (below)
//	│ blocked │ ── cancel, queue deadline: terminal at once
//	└────┬────┘
//	     │ admission, by whoever ends an execution that has a slot: slot and queue row
//	     ▼     claim (worker_id set, claim + 1)
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
// the queue row if it is parked, a wake-up if it is held. Locks are taken in the order executions, workflows, concurrency groups,
// queue and timers, node runs, and inside a kind by id.
//
// Concurrency groups are decided on admission, exactly, by the lock of the group's row; a claim knows nothing of them. An execution has a slot from its
// admission to its end, whoever holds it or none:
//
//	enqueue: lock the group ─▶ refused (reject, held by a parent): nothing is written
//	                        └▶ waiter row ─▶ admit
//	end, cancel, queue deadline: lock the group ─▶ slot and waiter row go ─▶ admit
//	admit:   while fewer have a slot than the limit: the first of those that wait and are not paused gets a slot and its queue row
//
// The id of a group follows from its name (GroupID), so that a transaction which ends some executions and admits others locks all their groups in one
// order, whether they exist or not. Each step is a statement of its own, after the lock was had, and so sees what the holder before has left; but for a refusal none of
// them needs an answer, and an execution without a group costs nothing. Admission touches waiters, slots and the queue, never an execution:
// the group's lock is the only thing that it waits for.
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
//   - The end of an execution and a newcomer to its group meet: whoever locks the group second sees what the first has left. So do a cancel of one
//     that waits and its admission: the cancel takes away whichever rows it has by then.
//   - A workflow is paused while its executions wait for groups: the pause locks these groups, and none of it is admitted until it is over.
//   - Who has queued an execution that is to replace what runs dies before it has canceled that: the control plane does, once a second. It
//     cancels what was queued before, and only what nobody has canceled: a second request would force.
//   - Nobody is in a group any more: its row is swept under its lock. Who enters meanwhile waits, and makes it again.
//   - A neighbouring release that knows no groups ends an execution that has a slot: the control plane takes it out. What such a release queues
//     enters no group, and what has been blocked for a minute while its control loops lead it takes for misplaced: limits hold when it has gone.
//   - A group has room and does not move, or an execution is in no place all the same: after a minute the control plane puts it back, and counts it.
//   - Two reruns want one sandbox: it moves by compare-and-set on its owner and its state, in the transaction that admits the rerun. The
//     other one is refused, or plans again where it left the choice.
//   - A rerun is canceled before it begins: the sandbox that it was to go on in is kept as before.
//   - A wake-up is lost: workers look every second, whatever they were told.
package queue
