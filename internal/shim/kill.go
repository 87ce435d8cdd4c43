package shim

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	endPoll = 5 * time.Millisecond
	endWait = 10 * time.Second // for supervisors to report, and for killed processes to go
)

// EndAll kills every command that runs in the directories of root and lets its supervisor
// report that, then kills every process whose environment has the entry mark (NAME=value),
// and returns when none is left. Nothing must be started in root meanwhile.
func EndAll(root, mark string) error {
	dirs, err := filepath.Glob(filepath.Join(root, "*", StartedFile))
	if err != nil {
		return err
	}
	deadline := time.Now().Add(endWait)
	for _, name := range dirs {
		// One that has ended or was never started has no reader.
		_ = tell(directory{filepath.Dir(name)}, string(KILL)+"\n")
	}
	for _, name := range dirs {
		d := directory{filepath.Dir(name)}
		for held, err := d.lockHeld(); held && err == nil && time.Now().Before(deadline); held, err = d.lockHeld() {
			time.Sleep(endPoll)
		}
	}
	return KillMarked(mark)
}

// KillMarked kills every process in whose environment the entry (NAME=value) was when it was
// executed, until none is left. It cannot see processes of other users, nor any on a
// system without /proc.
func KillMarked(entry string) error {
	// One look may miss the child of a process that went while the list was read. The next one has it.
	for deadline, none := time.Now().Add(endWait), 0; ; time.Sleep(endPoll) {
		pids, sure := marked(entry)
		if len(pids) > 0 || !sure {
			none = 0
		} else if none++; none == 2 {
			return nil
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("killing process %d: %w", pid, err)
			}
		}
		if time.Now().Before(deadline) {
			continue
		}
		if len(pids) == 0 {
			return nil // something that cannot be looked at has been executing all the time
		}
		return fmt.Errorf("processes %v do not end", pids)
	}
}

// dropSignals catches what would end this process and drops it. It does not ignore them: what
// is ignored stays so in the commands that are executed.
func dropSignals() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE)
}
