package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"foundry/api/client"
	"foundry/internal/devstack"
	"foundry/internal/event"
	"foundry/internal/pgtest"
)

// nobody is a user id that owns nothing.
const nobody = 65534

// dev is a `foundry dev` in a folder of its own.
type dev struct {
	*proc
	api
	dir   string
	state devstack.State
}

// startDev starts one on a fresh database and waits until it is up.
func startDev(t *testing.T) *dev {
	t.Helper()
	d := &dev{dir: workDir(t)}
	d.proc = spawn(t, d.dir, environ("DATABASE_URL="+pgtest.Database(t)), nil, "dev", "--addr", "127.0.0.1:0")
	d.waitFor("hello#1 completed")
	state, err := devstack.ReadState(filepath.Join(d.dir, devstack.Dir))
	if err != nil {
		t.Fatal(err)
	}
	d.state, d.api = state, api{t, state.URL, state.Token}
	return d
}

// worker waits for the one worker that takes work, and returns its pid, which is not that of another before it; 0 if there was none.
func (d *dev) worker(before int) (pid int) {
	d.proc.t.Helper()
	eventually(d.proc.t, func() error {
		var list client.Workers
		d.call(http.MethodGet, "/workers", nil, &list)
		for _, w := range list.Data {
			if w.State == client.Active && w.Pid != before && alive(w.Pid) {
				pid = w.Pid
				return nil
			}
		}
		return fmt.Errorf("no live worker among %d", len(list.Data))
	})
	return pid
}

// hold starts an execution of gate, waits for its first line, and returns it with what is known of its command.
func (d *dev) hold() (id string, command held) {
	d.proc.t.Helper()
	if status := d.call(http.MethodPost, "/workflows", client.NewWorkflow{Source: gate}, nil); status != http.StatusCreated {
		d.proc.t.Fatalf("storing gate: %d", status)
	}
	id = d.queue("gate", nil)
	eventually(d.proc.t, func() error {
		var runs client.NodeRuns
		d.call(http.MethodGet, "/executions/"+id+"/nodes", nil, &runs)
		for _, n := range runs.Data {
			if n.SandboxID != nil && n.StdoutBytes > 0 {
				command = held{t: d.proc.t, state: filepath.Join(d.dir, devstack.Dir), sandbox: n.SandboxID.String(), run: n.ID.String()}
				return nil
			}
		}
		return errors.New("the command has not said anything")
	})
	d.proc.t.Cleanup(func() { // whatever happens, it must not run for ever
		if d.proc.t.Failed() && len(sandboxProcesses(d.proc.t, command.sandbox)) > 0 {
			openGate(d.proc.t, command.state, command.sandbox)
		}
	})
	return id, command
}

// held is a command of gate, seen from the machine.
type held struct {
	t                   testing.TB
	state, sandbox, run string
}

func (h held) file(name string) string {
	return filepath.Join(h.state, "sandboxes", h.sandbox, "shim", h.run, name)
}

func (h held) size() int64 {
	h.t.Helper()
	info, err := os.Stat(h.file("output"))
	if err != nil {
		h.t.Fatal(err)
	}
	return info.Size()
}

// lives checks that the command goes on and that no worker is above it.
func (h held) lives(worker int) {
	h.t.Helper()
	running := sandboxProcesses(h.t, h.sandbox)
	if len(running) == 0 {
		h.t.Fatal("the command is gone")
	}
	for _, process := range running {
		number, _, _ := strings.Cut(process, " ")
		for pid := number; pid != "" && pid != "0"; pid = parent(pid) {
			if pid == strconv.Itoa(worker) {
				h.t.Errorf("process %s is below the worker %d", process, worker)
			}
		}
	}
	before := h.size()
	eventually(h.t, func() error {
		if h.size() > before {
			return nil
		}
		return errors.New("the output does not grow")
	})
}

