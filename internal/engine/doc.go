// Package engine drives executions that its worker holds.
//
// One goroutine owns the state of one execution. Everything that happens elsewhere (a command
// ended, a sandbox is ready, somebody asked for a cancel) reaches it as a message. Its loop is:
//
//	     ┌──────────────────────────────────────────────────────────────┐
//	     ▼                                                              │
//	decide: graph.Advance says what follows; all of it goes            │
//	     │  into one journal entry                                     │
//	     ▼                                                              │
//	commit: the entry is durable, or the engine stops                  │
//	     │                                                              │
//	     ▼                                                              │
//	act: start what the entry says is running ── side effects come      │
//	     │  only after the state that names them                       │
//	     ▼                                                              │
//	wait for messages ──────────────────────────────────────────────────┘
//
// So the end of one node and the start of the next share a commit, and an execution of `set`
// nodes is one commit from its start to its end.
//
// A run node is durable as running before its command is started, in a directory of the sandbox
// that its id names; starting a directory twice starts nothing twice. Its output is followed by the
// execution's tailer, which submits chunks and cursor to the journal by itself and tells the
// loop once the exit status is there and everything before it has been submitted.
//
// When all that is left to do is to wait (for a person, a time, a retry that is far away), the execution is parked: given back
// until a signal or a timer. What somebody has decided meanwhile refuses that entry, and the engine looks again.
//
// Before anything runs, secrets are read with the claim; they reach commands in the environment of the shim's
// start call and nothing else. They, and the masks that commands have announced, are replaced in
// output by the tailer's writers, and in outputs, summaries, failures and events by the loop before these are cut and stored.
//
// Failure cases:
//   - A secret is encrypted with a key that this process lacks (secret.KeyMissing), or the sandbox is on another machine (Elsewhere):
//     nothing runs, and the worker gives the execution back. One that is to end by force (a second cancel, a passed deadline)
//     needs neither and ends anywhere: its commands are interrupted, and the sweep of their host destroys the sandbox.
//   - A secret or a stored mask was altered: the execution fails, with code secret; its sandbox is destroyed unread.
//   - This process has no keys at all: masks cannot be sealed, hold in memory, and a warning says so.
//   - The claim is lost (errs.StaleClaim): the engine stops at once and undoes nothing; commands
//     go on in the sandbox, and whoever has the claim follows them.
//   - An answer of the journal is lost (errs.Unknown): all goroutines end, all memory is dropped, the
//     execution is loaded again under the same claim, and running commands are attached to.
//   - The worker is drained, or cannot be sure of its lease: as with a lost claim; no signal is sent to any command. What was not
//     durable yet never will be (journal.Session.Abandon), so that the engine which goes on reads all there is.
//   - The lease is in doubt while a sandbox is made or opened: the call's error is that doubt (package sandbox, Fence), which is no
//     failure of the provider; nothing is given up for it.
//   - A sandbox was stopped, since its execution was parked for long or by somebody else: it is started again, also when that happens
//     while the engine opens it; what ran in it is found lost.
//   - The shim's supervisor died (lost): the node run is interrupted, not charged, and run again; after
//     five interruptions the node fails with code infrastructure.
//   - The sandbox is gone, which the provider must say twice with a pause between, at a takeover too: its running node runs are
//     interrupted, and a new one is made for what is still to run.
//   - The sandbox has failed, or somebody destroys it: its destruction is completed, and then it is as one that is gone.
//   - The provider does not answer: asked again, with back-off, until the execution's timeout. When commands must end by force and their
//     sandbox does not answer for forcedPatience, it is given up: they are interrupted, and end with it.
package engine
