// Package worker is the process that claims executions and has the engine drive them.
//
// A process is one worker row per activation:
//
//	join ──▶ active ──(ctx ends)──▶ leave ──▶ gone
//	  ▲         │
//	  └─────────┘ the row says gone: stop every engine, take a new id
//
// While active, three loops run. look claims for free slots and reads the signals of what is held: on a
// NOTIFY, every second, and when a slot becomes free while there was more to claim. renew extends the
// lease every 10 s on a connection of its own, and stops engines whose right is gone. sweep
// destroys sandboxes whose end is decided.
//
// Failure cases:
//   - A NOTIFY is lost: look runs every second.
//   - The database does not answer: renewals fail; 20 s after the last good one was sent, all engines are
//     stopped, before the lease of 30 s can have run out for anybody else.
//   - The claim of one execution is taken away: the next renewal or journal entry shows it, and its engine
//     stops.
//   - A secret is encrypted with a key that this process lacks: the execution is given back, first in order, and
//     this worker passes over its workflow for 30 s (locked), so that others can have it. /readyz says why.
//   - The process dies: its executions stay held until its lease has run out. Commands live on in their
//     sandboxes.
package worker
