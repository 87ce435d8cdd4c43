package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"foundry/api/client"
)

// generations is a workflow whose command makes a checkpoint every 100 ms and goes on from the last; in the end it leaves artifacts of 12 MB. Its
// first attempt gets no further than two in three, so that it runs still when it is to be lost.
const generations = `name: generations
nodes:
  expand:
    run: |
      cd "$FOUNDRY_CHECKPOINTS"
      last=$(ls | sort | tail -n 1); n=0
      if [ -n "$last" ]; then n=$(cat "$last/n"); fi
      echo "from $n"
      while [ "$n" -lt 60 ]; do
        n=$((n + 1)); mkdir .next; echo "$n" > .next/n; head -c 100000 /dev/urandom > .next/state
        next=$(printf 'gen-%03d' "$n"); mv .next "$next"
        if [ -n "$last" ]; then rm -r "$last"; fi
        last=$next; sleep 0.1
        if [ "$n.$FOUNDRY_ATTEMPT" = 40.1 ]; then sleep 600; fi
      done
      mkdir "$FOUNDRY_ARTIFACTS/out"
      for f in a b c d; do head -c 3000000 /dev/urandom > "$FOUNDRY_ARTIFACTS/out/$f"; done
      (cd "$FOUNDRY_ARTIFACTS" && sha256sum out/*)
`

// artifacts lists an execution's files of a kind.
func (i *installation) artifacts(id, kind string) []client.Artifact {
	i.t.Helper()
	var page client.ArtifactPage
	if code := i.call(http.MethodGet, "/executions/"+id+"/artifacts?limit=200&kind="+kind, nil, &page); code != http.StatusOK {
		i.t.Fatalf("artifacts: %d", code)
	}
	return page.Data
}

// reached waits until a checkpoint with at least this number of generations is there.
func (i *installation) reached(id, name string) {
	i.t.Helper()
	eventually(i.t, func() error {
		for _, c := range i.artifacts(id, "checkpoint") {
			if first, _, _ := strings.Cut(c.Path, "/"); first >= name {
				return nil
			}
		}
		return errors.New("there is no checkpoint from " + name + " on")
	})
}

// TestArtifactsAndCheckpointsOutliveEverything kills a worker while checkpoints are collected, and another one's sandbox with all that runs in
// it. The command goes on from a checkpoint, and what it has left in the end is downloaded as it was.
func TestArtifactsAndCheckpointsOutliveEverything(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push(generations, nil)
	id := i.queue("generations", nil)
	i.reached(id, "gen-005")
	i.kill(i.worker)
	i.startWorker()
	i.attached(id, 1)
	i.reached(id, "gen-020")
	i.loseSandbox(id)
	if e := i.ended(id); e.Status != client.ExecutionStatusCompleted {
		t.Fatalf("status %s, %+v", e.Status, e.Error)
	}
	log := string(i.logs(id, "expand"))
	if !strings.HasPrefix(log, "from ") || strings.HasPrefix(log, "from 0\n") {
		t.Errorf("the last attempt began %.20q", log)
	}
	dir := filepath.Join(t.TempDir(), "out")
	i.must("artifacts", "download", id, "--dir", dir)
	for _, name := range []string{"a", "b", "c", "d"} {
		content, err := os.ReadFile(filepath.Join(dir, "out", name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		if line := hex.EncodeToString(sum[:]) + "  out/" + name + "\n"; !strings.Contains(log, line) {
			t.Errorf("out/%s has arrived with another hash than %s", name, line)
		}
	}
	if out := i.must("artifacts", "download", id, "--dir", dir); strings.Count(out, "present") != 4 {
		t.Errorf("again: %s", out)
	}
	i.must("artifacts", "download", id, "--dir", dir, "--checkpoint")
	if n, err := os.ReadFile(filepath.Join(dir, "gen-060", "n")); err != nil || string(n) != "60\n" {
		t.Errorf("the newest checkpoint is %q, %v", n, err)
	}
	i.noMore(id)
}

// noMore asserts that of the checkpoints only the newest two are stored.
func (i *installation) noMore(id string) {
	i.t.Helper()
	seen := map[int]bool{}
	for _, c := range i.artifacts(id, "checkpoint") {
		seen[*c.Checkpoint] = true
	}
	if len(seen) != 2 {
		i.t.Errorf("checkpoints %v are stored", seen)
	}
}

// loseSandbox removes the sandbox of an execution behind everybody's back.
func (i *installation) loseSandbox(id string) {
	i.t.Helper()
	sandbox := i.sandbox(id)
	pids := processesOf(i.t, sandbox)
	if len(pids) == 0 {
		i.t.Fatal("nothing runs in the sandbox")
	}
	if err := os.Rename(filepath.Join(i.dir, "state", "sandboxes", sandbox), filepath.Join(i.t.TempDir(), "lost")); err != nil {
		i.t.Fatal(err)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have gone with its parent
	}
}

// processesOf are the processes whose environment names a sandbox.
func processesOf(t testing.TB, sandbox string) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		var pid int
		if err == nil && bytes.Contains(environ, []byte(sandbox)) {
			if _, err := fmt.Sscanf(filepath.Base(dir), "%d", &pid); err == nil && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
