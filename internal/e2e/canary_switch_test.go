package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"foundry/internal/pgtest"
	"foundry/internal/secret"
)

// buildUnredacted builds the program with one change: nothing is masked. The product has no such switch, so its source is changed
// on the way to the compiler.
func buildUnredacted(t *testing.T) (name string) {
	t.Helper()
	dir := t.TempDir()
	source, err := filepath.Abs("../redact/set.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const patterns = "func (s *Set) Patterns() *Patterns { return s.patterns.Load() }"
	if strings.Count(string(text), patterns) != 1 {
		t.Fatalf("package redact has no %q", patterns)
	}
	changed, overlay := filepath.Join(dir, "set.go"), filepath.Join(dir, "overlay.json")
	text = []byte(strings.Replace(string(text), patterns, "func (s *Set) Patterns() *Patterns { return nil }", 1))
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{changed: text, overlay: replace} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	name = filepath.Join(dir, "foundry")
	args := slices.Concat([]string{"build", "-overlay", overlay, "-o", name}, raceFlags(), []string{"foundry/cmd/foundry"})
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("building foundry without redaction: %v\n%s", err, out)
	}
	return name
}

// startWithKeys is start for an installation that can keep secrets. The worker's port is known.
func startWithKeys(t *testing.T) (i *installation, workerPort int) {
	t.Helper()
	return startOn(t, pgtest.Database(t), nil)
}

// startOn is startWithKeys on a database. worker may change the worker's command before it starts; nil is fine.
func startOn(t *testing.T, database string, worker func(*exec.Cmd)) (i *installation, workerPort int) {
	t.Helper()
	i = &installation{api: api{t: t}, dir: workDir(t), database: database, port: pgtest.FreePort(t)}
	i.url = "http://127.0.0.1:" + strconv.Itoa(i.port)
	token := spawn(t, i.dir, environ("DATABASE_URL="+i.database), nil, "admin", "token")
	if code := token.wait(); code != 0 {
		t.Fatalf("admin token: exit code %d: %s", code, token.err.String())
	}
	i.token = strings.TrimSpace(token.out.String())
	workerPort = pgtest.FreePort(t)
	keys := "FOUNDRY_ENCRYPTION_KEYS=" + secret.NewKey("test")
	i.serve = spawn(t, i.dir, environ("DATABASE_URL="+i.database, "PORT="+strconv.Itoa(i.port), keys, "LOG_LEVEL=debug"), nil, "serve")
	i.worker = spawn(t, i.dir, environ("DATABASE_URL="+i.database, "PORT="+strconv.Itoa(workerPort), keys, "LOG_LEVEL=debug",
		"FOUNDRY_STATE_DIR="+filepath.Join(i.dir, "state")), worker, "worker")
	for _, port := range []int{i.port, workerPort} {
		eventually(t, func() error { return isReady(fmt.Sprintf("http://127.0.0.1:%d", port)) })
	}
	return i, workerPort
}
