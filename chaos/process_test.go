package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// role is what a process is.
type role string

const (
	worker role = "worker"
	serve  role = "serve"
)

// process is a place for one process of Foundry: when one ends there, the next is started.
type process struct {
	t    *testing.T
	role role
	name string // worker-2
	dir  string // for its logs
	env  func(instance int) []string

	mu       sync.Mutex
	cmd      *exec.Cmd
	exited   chan struct{}
	log      string // file of the present instance
	instance int
	frozen   bool
	expected bool // the end of this instance is the test's doing: it was killed, or told to end
	closed   bool // none is started any more
}

// start starts an instance, and reports whether one runs: none is started in a place that is closed.
func (p *process) start(binary string) bool {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.instance++
	p.log = filepath.Join(p.dir, fmt.Sprintf("%s.%d.log", p.name, p.instance))
	out, err := os.Create(p.log)
	if err != nil {
		p.t.Error(err)
		return false
	}
	defer out.Close()
	cmd := exec.Command(binary, string(p.role))
	cmd.Env, cmd.Dir = p.env(p.instance), p.dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		p.t.Errorf("starting %s: %v", p.name, err)
		return false
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it ended by is in its state
		close(exited)
	}()
	p.cmd, p.exited, p.frozen, p.expected = cmd, exited, false, false
	return true
}

// close says whether the place is closed. Once it is, an instance that runs is the last one, whoever was about to start another.
func (p *process) close(closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = closed
}

func (p *process) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// pid is that of the present instance, 0 if there is none that runs.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || isClosed(p.exited) {
		return 0
	}
	return p.cmd.Process.Pid
}

// strike kills the present instance, or tells it to end, and notes that this is the test's doing: both at once, since the instance may end by itself at
// any time and be followed by another. What it returns is closed when the instance has ended; nil when there is none to be struck, which for SIGTERM is also
// one that is frozen, or was told already: the second SIGTERM is its end at once.
func (p *process) strike(s syscall.Signal) (gone <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || isClosed(p.exited) || s == syscall.SIGTERM && (p.frozen || p.expected) {
		return nil
	}
	p.expected, p.frozen = true, false
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // so that a frozen one is seen to go
	_ = p.cmd.Process.Signal(s)               // it may have ended just now
	return p.exited
}

// signal signals the present instance, and reports whether there was one.
func (p *process) signal(s syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || isClosed(p.exited) {
		return false
	}
	switch s {
	case syscall.SIGSTOP:
		p.frozen = true
	case syscall.SIGCONT:
		p.frozen = false
	}
	_ = p.cmd.Process.Signal(s) // it may have ended just now
	return true
}

func (p *process) isFrozen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen
}

// endLimit is how long an instance may take that was told to end, on the slowest machine.
const endLimit = time.Minute

// end tells the instance to end and waits for that. One that does not end is killed, and an error.
func (p *process) end() error {
	p.signal(syscall.SIGCONT)
	gone := p.gone()
	p.strike(syscall.SIGTERM)
	select {
	case <-gone:
		return nil
	case <-time.After(endLimit):
		p.strike(syscall.SIGKILL)
		<-gone
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.name, endLimit)
	}
}

// endedWell reports whether an instance has ended as one that was told to: with 0, or by the signal where it had just been executed and did
// not listen yet, and so has said nothing.
func (p *process) endedWell(state *os.ProcessState) bool {
	if killedBy(state) == syscall.SIGTERM {
		info, err := os.Stat(p.log)
		return err == nil && info.Size() == 0
	}
	return state.Success()
}

// gone is closed when the present instance has ended.
func (p *process) gone() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		none := make(chan struct{})
		close(none)
		return none
	}
	return p.exited
}

// last says how the instance that has just ended did so, and the failpoint that was to kill it, if one was. Its record need not be the last: the
// process has other goroutines, which may write theirs before the signal takes it away.
func (p *process) last() (state *os.ProcessState, failpoint string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = readLog(p.log, func(r record) { // without a log there is no failpoint
		if r.Message == "failpoint" && r.Action == "kill" {
			failpoint = r.Failpoint
		}
	})
	return p.cmd.ProcessState, failpoint
}

// record is what is read of a line of a log.
type record struct {
	Level     string `json:"level"`
	Message   string `json:"message"`
	Failpoint string `json:"failpoint"`
	Action    string `json:"action"`
	Code      string `json:"code"`
	line      string
}

// bad reports whether nothing that this test does explains the record. That the database was away, or an answer of it lost, is explained.
func (r record) bad() bool {
	switch {
	case strings.HasPrefix(r.line, "panic: "), strings.HasPrefix(r.line, "fatal error: "), strings.Contains(r.line, "40P01"): // a deadlock
		return true
	case r.Message == "request failed" && (r.Code == "unavailable" || r.Code == "unknown"):
		return false
	}
	return r.Level == "error"
}

// readLog calls f for every line of a log. One that is no record has nothing but its text.
func readLog(name string, f func(record)) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		r := record{line: lines.Text()}
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			r = record{line: lines.Text()} // of a panic, or cut short by a kill
		}
		f(r)
	}
	return lines.Err()
}

func killedBy(state *os.ProcessState) syscall.Signal {
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0
	}
	return status.Signal()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
