package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/api/client"
)

// left is a file that the fake server has.
type left struct {
	node           string
	index, attempt int
	checkpoint     int
	path, content  string
}

// fileServer answers for one execution's files. It notes the Range of each download.
type fileServer struct {
	url    string
	mu     sync.Mutex
	ranges []string
	cut    int // bytes after which the next download breaks off; 0: none does
	change string
}

const leftBy = "019aa000-0000-7000-8000-000000000007"

func serveFiles(t *testing.T, files ...left) *fileServer {
	t.Helper()
	s := &fileServer{}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	var artifacts, checkpoints []client.Artifact
	for i, f := range files {
		sum := sha256.Sum256([]byte(f.content))
		a := client.Artifact{
			ID: uuid.New(), Kind: "artifact", Node: f.node, Index: f.index, Attempt: max(f.attempt, 1), Path: f.path, Size: int64(len(f.content)),
			Sha256: hex.EncodeToString(sum[:]), CreatedAt: time.Unix(int64(i), 0), Executable: strings.HasSuffix(f.path, ".sh"),
		}
		if f.checkpoint > 0 {
			a.Kind, a.Checkpoint = "checkpoint", &f.checkpoint
			checkpoints = append(checkpoints, a)
		} else {
			artifacts = append(artifacts, a)
		}
		mux.HandleFunc("GET /api/v1/executions/"+leftBy+"/artifacts/"+a.ID.String()+"/content", func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ranges = append(s.ranges, r.Header.Get("Range"))
			content := f.content
			if s.change != "" {
				content = s.change
			}
			if s.cut > 0 {
				w.Header().Set("Content-Length", fmt.Sprint(len(content)))
				fmt.Fprint(w, content[:s.cut])
				s.cut = 0
				return
			}
			w.Header().Set("ETag", `"`+a.Sha256+`"`)
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		})
	}
	mux.HandleFunc("GET /api/v1/executions/"+leftBy+"/artifacts", func(w http.ResponseWriter, r *http.Request) {
		all := artifacts
		switch r.URL.Query().Get("kind") {
		case "checkpoint":
			all = checkpoints
		case "":
			all = slices.Concat(artifacts, checkpoints)
		}
		if node := r.URL.Query().Get("node"); node != "" {
			all = slices.DeleteFunc(slices.Clone(all), func(a client.Artifact) bool { return a.Node != node })
		}
		page := client.ArtifactPage{Data: all}
		if half := len(all) / 2; len(all) > 1 && r.URL.Query().Get("cursor") == "" { // in two pages
			page.Data, page.NextCursor = all[:half], new("rest")
		} else if len(all) > 1 {
			page.Data = all[half:]
		}
		answer(w, page)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Setenv("FOUNDRY_URL", server.URL)
	s.url = server.URL
	return s
}

func artifactsCommand(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, problem bytes.Buffer
	code = Run(t.Context(), append([]string{"artifacts"}, args...), IO{In: strings.NewReader(""), Out: &out, Err: &problem})
	return code, out.String(), problem.String()
}

// tree lists the files below a folder with their contents.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		rel, relErr := filepath.Rel(dir, name)
		lines = append(lines, rel+"="+string(content))
		return cmpErr(err, relErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, " ")
}

func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestDownloadChoosesFiles(t *testing.T) {
	t.Setenv("FOUNDRY_TOKEN", "fdy_test")
	files := []left{
		{node: "a", path: "one.txt", content: "1"},
		{node: "a", path: "sub/two.txt", content: "old"},
		{node: "a", attempt: 2, path: "sub/two.txt", content: "2"},
		{node: "b", path: "sub", content: "no folder"},
		{node: "fan", index: 0, path: "part", content: "p0"},
		{node: "fan", index: 3, path: "part", content: "p3"},
		{node: "b", path: "run.sh", content: "#!"},
		{node: "a", checkpoint: 1, path: "gen-1/n", content: "1"},
		{node: "a", checkpoint: 2, path: "gen-2/n", content: "2"},
	}
	for name, c := range map[string]struct {
		args    []string
		code    int
		want    string
		problem string
	}{
		// of a, the first attempt does not count; its folder and b's file get in each other's way.
		"all":           {nil, exitOK, "a/sub/two.txt=2 b/sub=no folder fan/part=p0 fan-3/part=p3 run.sh=#!", ""},
		"a path":        {[]string{"run.sh"}, exitOK, "run.sh=#!", ""},
		"a folder":      {[]string{"sub/two.txt"}, exitOK, "sub/two.txt=2", ""},
		"a node":        {[]string{"--node", "a"}, exitOK, "sub/two.txt=2", ""},
		"a checkpoint":  {[]string{"--checkpoint"}, exitOK, "gen-2/n=2", ""},
		"what is not":   {[]string{"run.sh", "nothing"}, exitFailed, "", `The execution has left no "nothing".`},
		"only the name": {[]string{"two.txt"}, exitFailed, "", `The execution has left no "two.txt".`},
	} {
		t.Run(name, func(t *testing.T) {
			serveFiles(t, files...)
			dir := filepath.Join(t.TempDir(), "new")
			code, out, problem := artifactsCommand(t, append([]string{"download", leftBy, "--dir", dir}, c.args...)...)
			if code != c.code || !strings.Contains(problem, c.problem) {
				t.Fatalf("exit code %d\n%s%s", code, out, problem)
			}
			if code == exitOK && tree(t, dir) != c.want {
				t.Errorf("there are %s\nwant %s", tree(t, dir), c.want)
			}
			if info, err := os.Stat(filepath.Join(dir, "run.sh")); err == nil && info.Mode()&0o100 == 0 {
				t.Error("a program cannot be executed")
			}
		})
	}
}

