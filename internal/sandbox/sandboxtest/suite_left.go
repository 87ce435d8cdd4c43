package sandboxtest

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/shim"
)

// testLeft lists and reads artifacts, and what must not be read.
func testLeft(t *testing.T, h Harness) {
	b := newBox(t, h)
	id := b.script(`
cd "$FOUNDRY_ARTIFACTS"
mkdir -p sub; head -c 3000000 /dev/zero > sub/zeros; echo run > tool; chmod +x tool
ln -s /etc/passwd passwd; ln -s tool link; mkfifo fifo; : > empty
`)
	exit := b.follow(id).exit
	equal(t, "the exit tells of artifacts", exit.HasArtifacts, true)
	equal(t, "the exit tells of checkpoints", exit.HasCheckpoints, false)
	list, err := b.shim.ListArtifacts(t.Context(), id)
	noError(t, err)
	equal(t, "the protocol", list.Protocol, shim.Protocol)
	want := map[string]shim.ListedFile{"empty": {}, "sub/zeros": {Size: 3_000_000}, "tool": {Size: 4, Executable: true}}
	equal(t, "files", len(list.Files), len(want))
	for _, f := range list.Files {
		w, ok := want[f.Path]
		if !ok || f.Size != w.Size || f.Executable != w.Executable {
			t.Fatalf("listed %+v, want %+v", f, w)
		}
		content, err := b.shim.ReadLeft(t.Context(), id, shim.ArtifactsDir, f.Path, 0, f.Size+1)
		noError(t, err)
		sum := sha256.Sum256(content)
		equal(t, "the hash of "+f.Path, bytes.Equal(sum[:], f.SHA256), true)
	}
	equal(t, "reasons", len(list.Left), 1)
	equal(t, "links and fifos that are left out", list.Left[0].Count, 3)

	nothing := b.script(`:`)
	equal(t, "the exit of one that left nothing", b.follow(nothing).exit.HasArtifacts, false)
	list, err = b.shim.ListArtifacts(t.Context(), nothing)
	noError(t, err)
	equal(t, "files of one that left nothing", len(list.Files)+len(list.Left), 0)
}

// testCheckpoints watches a command that makes checkpoints, and gives the last one to another command.
func testCheckpoints(t *testing.T, h Harness) {
	b := newBox(t, h)
	id := b.script(`
cd "$FOUNDRY_CHECKPOINTS"
mkdir .new; echo 1 > .new/state; mv .new gen-1
while ! test -e "$FOUNDRY_WORKSPACE/go"; do sleep 0.02; done
mkdir .new; echo 2 > .new/state; mv .new gen-2; rm -r gen-1; mkdir .unfinished
while ! test -e "$FOUNDRY_WORKSPACE/stop"; do sleep 0.02; done
`)
	stamp := b.watch(id, 0)
	first, err := b.shim.ListCheckpoint(t.Context(), id, 0, "", true)
	noError(t, err)
	equal(t, "the first checkpoint", first.Name, "gen-1")
	equal(t, "its file", first.Files[0].Path, "gen-1/state")
	noError(t, b.sb.PutFile(t.Context(), b.info.Workspace+"/go", bytes.NewReader(nil), 0o600))
	b.watch(id, stamp)
	var second shim.ListResult
	eventually(t, "the second checkpoint is settled", func() bool {
		second, err = b.shim.ListCheckpoint(t.Context(), id, first.Appeared, first.Name, true)
		noError(t, err)
		return second.Name == "gen-2"
	})
	noError(t, b.sb.PutFile(t.Context(), b.info.Workspace+"/stop", bytes.NewReader(nil), 0o600))
	equal(t, "the exit tells of checkpoints", b.follow(id).exit.HasCheckpoints, true)
	none, err := b.shim.ListCheckpoint(t.Context(), id, second.Appeared, second.Name, false)
	noError(t, err)
	equal(t, "what is newer than the newest", none.Name, "")

	next := uuid.New()
	spec := shim.Spec{Script: `ls -A "$FOUNDRY_CHECKPOINTS"; cat "$FOUNDRY_CHECKPOINTS/gen-2/state"`, Restore: "gen-2"}
	if r, err := b.shim.Start(t.Context(), next, spec, nil); err == nil {
		t.Fatalf("a start without the files of its checkpoint answers %+v", r)
	}
	noError(t, b.shim.PutRestored(t.Context(), next, "gen-2/state", strings.NewReader("restored\n"), 0o600))
	begun, err := b.shim.Begun(t.Context(), next)
	noError(t, err)
	equal(t, "it is begun before its start", begun, false)
	r, err := b.shim.Start(t.Context(), next, spec, nil)
	noError(t, err)
	begun, err = b.shim.Begun(t.Context(), next)
	noError(t, err)
	equal(t, "it is begun after its start", begun, true)
	equal(t, "the start", r.State, shim.Started)
	equal(t, "what it finds", b.follow(next).stdout.String(), "gen-2\nrestored\n")
}

// watch waits until a tail tells of checkpoints behind the stamp, and returns the new stamp.
func (b *box) watch(id uuid.UUID, stamp int64) (next int64) {
	b.t.Helper()
	eventually(b.t, "a tail tells of a checkpoint", func() bool {
		r, err := b.shim.Watch(b.t.Context(), map[uuid.UUID]int64{id: 0}, map[uuid.UUID]int64{id: stamp}, time.Second)
		noError(b.t, err)
		for _, run := range r.Runs {
			next = max(next, run.Checkpoints)
		}
		return next != 0
	})
	return next
}

// testLeftLinks has a command replace its folders by links to a file of another command, which nobody must read.
func testLeftLinks(t *testing.T, h Harness) {
	if !h.Here {
		t.Skip("the sandbox's files cannot be looked at")
	}
	b := newBox(t, h)
	outside := t.TempDir()
	noError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	id := b.script(`rmdir "$FOUNDRY_ARTIFACTS" "$FOUNDRY_CHECKPOINTS"
ln -s "$OUTSIDE" "$FOUNDRY_ARTIFACTS"; ln -s "$OUTSIDE" "$FOUNDRY_CHECKPOINTS"`, "OUTSIDE="+outside)
	b.follow(id)
	artifacts, err := b.shim.ListArtifacts(t.Context(), id)
	noError(t, err)
	checkpoint, err := b.shim.ListCheckpoint(t.Context(), id, 0, "", false)
	noError(t, err)
	equal(t, "files", len(artifacts.Files)+len(checkpoint.Files), 0)
	if content, err := b.shim.ReadLeft(t.Context(), id, shim.ArtifactsDir, "secret", 0, 10); err == nil {
		t.Fatalf("read %q", content)
	}
}
