// Package graph holds the dependency graph of a workflow's nodes and the one rule that
// moves an execution forward: Advance, a pure function of the graph and the state of each
// node.
//
// A node is known by its index, its place in the text; states are a slice by that index.
//
//	            ┌── Ready ──▶ running, waiting ──▶ completed | failed | timed_out | canceled
//	pending ────┼── Skipped ─────────────────────▶ skipped
//	            └── Failed (its `if` is wrong) ──▶ failed
//
// The state of a node is that of its last attempt once no further attempt is due. While one
// is due (a retry, or a run that was interrupted) the node counts as running: retries are
// the engine's affair, and Advance never starts a node twice.
//
// Failure cases:
//   - A node fails: dependents without a condition are skipped, and so on downwards, in the
//     same call. Conditions of dependents are asked once all they need is terminal.
//   - A failed or timed-out node with continue-on-error counts as a success for the nodes
//     below it and for the outcome of the execution.
//   - A condition that cannot be evaluated fails its node.
//   - The execution is canceled: what has no condition is skipped at once; conditions are
//     still asked, with success() and failure() false, so always() and canceled() run. What
//     is running is not Advance's to stop.
//   - It is canceled again (Forced): everything that has not started is skipped.
package graph
