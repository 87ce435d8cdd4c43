// Package worker is the process that claims executions and has the engine drive them.
//
// A process is one worker row per activation:
//
//	          ┌── renewals fail for two thirds of the lease ──▶ in doubt: no engine runs, nothing is started
//	          │                                                    │
//	join ──▶ active ◀──────── a renewal is acknowledged ───────────┘
//	  ▲       │ │
//	  │       │ └── the row says gone: stop every engine, take a new id ──┐
//	  └───────┼───────────────────────────────────────────────────────────┘
//	          └── ctx ends ──▶ draining: detach, flush, give back, leave ──▶ gone
//
// While active, three loops run. look claims for free slots and reads the signals of what is held: on a
// NOTIFY, every second, and when a slot becomes free while there was more to claim. renew extends the
// lease every third of it on a connection of its own, and stops engines whose right is gone. sweep
// destroys sandboxes whose end is decided.
//
// Engines reach sandboxes through a fence that asks the lease before every call, and ends the call with it.
//
// Failure cases:
//   - A NOTIFY is lost: look runs every second.
//   - The database does not answer: renewals fail; 20 s after the last good one was sent, all engines are
//     stopped, before the lease of 30 s can have run out for anybody else. When it answers again and nobody has declared the
//     worker gone, it takes up what it still holds, under the same claims.
//   - The process is frozen (SIGSTOP, a paused machine): its own monotonic clock tells it when it wakes up, before it starts anything.
//   - The process is told to leave: within seconds its executions are ready for others, and one record tells how long each step took.
//   - The claim of one execution is taken away: the next renewal or journal entry shows it, and its engine
//     stops.
//   - A secret is encrypted with a key that this process lacks: the execution is given back, first in order, and
//     this worker passes over its workflow for 30 s (locked), so that others can have it. /readyz says why.
//   - The process dies: its executions are taken over when its lease has run out. Commands live on in their
//     sandboxes.
package worker
