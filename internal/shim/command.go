package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// command is what is executed in the end, in the supervisor or behind an isolation.
type command struct {
	Argvs [][]string `json:"argvs"` // the first whose program exists is taken
	Dir   string     `json:"dir"`
	Env   []string   `json:"env"` // all of it; of two entries of a name the last one holds
}

// resolve returns the program and arguments of the first argv whose program exists in the
// command's PATH.
func (c command) resolve() (program string, argv []string, err error) {
	for _, argv := range c.Argvs {
		if program, err = lookup(argv[0], c.Dir, c.Env); err == nil {
			return program, argv, nil
		}
	}
	return "", nil, fmt.Errorf("%s: command not found", c.Argvs[0][0])
}

// lookup is exec.LookPath for an environment that is not this process's own.
func lookup(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, executable(name)
	}
	for _, folder := range filepath.SplitList(variable(env, "PATH")) {
		if program := filepath.Join(folder, name); filepath.IsAbs(folder) && executable(program) == nil {
			return program, nil
		}
	}
	return "", fs.ErrNotExist
}

func executable(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode().Perm()&0o111 == 0 {
		return fs.ErrPermission
	}
	return nil
}

// variable returns the value that the last entry of a name gives it.
func variable(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// execute starts the command in a process group of its own, or in that of this process, as the
// likeliest victim when memory runs out.
func (c command) execute(files []uintptr, ownGroup bool) (pid int, err error) {
	if info, err := os.Stat(c.Dir); err != nil || !info.IsDir() {
		return 0, fmt.Errorf("there is no working directory %s", c.Dir)
	}
	program, argv, err := c.resolve()
	if err != nil {
		return 0, err
	}
	restore := becomeVictim()
	defer restore()
	pid, err = syscall.ForkExec(program, argv, &syscall.ProcAttr{
		Dir:   c.Dir,
		Env:   append(lastOfEach(c.Env), "PWD="+c.Dir),
		Files: files,
		Sys:   childAttr(ownGroup),
	})
	if errors.Is(err, syscall.ENOENT) {
		// The program exists, so what is missing is the interpreter that it names.
		return 0, fmt.Errorf("%s: its interpreter is missing", program)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", program, err)
	}
	return pid, nil
}

// lastOfEach drops entries that a later one overrides, and PWD.
func lastOfEach(env []string) []string {
	last := make(map[string]int, len(env))
	for i, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		last[name] = i
	}
	kept := make([]string, 0, len(env)+1)
	for i, entry := range env {
		if name, _, _ := strings.Cut(entry, "="); last[name] == i && name != "PWD" {
			kept = append(kept, entry)
		}
	}
	return kept
}

// reap waits for all children of this process, adopted ones included, until there are none.
// It tells the end of pid on exited and closes gone at the end.
func reap(pid int, exited chan<- status, gone chan<- struct{}) {
	defer close(gone)
	for {
		var ws syscall.WaitStatus
		child, err := syscall.Wait4(-1, &ws, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		if child == pid {
			exited <- statusOf(ws)
		}
	}
}

func statusOf(ws syscall.WaitStatus) status {
	if ws.Signaled() {
		return status{Code: 128 + int(ws.Signal()), Signal: ws.Signal()}
	}
	return status{Code: ws.ExitStatus()}
}

// signalName returns a name such as SIGKILL.
func signalName(s syscall.Signal) string {
	names := map[syscall.Signal]string{
		syscall.SIGHUP: "SIGHUP", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT", syscall.SIGILL: "SIGILL",
		syscall.SIGTRAP: "SIGTRAP", syscall.SIGABRT: "SIGABRT", syscall.SIGBUS: "SIGBUS", syscall.SIGFPE: "SIGFPE",
		syscall.SIGKILL: "SIGKILL", syscall.SIGUSR1: "SIGUSR1", syscall.SIGSEGV: "SIGSEGV", syscall.SIGUSR2: "SIGUSR2",
		syscall.SIGPIPE: "SIGPIPE", syscall.SIGALRM: "SIGALRM", syscall.SIGTERM: "SIGTERM", syscall.SIGXCPU: "SIGXCPU",
		syscall.SIGXFSZ: "SIGXFSZ", syscall.SIGSYS: "SIGSYS",
	}
	if name := names[s]; name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}