func TestDownloadStaysInItsFolder(t *testing.T) {
	t.Setenv("FOUNDRY_TOKEN", "fdy_test")
	for _, path := range []string{"../out", "/etc/out", "a/../../out", `..\out`, "a/..", "", "C:/x\x00"} {
		serveFiles(t, left{node: "a", path: path, content: "x"})
		dir := filepath.Join(t.TempDir(), "in")
		if code, out, problem := artifactsCommand(t, "download", leftBy, "--dir", dir); code != exitUsage && code != exitFailed || out != "" {
			t.Errorf("%q: exit code %d, %s%s", path, code, out, problem)
		}
		if got := tree(t, filepath.Dir(dir)); got != "" {
			t.Errorf("%q: there is %s", path, got)
		}
	}
	// A link in the folder leads nowhere.
	serveFiles(t, left{node: "a", path: "link/out", content: "x"})
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if code, _, problem := artifactsCommand(t, "download", leftBy, "--dir", dir); code == exitOK {
		t.Errorf("over a link: %s", problem)
	}
	if got := tree(t, outside); got != "" {
		t.Errorf("over a link: there is %s", got)
	}
}

func TestDownloadGoesOn(t *testing.T) {
	t.Setenv("FOUNDRY_TOKEN", "fdy_test")
	content := strings.Repeat("0123456789", 1000)
	s := serveFiles(t, left{node: "a", path: "file", content: content})
	dir := t.TempDir()
	s.cut = 4000
	code, out, problem := artifactsCommand(t, "download", leftBy, "--dir", dir)
	if code != exitOK || tree(t, dir) != "file="+content {
		t.Fatalf("exit code %d\n%s%s", code, out, problem)
	}
	if !slices.Equal(s.ranges, []string{"", "bytes=4000-"}) {
		t.Errorf("asked for %q", s.ranges)
	}
	s.ranges = nil
	code, out, _ = artifactsCommand(t, "--json", "download", leftBy, "--dir", dir)
	var done list[downloaded]
	if err := json.Unmarshal([]byte(out), &done); err != nil || code != exitOK || len(done.Data) != 1 || done.Data[0].State != "present" || done.Data[0].File != "file" {
		t.Errorf("again: exit code %d, %v\n%s", code, err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, problem := artifactsCommand(t, "download", leftBy, "--dir", dir); code != exitOK || tree(t, dir) != "file="+content {
		t.Errorf("over another file: exit code %d, %s", code, problem)
	}
	if !slices.Equal(s.ranges, []string{""}) {
		t.Errorf("what is there was asked for: %q", s.ranges)
	}
}

func TestDownloadComparesHashes(t *testing.T) {
	t.Setenv("FOUNDRY_TOKEN", "fdy_test")
	s := serveFiles(t, left{node: "a", path: "file", content: "right"})
	s.change = "wrong"
	dir := t.TempDir()
	code, out, problem := artifactsCommand(t, "download", leftBy, "--dir", dir)
	if code == exitOK || !strings.Contains(problem, `"file" has arrived with other bytes`) || tree(t, dir) != "" {
		t.Errorf("exit code %d, there is %q\n%s%s", code, tree(t, dir), out, problem)
	}
}

func TestListOfArtifacts(t *testing.T) {
	t.Setenv("FOUNDRY_TOKEN", "fdy_test")
	serveFiles(t, left{node: "a", path: "x\x1b[2J", content: "1"}, left{node: "fan", index: 2, attempt: 3, checkpoint: 7, path: "gen/y", content: "22"})
	code, out, problem := artifactsCommand(t, "list", leftBy)
	if code != exitOK || strings.Contains(out, "\x1b") || !strings.Contains(out, "checkpoint 7") || !strings.Contains(out, "fan[2]") {
		t.Errorf("exit code %d\n%s%s", code, out, problem)
	}
	code, out, _ = artifactsCommand(t, "list", leftBy, "--json")
	var all list[client.Artifact]
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != exitOK || len(all.Data) != 2 {
		t.Errorf("exit code %d, %v\n%s", code, err, out)
	}
}
