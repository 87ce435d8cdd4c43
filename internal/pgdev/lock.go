package pgdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockFile is an open file that may carry a flock. Closing it, or the death of the
// process, releases the lock.
type lockFile struct{ *os.File }

func openLock(path string) (lockFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return lockFile{}, fmt.Errorf("opening lock: %w", err)
	}
	return lockFile{f}, nil
}

// try takes the lock (syscall.LOCK_SH or LOCK_EX) or reports false at once.
func (l lockFile) try(how int) (bool, error) {
	for {
		err := syscall.Flock(int(l.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case errors.Is(err, syscall.EINTR):
			continue
		}
		return false, fmt.Errorf("locking %s: %w", l.Name(), err)
	}
}

// wait takes the lock, trying every 20 ms until the context ends: a blocking flock could
// not be cancelled.
func (l lockFile) wait(ctx context.Context, how int) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := l.try(how)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", l.Name(), context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// unlock releases the lock and keeps the file open.
func (l lockFile) unlock() error {
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_UN); err != nil {
		return fmt.Errorf("unlocking %s: %w", l.Name(), err)
	}
	return nil
}

// held reports whether somebody holds the lock exclusively, through a descriptor of its own.
func held(path string) (bool, error) {
	l, err := openLock(path)
	if err != nil {
		return false, err
	}
	defer l.Close()
	free, err := l.try(syscall.LOCK_SH)
	return !free, err
}
