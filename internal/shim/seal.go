package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// seal takes the place of a start. It takes no lock: the claim decides between it and a start
// that is in its middle. What a lost supervisor left running is killed.
func seal(d directory) (Result, error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return Result{}, err
	}
	first, err := d.claim(sealedWord)
	if err != nil {
		return Result{}, err
	}
	if first {
		return Result{State: Sealed}, nil
	}
	state, _, err := d.state()
	if err != nil {
		return Result{}, err
	}
	if state == Lost {
		err = KillMarked(outputsVariable + "=" + d.file(outputsFile))
	}
	return Result{State: state}, err
}

// signalAll tells the supervisor the signals, in order.
func signalAll(d directory, names []string) (Result, error) {
	text := ""
	for _, name := range names {
		if s := Signal(name); s != TERM && s != KILL {
			return Result{}, fmt.Errorf("unknown signal %q; it is TERM or KILL", name)
		}
		text += name + "\n"
	}
	err := tell(d, text)
	if err != nil && !errors.Is(err, syscall.ENXIO) && !errors.Is(err, fs.ErrNotExist) {
		return Result{}, err
	}
	state, _, err := d.state()
	return Result{State: state}, err
}

// tell writes to the supervisor's fifo; ENXIO means that there is no reader. No process id is
// stored or read anywhere, so none can have been reused.
func tell(d directory, text string) error {
	f, err := os.OpenFile(d.file(controlFile), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
