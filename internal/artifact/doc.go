// Package artifact keeps the files that commands leave behind.
//
// An artifact is a file in a command's FOUNDRY_ARTIFACTS, collected when the command has ended. A checkpoint is an entry of its
// FOUNDRY_CHECKPOINTS, a file or a folder, collected also while it runs; the next attempt of the node begins with the newest. Contents are kept
// as they are: nothing in them is masked.
//
// # A file
//
//	                    all chunks are there,          the journal's commit with its
//	  row, then chunks  and their hash is right        event; for artifacts, that of the node's end
//	┌───────────┐ ────────────────────▶ ┌────────┐ ──────────────────────────▶ ┌──────────┐
//	│ uploading │                       │ stored │                             │ complete │
//	└───────────┘                       └────────┘                             └──────────┘
//	      │ another claim                   │ the file has changed                  │ newer checkpoints are
//	      ▼ begins anew                     ▼ meanwhile                             ▼ complete, in that commit
//	   deleted                           deleted                               ┌─────────┐
//	                                                                           │ dropped │ ──▶ deleted
//	                                                                           └─────────┘
//
// Readers see what is complete and nothing else. Bytes travel outside of the journal, in chunks of 1 MiB, of which a worker has two in its
// hands. Every write is guarded by the claim; what makes a file visible goes through the journal and is fenced exactly. A file has a row
// of its own for each upload, so that a late chunk of another claim finds no row to belong to.
//
// # A checkpoint
//
// Complete is an entry whose name does not begin with a dot, from the moment that it is there: a command writes under a name with a dot, and
// renames. Its order is that of its appearance: the change time of the entry, which a rename sets, then the name. While the command
// runs, entries of the last moment are left alone, so that of two no later one can be older. Of several that have appeared since the last
// look only the newest is kept. What is recorded with it (Mark) keeps it from being read again, whoever looks next. Checkpoints are numbered from
// 1 for each node and index of an execution. Keep of them stay; older ones are dropped in the commit that makes a newer one complete.
//
// # Limits
//
// MaxFile for a file, MaxExecution and MaxExecutionFiles for all that an execution has at one time, and the shim's limits for one list. What is
// beyond is left out with a warning that names the limit, and fails no node. A checkpoint is kept whole or not at all.
//
// Failure cases:
//   - The worker dies between any two of these steps: the next one lists again. What is stored, and listed with the same hash, is not read
//     again; what is uploading is deleted and begun anew.
//   - The claim is stale: no row, chunk or state is written (errs.StaleClaim).
//   - The answer to a chunk or a state is lost: a repeat changes nothing. The answer of the journal is lost: the engine loads again, as ever.
//   - The file changes while it is read: its hash is not the one that was listed (Changed); it is listed again, three times at most.
//   - It is gone: of an artifact there is a warning; a checkpoint is listed again.
//   - The execution ends before a file is complete: readers never see it, and retention deletes it after an hour.
//   - The day has been dropped while the row is there still: reading is errs.Expired.
//   - A chunk is missing or altered: reading it to its end is errs.Internal; a command is not given such a checkpoint.
package artifact
