//go:build unix && !linux

package shim

import (
	"io/fs"
	"os"
	"syscall"
	"time"
)

const killPoll = 2 * time.Millisecond

// Without /proc and subreapers, what leaves the command's process group is not found.

func becomeSubreaper() {}

func childAttr(ownGroup bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: ownGroup}
}

func becomeVictim() (restore func()) { return func() {} }

// changedAt is the time, in nanoseconds, at which the content of an entry was last changed.
func changedAt(info fs.FileInfo) int64 { return info.ModTime().UnixNano() }

func growPipe(*os.File) {}

func killChildren() {}

func marked(string) (pids []int, sure bool) { return nil, true }
