package shim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// Descriptors in the wrapper: where bubblewrap tells its child, the pipe from init to the
// supervisor, and the command's streams. Those are not bubblewrap's own: it lives longer than
// the command and would keep them open.
const (
	infoFD   = 3
	initFD   = 4
	stdoutFD = 5
	stderrFD = 6
)

// isolated runs a command behind bubblewrap:
//
//	supervisor ── bwrap ══ new namespaces ══ shim init (pid 1) ── command
//
// Init reads the command on its stdin and tells over a pipe whether it was executed and how
// it ended. TERM goes to the process group of pid 1, in which the command is too, never to
// bwrap, which would end the namespace at once. Killing pid 1 ends everything in it.
type isolated struct {
	cmd command
	env []string // of bubblewrap
	iso Isolation
	dir directory

	bwrap int // process id
	init  int // process id of the namespace's pid 1, as seen from here; its group too
	exits chan status
	gone  chan struct{}
}

var errIsolation = errors.New("the isolation could not be set up")

const maxWords = 1000 // bytes of bubblewrap's words in an error

// initMessage is a line from init.
type initMessage struct {
	Started bool    `json:"started,omitempty"`
	Error   string  `json:"error,omitempty"`
	Exit    *status `json:"exit,omitempty"`
}

func (p *isolated) start(stdout, stderr *os.File) error {
	becomeSubreaper()
	info, infoWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	defer info.Close()
	messages, messagesWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	stdin, stdinWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	wrapper := command{Argvs: [][]string{p.argv()}, Dir: "/", Env: p.env}
	p.bwrap, err = wrapper.execute([]uintptr{
		stdin.Fd(), logFD, logFD, infoWriter.Fd(), messagesWriter.Fd(), stdout.Fd(), stderr.Fd(),
	}, true)
	stdin.Close()
	infoWriter.Close()
	messagesWriter.Close()
	if err != nil {
		return err
	}
	p.exits, p.gone = make(chan status, 1), make(chan struct{})
	ended := make(chan status, 1)
	go reap(p.bwrap, ended, p.gone)

	// An early end of bwrap shows as the end of the pipes that are read next.
	_ = json.NewEncoder(stdinWriter).Encode(p.cmd)
	stdinWriter.Close()
	lines := bufio.NewReader(messages)
	if p.init, err = readChild(info); err == nil {
		err = readStarted(lines)
	}
	if err != nil {
		p.end()
		return p.explain(err)
	}
	go p.follow(lines, ended)
	return nil
}

func (p *isolated) argv() []string {
	argv := append([]string(nil), p.iso.Argv...)
	// As pid 1 the shim inherits the orphans, and is what --info-fd names.
	argv = append(argv, "--as-pid-1", "--info-fd", fmt.Sprint(infoFD), "--bind", p.dir.file(filesDir), p.iso.Files, "--")
	return append(append(argv, p.iso.Shim...), "init")
}

// follow waits for the command's end. Where init dies without a word it was killed, and
// bwrap tells its exit code.
func (p *isolated) follow(lines *bufio.Reader, ended <-chan status) {
	if m, err := readMessage(lines); err == nil && m.Exit != nil {
		p.exits <- *m.Exit
		return
	}
	st := <-ended
	if st.Code > 128 && st.Signal == 0 {
		st.Signal = syscall.Signal(st.Code - 128)
	}
	p.exits <- st
}

func (p *isolated) exited() <-chan status { return p.exits }

func (p *isolated) signal(s syscall.Signal) {
	select {
	case <-p.gone: // its number may be another's
		return
	default:
	}
	if s == syscall.SIGKILL {
		_ = syscall.Kill(p.init, s)
		return
	}
	_ = syscall.Kill(-p.init, s)
}

// end kills the namespace's pid 1, with which the kernel kills all the others.
func (p *isolated) end() {
	if p.init > 0 {
		p.signal(syscall.SIGKILL)
	} else {
		_ = syscall.Kill(p.bwrap, syscall.SIGKILL)
	}
	<-p.gone
}

// explain adds bubblewrap's own words to the error of an isolation that failed.
func (p *isolated) explain(err error) error {
	if !errors.Is(err, errIsolation) {
		return err
	}
	words, _, _ := readCapped(p.dir.file(logFile), maxWords)
	return fmt.Errorf("%w: %s", err, bytes.TrimSpace(words))
}

func readChild(info io.Reader) (pid int, err error) {
	var child struct {
		PID int `json:"child-pid"`
	}
	if err := json.NewDecoder(info).Decode(&child); err != nil || child.PID <= 0 {
		return 0, errIsolation
	}
	return child.PID, nil
}

func readStarted(lines *bufio.Reader) error {
	m, err := readMessage(lines)
	switch {
	case err != nil:
		return errIsolation
	case m.Error != "":
		return errors.New(m.Error)
	}
	return nil
}

func readMessage(lines *bufio.Reader) (m initMessage, err error) {
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(line, &m)
}

// initMain is pid 1 of the namespace: it executes the command that stdin describes, reaps,
// and stays until it is killed, so that what the command left behind may still write.
func initMain(stdin io.Reader) int {
	for _, fd := range []int{initFD, stdoutFD, stderrFD} {
		syscall.CloseOnExec(fd)
	}
	dropSignals()
	messages := json.NewEncoder(os.NewFile(initFD, "messages"))
	var cmd command
	err := json.NewDecoder(stdin).Decode(&cmd)
	exits, gone := make(chan status, 1), make(chan struct{})
	if err == nil {
		err = cmd.executeAndReap(exits, gone)
	}
	if err != nil {
		_ = messages.Encode(initMessage{Error: strings.TrimSpace(err.Error())})
		return 1
	}
	_ = messages.Encode(initMessage{Started: true})
	st := <-exits
	_ = messages.Encode(initMessage{Exit: &st})
	<-gone
	return 0
}

func (c command) executeAndReap(exits chan<- status, gone chan<- struct{}) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	pid, err := c.execute([]uintptr{null.Fd(), stdoutFD, stderrFD}, false)
	// The streams end when the command and its children have closed them.
	closeErr := errors.Join(syscall.Close(stdoutFD), syscall.Close(stderrFD))
	if err := errors.Join(err, closeErr); err != nil {
		return err
	}
	go reap(pid, exits, gone)
	return nil
}