// goOn lets the command go on to its end. A worker that sees the end destroys the sandbox, and its files with it, at once.
func (h held) goOn() {
	h.t.Helper()
	openGate(h.t, h.state, h.sandbox)
}

// ends lets the command go on and waits until the shim has told its end. No worker may be there, which would take the file away.
func (h held) ends() {
	h.t.Helper()
	h.goOn()
	eventually(h.t, func() error {
		_, err := os.Stat(h.file("exit.json"))
		return err
	})
}

// parent reads the parent of a process, "" when it is gone.
func parent(pid string) string {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return ""
	}
	return fields[1]
}

func TestDevSurvivesItsWorker(t *testing.T) {
	t.Parallel()
	d := startDev(t)
	id, command := d.hold()
	first := d.worker(0)
	command.lives(first)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.worker(first) // the API answers all the while: call fails the test otherwise
	command.lives(first)
	if again := d.queue("hello", nil); again == "" {
		t.Error("no execution can be queued")
	}
	eventually(t, func() error { // the second worker takes over what the first has held
		var page client.EventPage
		d.call(http.MethodGet, "/executions/"+id+"/events?limit=1000&logs=none", nil, &page)
		for _, e := range page.Data {
			if e.Type == string(event.NodeAttached) {
				return nil
			}
		}
		return errors.New("nobody has taken over")
	})
	command.goOn()
	var e client.Execution
	eventually(t, func() error {
		d.call(http.MethodGet, "/executions/"+id, nil, &e)
		if e.FinishedAt == nil {
			return fmt.Errorf("it is %s", e.Status)
		}
		return nil
	})
	if e.Status != client.ExecutionStatusCompleted {
		t.Errorf("the execution of the killed worker is %s: %+v", e.Status, e.Error)
	}
	var runs client.NodeRuns
	d.call(http.MethodGet, "/executions/"+id+"/nodes", nil, &runs)
	if len(runs.Data) != 1 || runs.Data[0].Attempt != 1 {
		t.Errorf("node runs %+v", runs.Data)
	}
}

func TestKilledDevLeavesNoWorker(t *testing.T) {
	t.Parallel()
	d := startDev(t)
	_, command := d.hold()
	worker := d.worker(0)
	d.stop(syscall.SIGKILL)
	eventually(t, func() error {
		if alive(worker) {
			return fmt.Errorf("the worker %d lives on", worker)
		}
		return nil
	})
	command.lives(worker)
	command.ends()

	// What is left of it is in nobody's way.
	again := spawn(t, d.dir, environ("DATABASE_URL="+d.state.DatabaseURL), nil, "dev", "--addr", "127.0.0.1:0", "--once")
	if code := again.wait(); code != 0 {
		t.Errorf("the next dev in the folder ends with %d", code)
	}
}

