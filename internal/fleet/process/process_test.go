package process

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"foundry/internal/leaktest"
)

// patience is how long anything may take on a slow machine before a test gives up.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "parent" {
		if err := beParent(os.Args[2]); err != nil {
			panic(err)
		}
		return
	}
	leaktest.Main(m)
}

// beParent is what this test binary does as the process that is killed: it keeps one shell running.
func beParent(script string) error {
	return New(Config{Path: "/bin/sh", Args: []string{"-c", script}, Output: os.Stdout}).Run(context.Background())
}

// lines collects the lines that workers write.
type lines struct {
	*io.PipeWriter
	ch chan string
}

func newLines(t *testing.T) lines {
	t.Helper()
	r, w := io.Pipe()
	l := lines{PipeWriter: w, ch: make(chan string, 100)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(r); s.Scan(); {
			l.ch <- s.Text()
		}
	}()
	t.Cleanup(func() {
		w.Close()
		<-done
	})
	return l
}

func (l lines) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-l.ch:
		return line
	case <-time.After(patience):
		t.Fatalf("no line within %s", patience)
		return ""
	}
}

// start runs a worker; stop ends it and returns what Run returned.
func start(t *testing.T, c Config) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(c).Run(ctx) }()
	stopped := false
	stop = func() error {
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if !stopped {
			if err := stop(); err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	})
	return stop
}

func TestStartsAnotherWorkerWhenOneDies(t *testing.T) {
	t.Parallel()
	out := newLines(t)
	pids := make(chan int, 10)
	ended := make(chan error, 10)
	start(t, Config{
		Path: "/bin/sh", Args: []string{"-c", "echo up; read -r _"}, Output: out,
		Started: func(pid int) { pids <- pid },
		Ended:   func(err error, _ time.Duration) { ended <- err },
	})
	out.next(t)
	first := <-pids
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("ended with %v, want it to say killed", err)
	}
	out.next(t)
	if second := <-pids; second == first {
		t.Errorf("both workers have pid %d", first)
	}
}

func TestPauseGrowsWithEachShortLife(t *testing.T) {
	t.Parallel()
	pauses := make(chan time.Duration, 10)
	start(t, Config{
		Path: "/bin/sh", Args: []string{"-c", "exit 3"},
		Ended: func(_ error, pause time.Duration) { pauses <- pause },
	})
	for want := firstPause; want <= 4*firstPause; want *= 2 {
		if got := <-pauses; got != want {
			t.Errorf("pause %v, want %v", got, want)
		}
	}
}

func TestStopSendsTermAndWaits(t *testing.T) {
	t.Parallel()
	out := newLines(t)
	stop := start(t, Config{
		Path: "/bin/sh", Args: []string{"-c", `trap 'echo drained; exit 0' TERM; echo up; while :; do sleep 0.05; done`}, Output: out,
	})
	out.next(t)
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := out.next(t); got != "drained" {
		t.Errorf("worker wrote %q, want drained", got)
	}
}

func TestStopKillsAfterTheGrace(t *testing.T) {
	t.Parallel()
	out := newLines(t)
	pids := make(chan int, 1)
	stop := start(t, Config{
		Path: "/bin/sh", Args: []string{"-c", `trap '' TERM; echo up; while :; do sleep 0.05; done`}, Output: out,
		Grace: 100 * time.Millisecond, Started: func(pid int) { pids <- pid },
	})
	out.next(t)
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if pid := <-pids; !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		t.Errorf("worker %d is alive after Run has returned", pid)
	}
}

func TestWorkerHasItsOwnProcessGroup(t *testing.T) {
	t.Parallel()
	out := newLines(t)
	pids := make(chan int, 1)
	start(t, Config{
		Path: "/bin/sh", Args: []string{"-c", "echo up; read -r _"}, Output: out,
		Started: func(pid int) { pids <- pid },
	})
	out.next(t)
	pid := <-pids
	group, err := syscall.Getpgid(pid)
	if err != nil || group != pid {
		t.Errorf("process group %d (%v), want %d", group, err, pid)
	}
}

func TestMissingProgramIsAnError(t *testing.T) {
	t.Parallel()
	err := New(Config{Path: t.TempDir() + "/none"}).Run(t.Context())
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Run returned %v, want not exist", err)
	}
}

func TestKilledParentEndsTheWorkersStdin(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The worker says its pid, then that its stdin has ended: in a file, since nobody reads its stdout by then.
	told := t.TempDir() + "/told"
	parent := exec.CommandContext(t.Context(), self, "parent", "echo $$; read -r _; echo gone > "+told+".tmp; mv "+told+".tmp "+told)
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(line)); err != nil || pid == parent.Process.Pid {
		t.Fatalf("the worker says %q (%v)", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	eventually(t, func() bool {
		_, err := os.Stat(told)
		return err == nil
	})
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not within %s", patience)
		}
	}
}

func TestWithParentEndsWithStdin(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	ctx, cancel := WithParent(t.Context(), r)
	defer cancel()
	if ctx.Err() != nil {
		t.Fatal("the context has ended while the parent lives")
	}
	w.Close()
	<-ctx.Done()
	if cause := context.Cause(ctx); cause == nil || !strings.Contains(cause.Error(), "is gone") {
		t.Errorf("cause %v, want one that says the parent is gone", cause)
	}
}
