package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Files of a directory beside those of wire.go.
const (
	lockFile     = "lock" // held by the supervisor for as long as it lives
	exitFile     = "exit.json"
	controlFile  = "control"        // fifo: names of signals, one a line, read by the supervisor
	logFile      = "supervisor.log" // what a defect of the supervisor prints
	doneFile     = "done"           // the caller has recorded everything
	restoredFile = "restored"       // the mark of the checkpoint that the start restored
	filesDir     = "files"          // what the command sees
	scriptFile   = "files/script"
	outputsFile  = "files/output"
	summaryFile  = "files/summary"
)

const sealedWord = "sealed"

// directory is one shim directory; the methods read and never lock anybody out.
type directory struct{ path string }

func (d directory) file(name string) string { return filepath.Join(d.path, name) }

// state tells what the directory is. exit is set for Ended only.
func (d directory) state() (State, *Exit, error) {
	word, err := os.ReadFile(d.file(StartedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return New, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	if string(word) == sealedWord {
		return Sealed, nil, nil
	}
	if exit := d.exit(); exit != nil {
		return Ended, exit, nil
	}
	held, err := d.lockHeld()
	if err != nil {
		return "", nil, err
	}
	if held {
		return Started, nil, nil
	}
	// The supervisor may have ended between the two looks.
	if exit := d.exit(); exit != nil {
		return Ended, exit, nil
	}
	return Lost, nil, nil
}

// exit returns the content of exit.json, or nil when there is none that can be believed: a
// crash of the machine may leave a file without its content, or an output file without its
// end. That is why nothing is synced: such a directory counts as lost.
func (d directory) exit() *Exit {
	b, err := os.ReadFile(d.file(exitFile))
	if err != nil {
		return nil
	}
	var exit Exit
	if err := json.Unmarshal(b, &exit); err != nil || exit.Reason == "" {
		return nil
	}
	if exit.OutputSize > d.outputSize() {
		return nil
	}
	return &exit
}

func (d directory) outputSize() int64 {
	info, err := os.Stat(d.file(OutputFile))
	if err != nil {
		return 0
	}
	return info.Size()
}

// lockHeld looks with a shared lock, so that two who look do not see each other.
func (d directory) lockHeld() (bool, error) {
	f, err := os.Open(d.file(lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = flock(f, syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// claim makes the started file with the word, unless there is one already. A link makes it at once: whoever finds the file finds its
// word, and a word that cannot be stored leaves no file.
func (d directory) claim(word string) (bool, error) {
	aside, err := os.CreateTemp(d.path, ".started-*")
	if err != nil {
		return false, err
	}
	defer os.Remove(aside.Name())
	_, err = aside.WriteString(word)
	if err := errors.Join(err, aside.Close()); err != nil {
		return false, err
	}
	err = os.Link(aside.Name(), d.file(StartedFile))
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

func (d directory) writeExit(exit Exit) error {
	exit.Protocol = Protocol
	b, err := json.Marshal(exit)
	if err != nil {
		return err
	}
	return writeAside(d.file(exitFile), b, 0o600)
}

func (d directory) spec() (Spec, error) {
	b, err := os.ReadFile(d.file(SpecFile))
	if err != nil {
		return Spec{}, err
	}
	var s Spec
	if err := json.Unmarshal(b, &s); err != nil {
		return Spec{}, fmt.Errorf("reading %s: %w", SpecFile, err)
	}
	return s.withDefaults(), s.Validate()
}

// isolation reads the provider's wish; nil is none.
func (d directory) isolation() (*Isolation, error) {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(d.path), IsolationFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no isolation is a valid answer
	}
	if err != nil {
		return nil, err
	}
	var iso Isolation
	if err := json.Unmarshal(b, &iso); err != nil {
		return nil, fmt.Errorf("reading %s: %w", IsolationFile, err)
	}
	if len(iso.Argv) == 0 || len(iso.Shim) == 0 || iso.Files == "" {
		return nil, fmt.Errorf("%s is incomplete", IsolationFile)
	}
	return &iso, nil
}

// writeAside writes a file under another name and renames it.
func writeAside(name string, content []byte, mode fs.FileMode) error {
	tmp := name + ".tmp"
	if err := os.WriteFile(tmp, content, mode); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