func TestDevInFolders(t *testing.T) {
	t.Parallel()
	one, two := startDev(t), startDev(t)
	if one.state.URL == two.state.URL {
		t.Errorf("both answer at %s", one.state.URL)
	}
	third := spawn(t, one.dir, environ("DATABASE_URL="+one.state.DatabaseURL), nil, "dev", "--addr", "127.0.0.1:0")
	if code := third.wait(); code != 1 || !strings.Contains(third.err.String(), "already runs in this folder at "+one.state.URL) {
		t.Errorf("a second dev in the folder ends with %d and %q", code, third.err.String())
	}
	taken := spawn(t, t.TempDir(), environ("DATABASE_URL="+one.state.DatabaseURL), nil, "dev", "--addr", strings.TrimPrefix(one.state.URL, "http://"))
	if code := taken.wait(); code != 1 || !strings.Contains(taken.err.String(), "--addr") {
		t.Errorf("a dev on a taken port ends with %d and %q", code, taken.err.String())
	}
	below := filepath.Join(one.dir, "some", "where")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	list := spawn(t, below, environ(), nil, "executions")
	if code := list.wait(); code != 0 || !strings.Contains(list.out.String(), "hello#1") {
		t.Errorf("executions below the folder ends with %d: %s%s", code, list.out.String(), list.err.String())
	}
	token := spawn(t, below, environ(), nil, "admin", "token", "--json")
	if code := token.wait(); code != 0 || !strings.Contains(token.out.String(), `"token":"fdy_`) {
		t.Errorf("admin token below the folder ends with %d: %s", code, token.err.String())
	}
	worker := one.worker(0)
	one.stop(syscall.SIGTERM)
	if code := one.code(); code != 0 {
		t.Errorf("dev ends with %d on SIGTERM, want 0", code)
	}
	two.stop(syscall.SIGINT)
	if code := two.code(); code != 0 {
		t.Errorf("dev ends with %d on Ctrl-C, want 0", code)
	}
	if alive(worker) {
		t.Errorf("the worker %d has outlived dev", worker)
	}
	if _, err := devstack.ReadState(filepath.Join(one.dir, devstack.Dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("dev.json is left behind (%v)", err)
	}
	gone := spawn(t, below, environ(), nil, "executions")
	if code := gone.wait(); code != 2 || !strings.Contains(gone.err.String(), "foundry dev") {
		t.Errorf("executions without a server ends with %d and %q", code, gone.err.String())
	}
}

func TestDevOnceWithItsOwnPostgres(t *testing.T) {
	t.Parallel()
	users := map[string]int{"this user": os.Geteuid(), "another user": nobody}
	for name, uid := range users {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if uid != os.Geteuid() && os.Geteuid() != 0 {
				t.Skip("only root can become another user")
			}
			devOnce(t, uid)
		})
	}
}

func devOnce(t *testing.T, uid int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "foundry-dev-") //nolint:usetesting // what is above t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, -1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after dev has ended
		endSandboxes(t, dir)
		removeCluster(t, clusterOf(t, dir), dir)
	})
	env := append(environ(), "HOME="+dir)
	d := spawn(t, dir, env, func(cmd *exec.Cmd) {
		if uid != os.Geteuid() {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: nobody}
		}
	}, "dev", "--once", "--addr", "127.0.0.1:0")
	d.waitFor("Foundry starts.")
	if code := d.wait(); code != 0 {
		t.Fatalf("dev --once ends with %d", code)
	}
	for _, want := range []string{"  postgres ", "  sandbox ", "  worker ", "tell | Hello, world! I have counted to 3.\n", "hello#1 completed"} {
		if !strings.Contains(d.out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, d.out.String())
		}
	}
}

// clusterOf returns the folder of the database server that a dev in dir has started, which package pgdev chooses: below dir, or elsewhere for
// root. What dev.json says of it is gone when dev is.
func clusterOf(t testing.TB, dir string) string {
	t.Helper()
	own := filepath.Join(dir, devstack.Dir, "postgres")
	sum := sha256.Sum256([]byte(own))
	hash := hex.EncodeToString(sum[:6])
	for _, base := range []string{own, "/var/lib/foundry-dev/" + hash, "/tmp/foundry-0-" + hash} {
		found, err := filepath.Glob(filepath.Join(base, "pg*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 1 {
			return found[0]
		}
	}
	t.Fatalf("the database server of the dev in %s is not found", dir)
	return ""
}

// removeCluster waits until nobody uses the server and it has stopped.
func removeCluster(t testing.TB, cluster, dir string) {
	t.Helper()
	eventually(t, func() error {
		if _, err := os.Stat(filepath.Join(cluster, "cluster", "data", "postmaster.pid")); err == nil {
			return errors.New("PostgreSQL still runs")
		}
		return nil
	})
	for _, name := range []string{cluster, dir} {
		if err := os.RemoveAll(name); err != nil {
			t.Error(err)
		}
	}
	// Root's cluster has a folder around it; elsewhere it is not empty, or gone.
	_ = os.Remove(filepath.Dir(cluster))
}
