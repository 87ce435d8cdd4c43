package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	// The binary is built by a child of the test, which Go's test cache does not see. This import
	// makes a change of the program a change of the test.
	_ "foundry/internal/cli"
	"foundry/internal/pgtest"
)

// patience is how long anything may take on a slow machine before a test gives up.
const patience = 3 * time.Minute

// binary is the program under test, built by the first test that wants it.
//
//nolint:gochecknoglobals // one for all tests of this process
var (
	buildDir string
	binary   = sync.OnceValues(build)
)

func TestMain(m *testing.M) {
	pgtest.Main(m, goleak.Cleanup(func(code int) {
		if buildDir != "" {
			_ = os.RemoveAll(buildDir) // a temporary folder
		}
		os.Exit(code) //nolint:forbidigo // goleak leaves the exit to whoever cleans up
	}))
}

func build() (string, error) {
	dir, err := os.MkdirTemp("", "foundry-e2e-")
	if err != nil {
		return "", err
	}
	buildDir = dir
	// Another user runs it too.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	name := filepath.Join(dir, "foundry")
	args := slices.Concat([]string{"build", "-o", name}, raceFlags(), []string{"foundry/cmd/foundry"})
	if out, err := exec.CommandContext(context.Background(), "go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building foundry: %w\n%s", err, out)
	}
	return name, nil
}

func program(t testing.TB) string {
	t.Helper()
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// environ is what every process gets: nothing of the developer's settings.
func environ(more ...string) []string {
	base := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8"} //nolint:forbidigo // the children's environment
	return append(base, more...)
}

// proc is a running process. Its output is kept; stop or kill it, or let the end of the test do it.
type proc struct {
	t      testing.TB
	cmd    *exec.Cmd
	name   string
	out    written // stdout
	err    written // stderr
	exited chan struct{}
}

// spawn starts the program. configure may change the command before; nil is fine.
func spawn(t testing.TB, dir string, env []string, configure func(*exec.Cmd), args ...string) *proc {
	t.Helper()
	p := &proc{t: t, name: strings.Join(args, " "), exited: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), program(t), args...)
	p.cmd.Dir, p.cmd.Env = dir, env
	stdout, stderr := p.out.create(t), p.err.create(t)
	defer stdout.Close()
	defer stderr.Close()
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	// A group of its own: a signal to the tests' terminal is not for it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if configure != nil {
		configure(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting foundry %s: %v", p.name, err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit code says it
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if strings.Contains(p.out.String()+p.err.String(), "WARNING: DATA RACE") {
			t.Errorf("foundry %s has a data race", p.name)
		}
		if t.Failed() {
			t.Logf("foundry %s, exit code %d\nstdout:\n%s\nstderr:\n%s", p.name, p.code(), tail(p.out.String()), tail(p.err.String()))
		}
	})
	return p
}

func tail(s string) string {
	const limit = 8 << 10
	if len(s) > limit {
		return "… " + s[len(s)-limit:]
	}
	return s
}

// stop sends a signal and waits for the end.
func (p *proc) stop(signal syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signaling foundry %s: %v", p.name, err)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Errorf("foundry %s does not end on %s", p.name, signal)
		_ = p.cmd.Process.Kill() // so that the test ends
		<-p.exited
	}
}

// wait waits for the end and returns the exit code.
func (p *proc) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("foundry %s has not ended\nstdout:\n%s\nstderr:\n%s", p.name, tail(p.out.String()), tail(p.err.String()))
	}
	return p.code()
}

func (p *proc) code() int { return p.cmd.ProcessState.ExitCode() }

// waitFor waits until stdout holds the text.
func (p *proc) waitFor(text string) {
	p.t.Helper()
	eventually(p.t, func() error {
		if strings.Contains(p.out.String(), text) {
			return nil
		}
		select {
		case <-p.exited:
			p.t.Fatalf("foundry %s has ended with %d before it said %q\nstdout:\n%s\nstderr:\n%s", p.name, p.code(), text, tail(p.out.String()), tail(p.err.String()))
		default:
		}
		return fmt.Errorf("foundry %s has not said %q", p.name, text)
	})
}

// eventually waits until check returns nil.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("after %s: %v", patience, err)
		}
	}
}

// written is what a process writes, in a file: it is whole as soon as the process has ended, whoever else holds it open.
type written struct {
	t    testing.TB
	name string
}

// create makes the file, for a process to append to.
func (w *written) create(t testing.TB) *os.File {
	t.Helper()
	w.t, w.name = t, filepath.Join(t.TempDir(), "written")
	file, err := os.OpenFile(w.name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func (w *written) Bytes() []byte {
	w.t.Helper()
	text, err := os.ReadFile(w.name)
	if err != nil {
		w.t.Error(err)
	}
	return text
}

func (w *written) String() string { return string(w.Bytes()) }
