package hostbox

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	writersPoll     = time.Millisecond
	writersPatience = time.Minute
)

// UntilExecutable returns when nobody has the file open for writing any more: until then Linux refuses to execute it (ETXTBSY). Whoever has
// written a program and closed it is not done: a child that another goroutine forked meanwhile has the file open until it executes
// something itself. f is open for reading only and belongs to this user. Where the file system cannot tell, and after a minute, it returns as well.
func UntilExecutable(f *os.File) {
	for deadline := time.Now().Add(writersPatience); time.Now().Before(deadline); time.Sleep(writersPoll) {
		// A lease for readers is given when there is no writer.
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
		if err == nil {
			_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK) // closing the file gives it back too
			return
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
