package shim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Variables that the shim adds to the command's environment.
const (
	outputsVariable     = "FOUNDRY_OUTPUT"
	summaryVariable     = "FOUNDRY_SUMMARY"
	artifactsVariable   = "FOUNDRY_ARTIFACTS"
	checkpointsVariable = "FOUNDRY_CHECKPOINTS"
)

const (
	pipeWait  = 2 * time.Second // for the pipes of a command that has exited
	exitTries = 30              // to write exit.json, one a second, while the disk is full
)

// runner executes one command, in this process's tree or behind an isolation. Its methods are
// called by one goroutine.
type runner interface {
	// start returns when the command has been executed or has failed to.
	start(stdout, stderr *os.File) error
	// exited tells once how the command ended; its children may live on.
	exited() <-chan status
	// signal reaches the command's process group.
	signal(syscall.Signal)
	// end kills all that is left and returns when nothing is.
	end()
}

// status is how a command ended.
type status struct {
	Code   int            `json:"code"` // 128 + signal for a signal
	Signal syscall.Signal `json:"signal,omitempty"`
}

// supervisor is the process that outlives everybody else who knows the command.
type supervisor struct {
	dir     directory
	spec    Spec
	rec     *recorder
	run     runner
	control <-chan Signal
	pumps   sync.WaitGroup
	exit    Exit
}

// supervise runs one command to its end. It is started by start, with its descriptors.
func supervise(d directory) int {
	// The command dies with the thread that made it (PDEATHSIG), which must be the process.
	runtime.LockOSThread()
	for _, fd := range []int{lockFD, controlFD, readyFD} {
		syscall.CloseOnExec(fd)
	}
	dropSignals()

	ready := os.NewFile(readyFD, "ready")
	s := &supervisor{dir: d, control: readControl()}
	streams, err := s.start()
	if err != nil {
		s.pumps.Wait()
		s.exit.Reason, s.exit.ExitCode, s.exit.Error = StartFailed, -1, err.Error()
		s.finish()
		return report(ready, Result{State: Failed, Error: err.Error()})
	}
	report(ready, Result{State: Started})
	s.wait()
	s.drain(streams)
	s.finish()
	return 0
}

func report(ready *os.File, r Result) int {
	r.Protocol = Protocol
	// Nobody may be listening any more; the files tell the same.
	_ = json.NewEncoder(ready).Encode(r)
	ready.Close()
	return 0
}

// start executes the command and begins to record it. The streams are the reading ends of the pipes of stdout and stderr.
func (s *supervisor) start() (streams []*os.File, err error) {
	s.exit.StartedAt = time.Now()
	if s.spec, err = s.dir.spec(); err != nil {
		return nil, err
	}
	if s.rec, err = newRecorder(s.dir.file(OutputFile), s.spec.OutputLimit); err != nil {
		return nil, err
	}
	if s.run, err = s.newRunner(); err != nil {
		return nil, err
	}
	stdout, stdoutWriter, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	stderr, stderrWriter, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	growPipe(stdoutWriter)
	growPipe(stderrWriter)
	s.pumps.Go(func() { pump(stdout, Stdout, s.rec) })
	s.pumps.Go(func() { pump(stderr, Stderr, s.rec) })
	err = s.run.start(stdoutWriter, stderrWriter)
	stdoutWriter.Close()
	stderrWriter.Close()
	s.exit.StartedAt = time.Now()
	return []*os.File{stdout, stderr}, err
}

