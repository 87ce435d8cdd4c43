package devstack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"foundry/internal/errs"
)

const (
	// Dir is the name of the folder that holds everything.
	Dir       = ".foundry"
	stateFile = "dev.json"
	lockFile  = "lock"
)

// State is how commands reach the installation that runs in a folder.
type State struct {
	URL         string `json:"url"`
	Token       string `json:"token"`
	DatabaseURL string `json:"database_url"`
	PID         int    `json:"pid"`
}

// ReadState reads the state of the installation in a folder named Dir. os.ErrNotExist when there is
// none.
func ReadState(dir string) (State, error) {
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return State{}, fmt.Errorf("reading the state of foundry dev: %w", err)
	}
	var s State
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, errs.E(errs.Invalid, "%s cannot be read; `foundry dev` writes it anew.", filepath.Join(dir, stateFile)).Because(err)
	}
	return s, nil
}

// write puts the state into the folder at once: whoever reads sees the old one or the new one.
func (s State) write(dir string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding the state: %w", err)
	}
	if err := writeWhole(dir, stateFile, append(text, '\n')); err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	return nil
}

// writeWhole puts a file that only its owner can read into the folder at once.
func writeWhole(dir, name string, content []byte) error {
	aside, err := os.CreateTemp(dir, name+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(aside.Name())
	_, err = aside.Write(content)
	if err := errors.Join(err, aside.Close()); err != nil {
		return err
	}
	return os.Rename(aside.Name(), filepath.Join(dir, name))
}

// prepare makes the folder, which git ignores by itself, and takes its lock. Closing the file releases
// the lock, and so does the death of this process.
func prepare(dir string) (lock *os.File, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte("*\n"), 0o600); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	lock, err = os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return lock, nil
	}
	defer lock.Close()
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("locking the state folder: %w", err)
	}
	where := ""
	if s, err := ReadState(dir); err == nil {
		where = fmt.Sprintf(" at %s, as process %d", s.URL, s.PID)
	}
	return nil, errs.E(errs.Conflict, "`foundry dev` already runs in this folder%s.", where)
}
