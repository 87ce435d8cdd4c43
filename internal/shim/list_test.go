package shim

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// leave puts files below a directory's folder; a content of "->x" is a link to x.
func leave(t *testing.T, d directory, folder string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(d.file(folder), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		to := filepath.Join(d.file(folder), name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(content, "->"); link {
			err = os.Symlink(target, to)
		} else {
			err = os.WriteFile(to, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (r ListResult) text() string {
	var lines []string
	for _, f := range r.Files {
		lines = append(lines, fmt.Sprintf("%s %d", f.Path, f.Size))
	}
	for _, l := range r.Left {
		lines = append(lines, fmt.Sprintf("%s x%d %q", l.Reason, l.Count, l.Examples))
	}
	return strings.Join(lines, "\n")
}

func TestListOfArtifacts(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(secret, []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("d", 200)
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"nothing":              {nil, ""},
		"files":                {map[string]string{"a": "1", "sub/b": "22", ".hidden": ""}, ".hidden 0\na 1\nsub/b 2"},
		"links":                {map[string]string{"a": "1", "in": "->a", "out": "->" + secret, "up": "->../../spec.json", "dir": "->/etc"}, `a 1` + "\n" + `kind x4 ["dir" "in" "out"]`},
		"names":                {map[string]string{"a\nb": "1", "c\xff": "1", "ok": "", "d\x01/e": "1"}, `ok 0` + "\n" + `name x3 ["a\nb" "c�" "d\x01"]`},
		"a path that is long":  {map[string]string{strings.Repeat(long+"/", 5) + strings.Repeat("f", 20): "1"}, fmt.Sprintf("name x1 [%q]", strings.Repeat(long+"/", 5)[:200])},
		"a folder of nothing":  {map[string]string{"sub/x": "->y"}, `kind x1 ["sub/x"]`},
		"a file of many bytes": {map[string]string{"big": strings.Repeat("x", MaxListedFile+1), "most": strings.Repeat("x", MaxListedFile)}, fmt.Sprintf("most %d\nsize x1 [\"big\"]", MaxListedFile)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := directory{t.TempDir()}
			leave(t, d, ArtifactsDir, c.files)
			result, err := listArtifacts(d)
			if err != nil || result.text() != c.want {
				t.Fatalf("%v, lists\n%s\nwant\n%s", err, result.text(), c.want)
			}
			for _, f := range result.Files {
				if sum := sha256.Sum256([]byte(c.files[f.Path])); !slices.Equal(sum[:], f.SHA256) {
					t.Errorf("%s has the hash %x", f.Path, f.SHA256)
				}
			}
		})
	}
	d := directory{t.TempDir()}
	leave(t, d, filesDir, map[string]string{"artifacts": "->" + filepath.Dir(secret), "checkpoints": "->" + filepath.Dir(secret)})
	if result, err := listArtifacts(d); err != nil || result.text() != "" {
		t.Errorf("a folder that is a link: %v, %s", err, result.text())
	}
	if result, err := listCheckpoint(d, mark{}, anyTime); err != nil || result.Name != "" {
		t.Errorf("a folder that is a link: %v, %+v", err, result)
	}
	if result, err := listArtifacts(directory{t.TempDir()}); err != nil || result.text() != "" {
		t.Errorf("without a folder: %v, %s", err, result.text())
	}
}

func TestListIsBounded(t *testing.T) {
	t.Parallel()
	d := directory{t.TempDir()}
	files := map[string]string{}
	for i := range MaxListedFiles + 50 {
		files[fmt.Sprintf("%05d", i)] = "x"
	}
	leave(t, d, ArtifactsDir, files)
	if err := syscall.Mkfifo(filepath.Join(d.file(ArtifactsDir), "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	result, err := listArtifacts(d)
	if err != nil || len(result.Files) != MaxListedFiles || len(result.Left) != 2 {
		t.Fatalf("%v, %d files, left %+v", err, len(result.Files), result.Left)
	}
	if l := result.Left[0]; l.Reason != LeftCount || l.Count != 50 || len(l.Examples) != maxExamples {
		t.Errorf("left %+v", l)
	}
	if l := result.Left[1]; l.Reason != LeftKind || l.Examples[0] != "fifo" {
		t.Errorf("left %+v", l)
	}

	d = directory{t.TempDir()}
	leave(t, d, ArtifactsDir, map[string]string{"a": "", "b": "", "c": "", "d": "", "e": "", "f": "small"})
	for _, name := range []string{"a", "b", "c", "d", "e"} { // sparse, so that they cost nothing
		if err := os.Truncate(filepath.Join(d.file(ArtifactsDir), name), MaxListedFile); err != nil {
			t.Fatal(err)
		}
	}
	if result, err = listArtifacts(d); err != nil || len(result.Files) != 4 || result.Left[0].Reason != LeftTotal || result.Left[0].Count != 2 {
		t.Errorf("%v, %d files, left %+v", err, len(result.Files), result.Left)
	}
}

func TestNewestCheckpoint(t *testing.T) {
	t.Parallel()
	d := directory{t.TempDir()}
	if result, err := listCheckpoint(d, mark{}, anyTime); err != nil || result.Name != "" {
		t.Fatalf("without a folder: %v, %+v", err, result)
	}
	leave(t, d, CheckpointDir, map[string]string{"b": "bb", ".tmp/x": "1"})
	first, err := listCheckpoint(d, mark{}, anyTime)
	if err != nil || first.Name != "b" || first.text() != "b 2" {
		t.Fatalf("%v, %+v", err, first)
	}
	appeared := time.Unix(0, first.Appeared)
	for settled, want := range map[int64]string{settledBy(appeared.Add(stampSlack)): "", settledBy(appeared.Add(stampSlack + 1)): "b"} {
		if result, err := listCheckpoint(d, mark{}, settled); err != nil || result.Name != want {
			t.Fatalf("of what has settled by %d there is %q, want %q (%v)", settled-first.Appeared, result.Name, want, err)
		}
	}
	seen := mark{first.Appeared, first.Name}
	if again, err := listCheckpoint(d, seen, anyTime); err != nil || again.Name != "" {
		t.Fatalf("the same again: %v, %+v", err, again)
	}
	later(t, d, first.Appeared)
	// A rename is what counts, whatever its name and however old its content.
	if err := os.Rename(filepath.Join(d.file(CheckpointDir), ".tmp"), filepath.Join(d.file(CheckpointDir), "a")); err != nil {
		t.Fatal(err)
	}
	second, err := listCheckpoint(d, seen, anyTime)
	if err != nil || second.Name != "a" || second.text() != "a/x 1" || second.Appeared <= first.Appeared {
		t.Fatalf("%v, %+v", err, second)
	}
	if err := os.RemoveAll(filepath.Join(d.file(CheckpointDir), "a")); err != nil {
		t.Fatal(err)
	}
	if gone, err := listCheckpoint(d, seen, anyTime); err != nil || gone.Name != "" {
		t.Fatalf("what is gone: %v, %+v", err, gone)
	}
}

// later waits until the clock of the file system has gone on.
func later(t *testing.T, d directory, than int64) {
	t.Helper()
	name := d.file("tick")
	for {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.ModTime().UnixNano() > than {
			return
		}
	}
}

func TestRestoreMovesOnce(t *testing.T) {
	t.Parallel()
	d := directory{t.TempDir()}
	leave(t, d, CheckpointDir, nil)
	leave(t, d, RestoreDir, map[string]string{"gen-1/model": "weights"})
	for range 2 { // a start that failed after it is repeated
		if err := restore(d, "gen-1"); err != nil {
			t.Fatal(err)
		}
	}
	if content, err := os.ReadFile(filepath.Join(d.file(CheckpointDir), "gen-1/model")); err != nil || string(content) != "weights" {
		t.Fatalf("%q, %v", content, err)
	}
	if own, err := listCheckpoint(d, mark{}, anyTime); err != nil || own.Name != "" {
		t.Errorf("what was restored counts as the command's own: %v, %+v", err, own)
	}
	if err := restore(d, "gen-2"); err == nil {
		t.Error("what was never put there is restored")
	}
	for _, name := range []string{"a/b", ".a", "..", "/etc"} {
		if err := (Spec{Script: "true", Dir: "/", Restore: name}).Validate(); err == nil {
			t.Errorf("%q is taken for a checkpoint's name", name)
		}
	}
}
