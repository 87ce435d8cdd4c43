// Package retention takes away what is old: the history of days on which everything has ended long enough ago, the executions of those
// days, and rows that only time makes useless.
//
// A day of history is one table of events, one of logs and one of what artifacts contain. Nothing is deleted from them: they are detached and dropped whole, which costs the
// same however much is in them. The states of a day's table:
//
//	attached ──DETACH CONCURRENTLY──▶ pending ──(the same statement, or FINALIZE)──▶ detached ──DROP──▶ gone ─▶ rows, 1,000 at a time
//	   ▲                                 │
//	   └── only when nothing keeps       └── nobody reads it any more; it stands in the way of other detaches
//	       the day                           and of nothing else
//
// A day is kept, whole, while one of its executions has not ended, or ended later than everything that may go, or is one in whose sandbox
// something goes on (masking_executions): what it was given must still be masked. The day before yesterday is the newest that can go, since ids are made before
// their rows are, by clocks that differ.
//
// All of it runs on one connection of its own, which is not through a transaction pooler: it holds the lock that lets one process purge at a
// time, and DETACH CONCURRENTLY runs in no transaction. It asks nothing of the rest of the program, so that it works when that cannot start, such as
// when the disk is full.
//
// Failure cases:
//   - The process dies while a table is detached: the table stays pending, and the next purge begins with it.
//   - It dies after that: the table stands by itself, and the next purge drops it with its day.
//   - It dies with rows left: days are also found by the executions that there are, so that the next purge deletes the rest.
//   - A reader of long ago, such as a dump, keeps the detach waiting: it is given up after 15 s, and the next purge goes on from there. Executions
//     wait for none of that.
//   - A day fails: the others are purged all the same, and the error is told at the end.
package retention
