// Package plan makes, from a seed, workflows whose every outcome is known: what each command writes, how it ends, what the
// execution answers. A run node's script is written so that all that it says follows from the node alone, however often and wherever
// it is run, and so that it leaves a trace outside of Foundry: lines in a ledger, one file an execution.
package plan