func (s *supervisor) newRunner() (runner, error) {
	iso, err := s.dir.isolation()
	if err != nil {
		return nil, err
	}
	files := s.dir.file(filesDir)
	if iso != nil {
		files = iso.Files
	}
	argvs := [][]string{s.spec.Argv}
	if s.spec.Script != "" {
		argvs, err = ShellArgv(s.spec.Shell, files+strings.TrimPrefix(scriptFile, filesDir))
		if err != nil {
			return nil, err
		}
	}
	own, env := splitEnv(os.Environ())
	env = append(env,
		outputsVariable+"="+files+strings.TrimPrefix(outputsFile, filesDir),
		summaryVariable+"="+files+strings.TrimPrefix(summaryFile, filesDir),
		artifactsVariable+"="+files+strings.TrimPrefix(ArtifactsDir, filesDir),
		checkpointsVariable+"="+files+strings.TrimPrefix(CheckpointDir, filesDir))
	cmd := command{Argvs: argvs, Dir: s.spec.Dir, Env: env}
	if iso != nil {
		return &isolated{cmd: cmd, env: own, iso: *iso, dir: s.dir}, nil
	}
	return &process{cmd: cmd}, nil
}

// wait follows the command to its own end, and ends it when its time is up or somebody asks.
func (s *supervisor) wait() {
	var timeout, grace <-chan time.Time
	if s.spec.Timeout > 0 {
		timeout = time.After(s.spec.Timeout)
	}
	stop := func(why Reason, sig Signal) {
		if s.exit.Reason == "" {
			s.exit.Reason = why
		}
		if sig == KILL {
			s.run.signal(syscall.SIGKILL)
			return
		}
		s.run.signal(syscall.SIGTERM)
		if grace == nil {
			grace = time.After(s.spec.Grace)
		}
	}
	for {
		select {
		case st := <-s.run.exited():
			s.exited(st)
			return
		case <-timeout:
			stop(TimedOut, TERM)
		case sig := <-s.control:
			stop(Canceled, sig)
		case <-grace:
			s.run.signal(syscall.SIGKILL)
		}
	}
}

func (s *supervisor) exited(st status) {
	s.exit.EndedAt = time.Now()
	s.exit.ExitCode = st.Code
	if st.Signal != 0 {
		s.exit.Signal = signalName(st.Signal)
	}
	switch {
	case s.exit.Reason != "":
	case st.Signal != 0:
		s.exit.Reason = Signaled
	default:
		s.exit.Reason = Exited
	}
}

// drain gives the pipes of an exited command their time, then ends all that it left behind:
// what should outlive a node is not a node.
func (s *supervisor) drain(streams []*os.File) {
	drained := make(chan struct{})
	go func() {
		s.pumps.Wait()
		close(drained)
	}()
	patience := time.After(pipeWait)
	for waiting := true; waiting; {
		select {
		case <-drained:
			waiting = false
		case <-patience:
			waiting = false
		case sig := <-s.control:
			if sig == KILL {
				waiting = false
			} else {
				s.run.signal(syscall.SIGTERM)
			}
		}
	}
	s.run.end()
	// A descriptor that was passed to a process outside of the command keeps a pipe open for
	// ever. All that the command wrote is in the pipes by now.
	for _, f := range streams {
		_ = f.SetReadDeadline(time.Now())
	}
	<-drained
	for i, f := range streams {
		recordRest(f, Stdout+Stream(i), s.rec)
	}
}

// finish writes exit.json; from then on the directory has ended.
func (s *supervisor) finish() {
	if s.exit.EndedAt.IsZero() {
		s.exit.EndedAt = time.Now()
	}
	if s.rec != nil {
		var err error
		s.exit.OutputSize, s.exit.Truncated, err = s.rec.result()
		if err != nil && s.exit.Error == "" {
			s.exit.Error = err.Error()
		}
	}
	collect(s.dir, s.spec, &s.exit)
	for range exitTries {
		err := s.dir.writeExit(s.exit)
		if err == nil {
			return
		}
		fmt.Fprintln(os.Stderr, "writing exit.json:", err)
		time.Sleep(time.Second)
	}
}

// readControl delivers what signal calls write to the fifo.
func readControl() <-chan Signal {
	_ = syscall.SetNonblock(controlFD, true) // lets the runtime poll it
	fifo := os.NewFile(controlFD, "control")
	signals := make(chan Signal)
	go func() {
		for lines := bufio.NewScanner(fifo); lines.Scan(); {
			signals <- Signal(lines.Text())
		}
	}()
	return signals
}
