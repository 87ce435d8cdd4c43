// Package shim supervises one command in one directory, inside a sandbox.
//
// It is the program cmd/shim and a hidden subcommand of the other programs. It uses only the standard
// library, since it is copied into sandboxes. A worker never holds a command: it starts one,
// goes away, and whoever comes next reads on from a stored offset.
//
//	shim start DIR                       run DIR/spec.json, once
//	shim seal DIR                        make sure that nothing can be started any more
//	shim signal DIR TERM|KILL…           end the command
//	shim tail ROOT [--wait D] [--checkpoints] [NAME:OFFSET[:STAMP]…]   follow all directories of ROOT
//	shim list DIR artifacts|checkpoint   what the command has left, with hashes
//	shim version
//
// Each prints one JSON line (wire.go) and exits with 0, or with 1 and a line that has an error.
//
// # A directory
//
//	            start: flock, link started,            command ended:
//	            spawn supervisor                       exit.json renamed
//	┌─────┐ ─────────────────────────────▶ ┌─────────┐ ────────────────▶ ┌───────┐
//	│ new │                                │ started │                   │ ended │
//	└─────┘                                └─────────┘                   └───────┘
//	   │  seal: link started,                   │  supervisor died: lock free,
//	   │  with the word sealed                  ▼  no exit.json
//	   ▼                                     ┌──────┐
//	┌────────┐                               │ lost │
//	│ sealed │                               └──────┘
//	└────────┘
//
// The state is read from three facts and stored nowhere: the file started (made once and whole, by a link),
// the lock (held by the supervisor for exactly as long as it lives) and exit.json (renamed
// into place, so whole). No process id is ever stored.
//
//	DIR/spec.json       what to run; put there before the start
//	DIR/lock started control output exit.json done supervisor.log
//	DIR/files/          what the command sees: script, output, summary, artifacts/, checkpoints/
//	DIR/restore/        a checkpoint for the command, moved into its checkpoints by the start, which notes it in DIR/restored
//
// # Processes
//
//	starter ─ ─ ▶ supervisor (own session) ──▶ command (own group)                       plain
//	starter ─ ─ ▶ supervisor ──▶ bwrap ══▶ shim init (pid 1, own session) ──▶ command    isolated
//
// The supervisor inherits the lock and the control fifo; nothing after it does. It adopts the
// command's orphans (subreaper; pid 1 behind an isolation), so that all are gone when exit.json appears.
// TERM goes to the command's group, KILL follows after the grace. The environment of the
// start call, as EscapeEnv wrote it, becomes the command's in memory, by way of pipes.
//
// # Protocol
//
// 2 added list, the stamps of tail, Spec.Restore and Exit's HasArtifacts and HasCheckpoints. With a shim of 1 a worker collects nothing: it asks for
// what is new only of a shim whose answers say 2, and the others ignore what they do not know.
//
// # Failure cases
//
//   - A start is repeated, by a client that saw no answer or a proxy: started exists, so the
//     answer is already, ended, sealed or lost, and nothing runs twice.
//   - A seal races with a start: link(2) lets one win, and both answers tell who.
//   - The starter dies before started exists: the directory is new. After: the supervisor it
//     spawned goes on; if there is none, the lock is free and the directory is lost.
//   - The spec cannot be used: an error before started exists, so the directory stays new.
//   - The command cannot be executed: state failed, exit.json with reason start_failed.
//   - The supervisor is killed: PDEATHSIG kills the command, bubblewrap's --die-with-parent all of its
//     namespace. Without a namespace the command's children survive until seal finds them by
//     FOUNDRY_OUTPUT in their environment.
//   - A signal finds no supervisor: the fifo has no reader, so nobody else can be hit.
//   - The supervisor is killed in the middle of a write: the torn frame fails its checksum or
//     length, and readers stop before it.
//   - The disk is full: output ends at the last whole frame, and exit.json says so; it is
//     itself tried again for half a minute, then the directory is lost.
//   - The machine crashes: nothing is synced. An exit.json that is not whole, or that promises
//     more output than there is, counts as lost.
//   - A command leaves a link, a fifo or too much where its outputs should be: outputs_error.
//   - A process outside of the command holds its pipe: the supervisor records what is in it when it
//     has killed all that it can, and no more.
//   - A command leaves links, devices, odd names or too much among its files: list leaves them out and says so; links lead nowhere.
//   - A tail's answer is lost: offsets are the caller's, so it asks again.
package shim
