// Package control runs the loops of the control plane, in one process at a time.
//
//	try the advisory lock ──(taken)──▶ every second again
//	      │ got it
//	      ▼
//	every second: ping the lock's connection ─▶ partitions (hourly) ─▶ deadlines ─▶ timers ─▶ concurrency groups ─▶ reaper
//	beside it:    sandboxes (package reconcile), which waits for providers and holds nobody up
//	              what is old (package retention), hourly, likewise
//	      │ an error: the lock or the database is lost
//	      └──▶ give everything up, begin again
//
// The lock only saves work. Every statement is guarded by the state that it leaves, so two leaders for a moment do no harm.
//
// Failure cases:
//   - The leader dies: the server ends its session, and another process has the lock within a second or two. One whose machine has
//     vanished loses it when the session has been idle for 30 s.
//   - The database was away: the round fails, the reaper forgets how long it has known the database, and declares nobody gone for
//     one lease after it is back, so that workers which live can say so first.
//   - A provider hangs: only the loop of sandboxes waits.
package control
