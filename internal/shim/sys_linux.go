package shim

import (
	"bytes"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	killPoll = 2 * time.Millisecond

	prSetChildSubreaper = 36   // linux/prctl.h
	fSetPipeSize        = 1031 // linux/fcntl.h: F_SETPIPE_SZ
	pipeSize            = 256 << 10
)

const oomScoreFile = "/proc/self/oom_score_adj"

// becomeSubreaper makes this process the parent of its descendants' orphans.
func becomeSubreaper() {
	// It fails on no kernel that Go supports.
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
}

// childAttr lets a child die with the thread that made it.
func childAttr(ownGroup bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: ownGroup, Pdeathsig: syscall.SIGKILL}
}

// becomeVictim makes children of this process the first that the kernel kills when memory
// runs out, until restore is called. A child inherits it, so not even its first instant is
// unprotected; going back needs no privilege, since it was raised without one.
func becomeVictim() (restore func()) {
	before, err := os.ReadFile(oomScoreFile)
	if err != nil || os.WriteFile(oomScoreFile, []byte("1000"), 0) != nil {
		return func() {}
	}
	return func() { _ = os.WriteFile(oomScoreFile, bytes.TrimSpace(before), 0) }
}

// changedAt is the time, in nanoseconds, at which an entry was last renamed or otherwise changed.
func changedAt(info fs.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ctim.Nano()
	}
	return info.ModTime().UnixNano()
}

// growPipe gives bursts room; a smaller pipe is slower, not wrong.
func growPipe(f *os.File) {
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), fSetPipeSize, pipeSize)
}

// killChildren kills the living children of this process, not theirs.
func killChildren() {
	self := strconv.Itoa(os.Getpid())
	for _, pid := range processes() {
		if fields := stat(pid); fields != nil && fields[statState] != "Z" && fields[statParent] == self {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// Fields of what stat returns.
const (
	statState    = 0
	statParent   = 1
	statMemory   = 20 // bytes of the address space
	statEnvStart = 47
	statEnvEnd   = 48
)

// stat returns what /proc/pid/stat says behind the name, which is in parentheses and may hold anything; nil for a process that has gone.
func stat(pid int) []string {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	fields := strings.Fields(string(line[bytes.LastIndexByte(line, ')')+1:]))
	if len(fields) <= statEnvEnd {
		return nil
	}
	return fields
}

// marked returns the processes, this one excepted, in whose environment the entry was when
// they were executed. It is not sure while there is one that executes something now and has no environment yet.
func marked(entry string) (pids []int, sure bool) {
	sure = true
	for _, pid := range processes() {
		environ, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil || pid == os.Getpid() {
			continue
		}
		if len(environ) == 0 {
			sure = sure && !executing(pid)
			continue
		}
		for variable := range bytes.SplitSeq(environ, []byte{0}) {
			if string(variable) == entry {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids, sure
}

// executing reports whether a process whose environment was just empty may get one: it has memory, which a zombie and the kernel's own have not, and
// the bounds of the environment are not set, or not those of an empty one.
func executing(pid int) bool {
	fields := stat(pid)
	return fields != nil && fields[statMemory] != "0" && (fields[statEnvStart] == "0" || fields[statEnvStart] != fields[statEnvEnd])
}

func processes() (pids []int) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
