package shim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Descriptors that the supervisor inherits.
const (
	logFD     = 2
	lockFD    = 3
	controlFD = 4
	readyFD   = 5
)

// How long a start waits for another one of the same directory that is in its middle.
const (
	lockWait = 10 * time.Second
	lockPoll = 2 * time.Millisecond
)

// start runs the directory's spec under a supervisor, once.
func start(d directory, self []string) (Result, error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return Result{}, err
	}
	lock, earlier, err := lockNew(d)
	if err != nil || lock == nil {
		return earlier, err
	}
	defer lock.Close()
	if err := prepare(d); err != nil {
		return Result{}, err
	}
	control, err := openControl(d)
	if err != nil {
		return Result{}, err
	}
	defer control.Close()
	first, err := d.claim("started")
	if err != nil {
		return Result{}, err
	}
	if !first {
		return stateOfEarlier(d)
	}
	return spawn(d, self, lock, control)
}

// lockNew takes the lock of a directory in which nothing was started. Where something was, lock
// is nil and earlier the answer.
func lockNew(d directory) (lock *os.File, earlier Result, err error) {
	lock, err = os.OpenFile(d.file(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, Result{}, err
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockPoll) {
		// Looked at before locking: a lock taken here would make a dead supervisor look alive.
		if _, err := os.Stat(d.file(StartedFile)); !errors.Is(err, fs.ErrNotExist) {
			lock.Close()
			earlier, err := stateOfEarlier(d)
			return nil, earlier, err
		}
		err := flock(lock, syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return lock, Result{}, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			lock.Close()
			return nil, Result{}, fmt.Errorf("locking: %w", err)
		}
	}
}

func stateOfEarlier(d directory) (Result, error) {
	state, _, err := d.state()
	if state == Started {
		state = Already
	}
	return Result{State: state}, err
}

// prepare makes what the command will find. It runs under the lock and before the claim, so a
// failure leaves a directory that can be started again.
func prepare(d directory) error {
	spec, err := d.spec()
	if err != nil {
		return err
	}
	if _, err := d.isolation(); err != nil {
		return err
	}
	for _, dir := range []string{ArtifactsDir, CheckpointDir} {
		if err := os.MkdirAll(d.file(dir), 0o700); err != nil {
			return err
		}
	}
	if err := restore(d, spec.Restore); err != nil {
		return err
	}
	for name, content := range map[string]string{scriptFile: spec.Script, outputsFile: "", summaryFile: ""} {
		if err := writeAside(d.file(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// restore moves a checkpoint to where the command finds it, and notes its mark: it is none of the command's own. It may have been moved
// before, by a start that then failed.
func restore(d directory, name string) error {
	if name == "" {
		return nil
	}
	to := filepath.Join(d.file(CheckpointDir), name)
	if !exists(to) {
		if err := os.Rename(filepath.Join(d.file(RestoreDir), name), to); err != nil {
			return err
		}
	}
	info, err := os.Lstat(to)
	if err != nil {
		return err
	}
	return writeAside(d.file(restoredFile), []byte(mark{changedAt(info), name}.String()), 0o600)
}

// openControl makes the fifo and opens it for both ends, so that whoever signals from now on
// finds a reader for exactly as long as a starter or supervisor lives.
func openControl(d directory) (*os.File, error) {
	err := syscall.Mkfifo(d.file(controlFile), 0o600)
	if err != nil && !errors.Is(err, syscall.EEXIST) {
		return nil, fmt.Errorf("making the control fifo: %w", err)
	}
	return os.OpenFile(d.file(controlFile), os.O_RDWR, 0)
}

// spawn starts the supervisor and waits until it has executed the command.
func spawn(d directory, self []string, lock, control *os.File) (Result, error) {
	keepDescriptors()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return Result{}, err
	}
	defer null.Close()
	log, err := os.OpenFile(d.file(logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return Result{}, err
	}
	defer log.Close()
	ready, readyWriter, err := os.Pipe()
	if err != nil {
		return Result{}, err
	}
	defer ready.Close()

	// Its own session lets it survive the starter's; "/" keeps no workspace busy.
	p, err := os.StartProcess(self[0], append(self, "supervise", d.path), &os.ProcAttr{
		Dir:   "/",
		Files: []*os.File{null, null, log, lock, control, readyWriter},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	readyWriter.Close()
	if err != nil {
		return startFailed(d, err)
	}
	_ = p.Release() // nobody waits for it: it outlives this process

	var r Result
	line, err := bufio.NewReader(ready).ReadBytes('\n')
	if err == nil && json.Unmarshal(line, &r) == nil {
		return r, nil
	}
	// It died before it could tell; what it left behind tells.
	return stateOfEarlier(d)
}

// keepDescriptors keeps what this process inherited from being inherited further: a pipe of its
// caller that a supervisor held would keep the caller waiting for as long as the command runs.
func keepDescriptors() {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return // only tidiness is lost
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > logFD {
			syscall.CloseOnExec(fd)
		}
	}
}

// startFailed records that a claimed directory's command was never executed.
func startFailed(d directory, cause error) (Result, error) {
	now := time.Now()
	exit := Exit{Reason: StartFailed, ExitCode: -1, Error: cause.Error(), StartedAt: now, EndedAt: now, OutputSize: d.outputSize()}
	if err := d.writeExit(exit); err != nil {
		return Result{}, errors.Join(cause, err)
	}
	return Result{State: Failed, Error: cause.Error()}, nil
}
