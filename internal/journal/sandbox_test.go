package journal_test

import (
	"testing"

	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/pgtest"
)

// TestReadySandboxHasTheFilesOfItsVersion follows a sandbox from its creation into a rerun of another version.
func TestReadySandboxHasTheFilesOfItsVersion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	ids := b.claimed(2)
	pgtest.Exec(t, b.pool, "INSERT INTO workflow_versions (workflow_id, version, source) SELECT workflow_id, 7, source FROM workflow_versions WHERE workflow_id = $1", b.workflow)
	pgtest.Exec(t, b.pool, "UPDATE executions SET workflow_version = 7 WHERE id = $1", ids[1])
	box := journal.Sandbox{ID: execution.NewID(), Provider: "fake", Host: "host", ProviderID: "p"}
	for n, c := range []struct {
		execution int
		state     journal.SandboxState
		want      int // 0 is none
	}{
		{0, journal.SandboxCreating, 0},
		{0, journal.SandboxReady, 1},
		{0, journal.SandboxKept, 1},
		{1, journal.SandboxStarting, 1}, // it has version 1 until the engine says that it is ready
		{1, journal.SandboxReady, 7},
		{1, journal.SandboxDestroying, 7},
	} {
		id := ids[c.execution]
		pgtest.Exec(t, b.pool, "UPDATE sandboxes SET execution_id = $1", id)
		box.State, box.KeepMS = c.state, 0
		if c.state == journal.SandboxKept {
			box.KeepMS = 60_000
		}
		j.commit(t, &journal.Entry{ExecutionID: id, Claim: 1, Sandboxes: []journal.Sandbox{box}})
		if got := pgtest.Get[int](t, b.pool, "SELECT COALESCE(files_version, 0) FROM sandboxes WHERE state = $1", string(c.state)); got != c.want {
			t.Errorf("step %d, %s: the files of version %d, want %d", n, c.state, got, c.want)
		}
	}
}
