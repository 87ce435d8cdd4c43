// Package secret keeps the encrypted environment variables of workflows, and gives them to executions.
//
// A value is an immutable version. It is encrypted with a data key of its own, which is wrapped by a
// key-encryption key; both are bound to the place where they stand (Place).
//
//	Set ──▶ version n, newest ──Set──▶ version n, not newest ──no reader left──▶ erased
//	             │                            ▲
//	             └─ first claim of an execution pins it: every later claim gets this version,
//	                and masks this and all that are set after it, which are kept as long
//
// An execution reads with its claim, in one transaction that pins the versions, and writes an audit row
// for each; plaintext is used only after that commit.
//
// Failure cases:
//   - The claim is stale: nothing is read and no audit row is written.
//   - A secret is rotated while an execution runs: the execution keeps what it was given, and masks both. It learns of the new
//     version by a signal (queue.Store.SignalSecrets), after whoever set it was answered.
//   - The process that sets it is lost between the commit and the signal: there is no answer. Who runs then masks the new version
//     when anything signals it, or at its next claim; setting the value again signals.
//   - A secret is deleted and made again: an execution that was given the former masks the new one as if it were its next version.
//   - A secret whose key an execution was not given is made while it runs: it has nothing to do with the execution.
//   - A secret is deleted: running executions keep their version; it is erased when the last has ended.
//   - This process lacks the key: KeyMissing; the worker gives the execution back and says so.
//   - A ciphertext was moved or changed: Altered; the execution fails, since no worker could read it.
//   - Two Sets at once: versions are numbered under the secret's row lock.
//   - Rekey meets a Set: it replaces the wrapped key only of the version and key id that it read.
package secret
