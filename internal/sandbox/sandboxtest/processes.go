package sandboxtest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// uniqueNumber returns an argument for sleep that no other process has.
func uniqueNumber() string {
	return strconv.Itoa(100_000) + "." + strconv.Itoa(100_000_000+rand.IntN(900_000_000))
}

// processesWith returns the command lines, after their process id, in which all the words occur.
func processesWith(words ...string) (found []string) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
next:
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		line := string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		found = append(found, filepath.Base(filepath.Dir(name))+" "+line)
	}
	return found
}

func noProcess(t *testing.T, mark string) {
	t.Helper()
	if found := processesWith(mark); len(found) > 0 {
		t.Fatalf("still running: %q", found)
	}
}

func noFile(t *testing.T, name string) {
	t.Helper()
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s is still there (%v)", name, err)
	}
}

func supervisorOf(t *testing.T, dir string) (pid string) {
	t.Helper()
	found := processesWith(" supervise ", dir)
	equal(t, "supervisors", len(found), 1)
	pid, _, _ = strings.Cut(found[0], " ")
	return pid
}

func killProcess(t *testing.T, words ...string) {
	t.Helper()
	found := processesWith(words...)
	equal(t, "processes", len(found), 1)
	text, _, _ := strings.Cut(found[0], " ")
	pid, err := strconv.Atoi(text)
	noError(t, err)
	noError(t, syscall.Kill(pid, syscall.SIGKILL))
}

// startAndDie runs the command in a session, then kills all of that session's group. Nothing
// may still hold a descriptor that the command has inherited.
func startAndDie(t *testing.T, argv []string) {
	t.Helper()
	stdout, writer, err := os.Pipe()
	noError(t, err)
	defer stdout.Close()
	inherited, extra, err := os.Pipe()
	noError(t, err)
	defer inherited.Close()
	script := append([]string{"-c", `"$@"; echo started; exec sleep 1000`, "starter"}, argv...)
	cmd := exec.CommandContext(t.Context(), "sh", script...)
	cmd.Stdout = writer
	cmd.ExtraFiles = []*os.File{extra, extra, extra, extra, extra} // the supervisor has its own in the first places
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	noError(t, cmd.Start())
	writer.Close()
	extra.Close()
	for seen := ""; !strings.Contains(seen, "started\n"); {
		b := make([]byte, 512)
		n, err := stdout.Read(b)
		seen += string(b[:n])
		noError(t, err)
	}
	noError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	_ = cmd.Wait()
	noError(t, inherited.SetReadDeadline(time.Now().Add(patience)))
	_, err = inherited.Read(make([]byte, 1))
	equal(t, "the end of an inherited pipe", err, io.EOF)
}
