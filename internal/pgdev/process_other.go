//go:build !linux

package pgdev

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// endWithParent has no equivalent here: the next supervisor ends what it finds.
func endWithParent(*exec.Cmd, syscall.Signal) {}

// runs reports whether the process is alive, no zombie, and has the word among its arguments.
func runs(pid int, word string) bool {
	out, err := exec.CommandContext(context.Background(), "ps", "-o", "state=,command=", "-p", strconv.Itoa(pid)).Output()
	line := strings.TrimSpace(string(out))
	return err == nil && !strings.HasPrefix(line, "Z") && strings.Contains(line+" ", " "+word+" ")
}

func executable() (string, error) { return os.Executable() }
