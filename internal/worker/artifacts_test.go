package worker_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/artifact"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
)

// artifacts are the complete files of an execution, by path, with their contents.
func (b *testBundle) artifacts(id uuid.UUID, kind artifact.Kind) (files map[string]artifact.File, contents map[string]string) {
	b.t.Helper()
	store := artifact.NewStore(b.pool)
	list, err := store.List(b.t.Context(), artifact.ListParams{ExecutionID: id, Kind: kind, Limit: 1000})
	if err != nil {
		b.t.Fatal(err)
	}
	files, contents = map[string]artifact.File{}, map[string]string{}
	for i := range list {
		f := &list[i]
		content, err := io.ReadAll(store.Open(b.t.Context(), f))
		if err != nil {
			b.t.Fatal(err)
		}
		files[f.Path], contents[f.Path] = *f, string(content)
	}
	return files, contents
}

// warnings are the codes of an execution's warnings.
func (b *testBundle) warnings(id uuid.UUID) (codes []string) {
	for _, e := range b.history(id) {
		if e.Type == event.Warning {
			codes = append(codes, string(e.Data))
		}
	}
	return codes
}

func TestArtifactsAreThereWhenTheirNodeEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.push(`
name: artifacts
nodes:
  good:
    run: |
      mkdir "$FOUNDRY_ARTIFACTS/sub"
      printf report > "$FOUNDRY_ARTIFACTS/sub/report.txt"
      : > "$FOUNDRY_ARTIFACTS/empty"
      head -c 3000000 /dev/zero > "$FOUNDRY_ARTIFACTS/zeros"
      printf '#!/bin/sh' > "$FOUNDRY_ARTIFACTS/tool"; chmod +x "$FOUNDRY_ARTIFACTS/tool"
      ln -s /etc/passwd "$FOUNDRY_ARTIFACTS/link"
  bad:
    continue-on-error: true
    run: |
      printf why > "$FOUNDRY_ARTIFACTS/why.txt"
      exit 3
`)
	id := b.enqueue(w, "")
	b.startWorker(1)
	if x := b.end(id); x.Status != execution.Completed {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	files, contents := b.artifacts(id, artifact.Artifact)
	want := map[string]string{
		"sub/report.txt": "report", "empty": "", "zeros": string(make([]byte, 3_000_000)), "tool": "#!/bin/sh", "why.txt": "why",
	}
	for path, content := range want {
		if contents[path] != content {
			t.Errorf("%s has %d bytes, want %d", path, len(contents[path]), len(content))
		}
	}
	if len(files) != len(want) || !files["tool"].Executable || files["zeros"].Executable || files["why.txt"].Node != "bad" || files["why.txt"].Attempt != 1 {
		t.Errorf("files %+v", files)
	}
	ended := map[uuid.UUID]bool{}
	for _, e := range b.history(id) {
		switch e.Type {
		case event.NodeCompleted, event.NodeFailed:
			ended[*e.NodeRunID] = true
		case event.Artifact:
			if ended[*e.NodeRunID] {
				t.Errorf("event %d of an artifact comes after its node's end", e.Seq)
			}
		default:
		}
	}
	if w := b.warnings(id); len(w) != 1 || !bytes.Contains([]byte(w[0]), []byte("artifact_skipped")) {
		t.Errorf("warnings %q", w)
	}
	pgtest.CheckInvariants(t, b.pool)
}

func putFile(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
