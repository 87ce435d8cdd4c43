package pgdev

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// endWithParent has the kernel signal the process when the thread that starts it ends:
// call it under runtime.LockOSThread.
func endWithParent(cmd *exec.Cmd, signal syscall.Signal) {
	cmd.SysProcAttr.Pdeathsig = signal
}

// runs reports whether the process is alive and has the word among its arguments. A
// zombie has none any more. Arguments, unlike the working directory, can be read by all.
func runs(pid int, word string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(append(line, 0), []byte("\x00"+word+"\x00"))
}

// executable returns a path to this program that holds even when its file is removed, as
// go run and go test do.
func executable() (string, error) {
	path, err := os.Executable()
	if err != nil || strings.HasSuffix(path, " (deleted)") {
		return "/proc/self/exe", nil
	}
	return path, nil
}
