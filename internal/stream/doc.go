// Package stream relays what happens to executions, live, from Postgres to any number of readers.
//
// The database is the truth and the order; notifications only wake. An execution's events are numbered under
// its row lock in the transaction that inserts them, so their sequence is the order of commits, has no
// gaps, and one number says exactly what a reader has seen.
//
// # One execution
//
// A Hub keeps one topic per watched execution, from the first Watch to the last. A topic reads
// each page of events once, whatever the number of watches, and keeps the newest in a ring that they share.
//
//	                 Heads                    marked, and some watch is at the head
//	first Watch ──▶ starting ──▶ idle ────────────────────────────────▶ reading
//	                   │          ▲ ◀──────── page appended ───────────────┤
//	                   │          └────────── error: again after 1 s ──────┘
//	                   └──▶ failed: no such execution, no database
//	                        ended: the terminal event has been read
//
// A topic is marked by Nudge (commits of this process), a notification (commits of others), a reset (LISTEN
// was lost and is back) and the check of all topics every 5 s. Marks are remembered before the read that
// answers them starts, and the topic is known to the hub before its first read, so no commit falls between.
//
// Reading follows the fastest watch: a page is read only when some watch has taken all there is. So
// history never floods memory, a stuck reader stops nobody, and a reader at full speed is never called slow.
//
//	           pos < floor                  pos = target
//	Watch ──▶ replaying ──pages of its own──▶ joined ──▶ io.EOF (the execution has ended)
//	   │                                      ▲  └─────▶ ErrLagged (pos < floor again)
//	   └────────── pos ≥ floor ───────────────┘
//
// floor is the newest event that has left the ring, target the head at the time. A watch skips what it
// has seen, and filters what it does not want, by itself; positions are compared, never counted, so joining
// makes neither gap nor duplicate. A first watch that is at most a page behind starts the topic at its own
// position: all who open the same execution with it, or resume it after a restart, share that page.
//
// # Lists
//
// An OrganizationWatch has no history and no position. Once it is open, every later commit of the
// organization's executions leads to a summary with the execution's last_seq as its version, the newest, at most
// one every 250 ms. The summaries that wait for a slow reader replace one another by execution.
//
// # What can go wrong
//
//   - A notification is lost, or all of them are: topics are compared with the table every 5 s in one query;
//     the newest 200 executions of each organization with an open stream in one query each.
//   - The listening connection is lost: when it is back, every topic is read once and lists are reset. Until
//     then the check goes on.
//   - Too many executions changed for one payload (*): the same as a reset.
//   - A watch is slower than the ring (1,024 events, 4 MiB): ErrLagged; its client resumes by position.
//   - More than 1,000 summaries wait for a list's reader: reset.
//   - The database is down: topics try again every second; watches that replay, or open, get the error.
//   - An execution is deleted while it is watched: errs.NotFound within 5 s.
//   - The process stops (End): ErrStopped everywhere. A reader resumes by position at any process on the same database.
//   - A reader's position is ahead of this process: it waits, and skips what it has seen.
package stream
