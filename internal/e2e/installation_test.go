package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"foundry/api/client"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

// installation is one Foundry: a database, a control plane and a worker as two processes.
type installation struct {
	api
	dir      string // working directory and state
	database string
	port     int
	env      []string // of both processes, besides what they need
	serve    *proc
	worker   *proc
}

// start brings up an installation. The control plane has a fixed port, so that it can be started again.
func start(t testing.TB, env ...string) *installation {
	t.Helper()
	i := &installation{api: api{t: t}, dir: workDir(t), database: pgtest.Database(t), env: env}
	i.port = pgtest.FreePort(t)
	i.url = "http://127.0.0.1:" + strconv.Itoa(i.port)
	token := spawn(t, i.dir, environ("DATABASE_URL="+i.database), nil, "admin", "token")
	if code := token.wait(); code != 0 {
		t.Fatalf("admin token: exit code %d: %s", code, token.err.String())
	}
	i.token = strings.TrimSpace(token.out.String())
	i.startServe()
	i.startWorker()
	return i
}

// shortMemory has the reaper declare workers gone as soon as their lease is over, and not only once it has known the database for as long.
// The workers' own lease stays as in production, or what i.env says: a slow machine must not take their work away from them.
const shortMemory = "FOUNDRY_WORKER_LEASE=1s"

func (i *installation) startServe() {
	i.t.Helper()
	i.serve = spawn(i.t, i.dir, i.environ("PORT="+strconv.Itoa(i.port), shortMemory), nil, "serve")
	i.ready()
}

// ready waits for the control plane.
func (i *installation) ready() {
	i.t.Helper()
	eventually(i.t, func() error { return isReady(i.url) })
}

// isReady asks the process at a URL whether it is ready.
func isReady(url string) error {
	resp, err := http.Get(url + "/readyz") //nolint:noctx // eventually gives up
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s/readyz answers %d", url, resp.StatusCode)
	}
	return nil
}

func (i *installation) startWorker() {
	i.t.Helper()
	i.worker = i.anotherWorker()
}

// anotherWorker starts a worker beside those that run.
func (i *installation) anotherWorker() *proc {
	i.t.Helper()
	return spawn(i.t, i.dir, i.environ("PORT=0", "FOUNDRY_STATE_DIR="+filepath.Join(i.dir, "state")), nil, "worker")
}

// kill has a worker die, and its lease be over.
func (i *installation) kill(worker *proc) {
	i.t.Helper()
	worker.stop(syscall.SIGKILL)
	i.expire(worker)
}

// expire waits until a worker that does not renew its lease any more is declared gone. It need not wait for the lease.
func (i *installation) expire(worker *proc) {
	i.t.Helper()
	pool := pgtest.Open(i.t, i.database, postgres.Options{MaxConns: 1})
	pid := worker.cmd.Process.Pid
	eventually(i.t, func() error {
		// Again and again: a renewal that was on its way may come behind it.
		if pgtest.Exec(i.t, pool, "UPDATE workers SET lease_until = now() - interval '1 minute' WHERE pid = $1 AND state <> 'gone'", pid) > 0 {
			return fmt.Errorf("the worker %d is not gone", pid)
		}
		return nil
	})
}

func (i *installation) environ(more ...string) []string {
	return environ(slices.Concat([]string{"DATABASE_URL=" + i.database}, i.env, more)...)
}

// client is the environment of commands that talk to the installation.
func (i *installation) client() []string {
	return environ("FOUNDRY_URL="+i.url, "FOUNDRY_TOKEN="+i.token)
}

// cli runs a command to its end.
func (i *installation) cli(args ...string) *proc {
	i.t.Helper()
	p := spawn(i.t, i.dir, i.client(), nil, args...)
	p.wait()
	return p
}

// must runs a command that succeeds, and returns its stdout.
func (i *installation) must(args ...string) string {
	i.t.Helper()
	p := i.cli(args...)
	if p.code() != 0 {
		i.t.Fatalf("foundry %s: exit code %d\n%s%s", p.name, p.code(), tail(p.out.String()), p.err.String())
	}
	return p.out.String()
}

// push stores a workflow text, with files beside it.
func (i *installation) push(text string, files map[string][]byte) {
	i.t.Helper()
	dir := i.t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			i.t.Fatal(err)
		}
	}
	name := filepath.Join(dir, "workflow.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		i.t.Fatal(err)
	}
	i.must("workflow", "push", name)
}

// in is the same installation for a subtest.
func (i *installation) in(t testing.TB) *installation {
	t.Helper()
	j := *i
	j.t = t
	return &j
}

// api is the HTTP API of an installation.
type api struct {
	t     testing.TB
	url   string
	token string
}

// call asks the API and decodes its answer; it returns the status. 500 and above fail the test.
func (a api) call(method, path string, body, answer any) int {
	t := a.t
	t.Helper()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, a.url+"/api/v1"+path, content)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if answer != nil && resp.StatusCode < 300 {
		if err := json.Unmarshal(text, answer); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, tail(string(text)))
		}
	}
	if resp.StatusCode >= 500 {
		t.Errorf("%s %s: %d %s", method, path, resp.StatusCode, tail(string(text)))
	}
	return resp.StatusCode
}

// queue starts an execution and returns its id.
func (a api) queue(workflow string, inputs map[string]any) string {
	a.t.Helper()
	var queued client.ExecutionQueued
	body := map[string]any{}
	if inputs != nil {
		body["inputs"] = inputs
	}
	if status := a.call(http.MethodPost, "/workflows/"+workflow+"/executions", body, &queued); status != http.StatusAccepted {
		a.t.Fatalf("queuing %s: %d", workflow, status)
	}
	return queued.ID.String()
}

func (i *installation) execution(id string) client.Execution {
	i.t.Helper()
	var e client.Execution
	if status := i.call(http.MethodGet, "/executions/"+id, nil, &e); status != http.StatusOK {
		i.t.Fatalf("reading execution %s: %d", id, status)
	}
	return e
}

func (i *installation) nodes(id string) []client.NodeRun {
	i.t.Helper()
	var runs client.NodeRuns
	if status := i.call(http.MethodGet, "/executions/"+id+"/nodes", nil, &runs); status != http.StatusOK {
		i.t.Fatalf("reading the nodes of %s: %d", id, status)
	}
	return runs.Data
}

// ended waits for the end of an execution.
func (i *installation) ended(id string) client.Execution {
	i.t.Helper()
	var e client.Execution
	eventually(i.t, func() error {
		if e = i.execution(id); e.FinishedAt == nil {
			return fmt.Errorf("execution %s is %s", id, e.Status)
		}
		return nil
	})
	return e
}

// says waits until the node's output holds the text.
func (i *installation) says(id, node, text string) {
	i.t.Helper()
	eventually(i.t, func() error {
		if got := i.logs(id, node); !strings.Contains(string(got), text) {
			return fmt.Errorf("%s says %q", node, tail(string(got)))
		}
		return nil
	})
}

// logs are the bytes that GET …/logs has of a node, nil before it has started.
func (i *installation) logs(id, node string) []byte {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), http.MethodGet, i.url+"/api/v1/executions/"+id+"/logs?node="+node, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+i.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil
	}
	return text
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !os.IsNotExist(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func decode[T any](t testing.TB, text []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
