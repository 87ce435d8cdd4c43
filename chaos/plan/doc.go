// Package plan makes, from a seed, workflows whose every outcome is known: what each command writes, how it ends, what the
// execution answers. A run node's script is written so that all that it says follows from the node alone, however often and wherever
// it is run, and so that it leaves a trace outside of Foundry: lines in a ledger, one file an execution.
//
// Nodes run commands that end well, fail, hang, or print what is no text; set values; wait for people and times; run other workflows. Some run more
// than once, by a matrix or a repeat, and some commands leave artifacts and checkpoints. Some workflows have a secret, or are in a concurrency group.
package plan
