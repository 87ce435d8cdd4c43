// Package devstack puts Foundry's processes together: the control plane, for `foundry serve` and
// `foundry dev`, and the whole installation on one machine that `foundry dev` is.
//
// # What foundry dev is made of
//
//	foundry dev ──flock──▶ .foundry/lock, so that there is one in a folder
//	  │  this process: HTTP API, streams, control loops
//	  ├─ worker (package fleet/process): a child, started again when it dies,
//	  │    gone when this process is; the commands of users outlive both
//	  └─ PostgreSQL (package pgdev): shared by lock files, stops by itself;
//	       or the one of DATABASE_URL
//
// Everything that is kept is in .foundry, which ignores itself for git:
//
//	dev.json     {url, token, database_url, pid}, 0600, there while the API answers
//	server.log   the log of the control plane, JSON lines
//	worker.log   the log of the workers
//	postgres/    the database (for root elsewhere; see package pgdev)
//	bin/ sandboxes/ volumes/   the local sandbox provider
//
// # What can die, and what then happens
//
//   - The worker: another one starts after a short pause, and the API answers all the while.
//   - This process, by a signal: the worker drains, then all stops, and dev.json is removed.
//   - This process, killed: the lock goes with it, the worker's stdin ends and it drains,
//     PostgreSQL stops by itself. dev.json stays, and the next dev in the folder replaces it.
package devstack
