//go:build unix && !linux

package shim

import (
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

func growPipe(*os.File) {}

func killChildren() {}

func marked(string) []int { return nil }
