package pgdev

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// SuperviseArg is the hidden first argument with which a program that calls Start
	// re-executes itself. Its main looks for it before anything else:
	//
	//	if len(os.Args) > 1 && os.Args[1] == pgdev.SuperviseArg {
	//		os.Exit(pgdev.SuperviseMain(os.Args[2:]))
	//	}
	SuperviseArg = "pg-supervise"

	stepDetach = "detach" // starts the next step in its own session and exits
	stepRun    = "run"    // is the supervisor
	detached   = "detached\n"

	userCheck       = 500 * time.Millisecond
	restartDelay    = 200 * time.Millisecond
	shortLife       = 2 * time.Second // a postmaster that lived for less did not start
	maxShortLives   = 30
	fastShutdown    = 10 * time.Second // then SIGQUIT
	harshShutdown   = 5 * time.Second  // then SIGKILL
	maxLogSize      = 4 << 20
	logTailForError = 2 << 10
)

// supervision is what a supervisor must know; it travels as JSON in its arguments.
type supervision struct {
	Place  place
	Bin    string
	Kind   Kind
	Linger time.Duration // how long the server stays without users
}

// SuperviseMain is what a program does when its first argument is SuperviseArg; args are
// the ones behind it. It returns the exit code.
func SuperviseMain(args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "This command is used by Foundry itself.")
		return 2
	}
	var s supervision
	err := json.Unmarshal([]byte(args[1]), &s)
	if err == nil {
		switch args[0] {
		case stepDetach:
			err = s.detach(args[1])
		case stepRun:
			err = s.run()
		default:
			err = fmt.Errorf("unknown step %q", args[0])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "supervising PostgreSQL:", err)
		return 1
	}
	return 0
}

// spawn starts a supervisor that this process is not the parent of, so that nobody here
// has to reap it. Too many supervisors do no harm: one gets the lock, the others exit.
func (s supervision) spawn(ctx context.Context) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding the supervisor's arguments: %w", err)
	}
	self, err := executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := account{}.command(exec.CommandContext(ctx, self, SuperviseArg, stepDetach, string(text)))
	cmd.Env = append(cmd.Env, supervisedEnv+"=1")
	cmd.SysProcAttr.Setsid = true
	out, err := cmd.Output()
	if string(out) != detached {
		return fmt.Errorf("re-executing %s as supervisor (does its main call pgdev.SuperviseMain, "+
			"its TestMain pgtest.Main?): %w", self, errors.Join(err, exitText(err)))
	}
	return nil
}

// exitText returns what a failed command wrote to stderr.
func exitText(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
		return errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return nil
}

func (s supervision) detach(text string) error {
	self, err := executable()
	if err != nil {
		return err
	}
	log, err := s.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	// It outlives this process, so no context ends it.
	cmd := exec.CommandContext(context.Background(), self, SuperviseArg, stepRun, text) //nolint:gosec // text was parsed
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = fmt.Fprint(os.Stdout, detached)
	return err
}

// openLog opens the log of supervisor and server for appending, emptied when it has grown.
func (s supervision) openLog() (*os.File, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if info, err := os.Stat(s.Place.log()); err == nil && info.Size() > maxLogSize {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(s.Place.log(), flags, 0o600)
}

// run is the supervisor's life. A failure is left in a file for those who wait.
func (s supervision) run() error {
	// PDEATHSIG comes when the thread dies that started the child, not the process.
	runtime.LockOSThread()
	server, err := openLock(s.Place.server())
	if err != nil {
		return err
	}
	defer server.Close()
	first, err := server.try(syscall.LOCK_EX)
	if err != nil || !first {
		return err
	}
	users, err := openLock(s.Place.users())
	if err != nil {
		return err
	}
	defer users.Close()
	// Whoever starts a supervisor is a user. A late one may find that another one has served them, and that they are gone.
	unused, err := users.try(syscall.LOCK_EX)
	if err != nil || unused {
		return err
	}
	if err := s.serve(users); err != nil {
		tail := s.logTail()
		return errors.Join(err, os.WriteFile(s.Place.failed(), []byte(err.Error()+"\n"+tail), 0o600))
	}
	return nil
}

// serve keeps a postmaster running until nobody uses it.
func (s supervision) serve(users lockFile) error {
	if err := s.prepare(); err != nil {
		return err
	}
	for shortLives := 0; shortLives < maxShortLives; {
		if err := s.endStale(); err != nil {
			return err
		}
		started := time.Now()
		cmd, exited, err := s.start()
		if err != nil {
			return err
		}
		unused, err := s.watch(users, exited)
		if unused || err != nil {
			return errors.Join(err, stop(cmd, exited))
		}
		if time.Since(started) < shortLife {
			shortLives++
		} else {
			shortLives = 0
		}
		time.Sleep(restartDelay)
	}
	return errors.New("PostgreSQL does not start")
}

// watch returns true when nobody has used the server for the linger time, and then holds
// the users' lock: who comes now waits until the server is down and starts another.
// It returns false when the postmaster has exited.
func (s supervision) watch(users lockFile, exited <-chan struct{}) (unused bool, err error) {
	ticker := time.NewTicker(userCheck)
	defer ticker.Stop()
	lastUsed := time.Now()
	for {
		select {
		case <-exited:
			return false, nil
		case <-ticker.C:
		}
		alone, err := users.try(syscall.LOCK_EX)
		if err != nil {
			return false, err
		}
		if !alone {
			lastUsed = time.Now()
			continue
		}
		if time.Since(lastUsed) >= s.Linger {
			return true, nil
		}
		if err := users.unlock(); err != nil {
			return false, err
		}
	}
}

// start starts the postmaster; the channel is closed at its end.
func (s supervision) start() (*exec.Cmd, <-chan struct{}, error) {
	args := []string{
		"-D", s.Place.data(), "-k", s.Place.Socket, "-p", port,
		"-c", "listen_addresses=", "-c", "unix_socket_permissions=0700",
	}
	if s.Kind == Test {
		args = append(args, "-c", "fsync=off", "-c", "synchronous_commit=off",
			"-c", "full_page_writes=off", "-c", "max_connections=300")
	}
	cmd := serverAccount().command(exec.CommandContext(context.Background(), filepath.Join(s.Bin, "postgres"), args...))
	endWithParent(cmd, syscall.SIGINT)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // the log
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting postgres: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // postgres has logged why
	}()
	return cmd, exited, nil
}

// stop ends a postmaster: fast (clients are disconnected), then immediate, then by force.
func stop(cmd *exec.Cmd, exited <-chan struct{}) error {
	steps := []struct {
		signal os.Signal
		wait   time.Duration
	}{
		{syscall.SIGINT, fastShutdown}, {syscall.SIGQUIT, harshShutdown}, {syscall.SIGKILL, harshShutdown},
	}
	for _, step := range steps {
		if err := cmd.Process.Signal(step.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stopping postgres: %w", err)
		}
		select {
		case <-exited:
			return nil
		case <-time.After(step.wait):
		}
	}
	return errors.New("postgres did not stop")
}

// prepare makes the cluster if there is none, and the socket's directory.
func (s supervision) prepare() error {
	if err := os.Remove(s.Place.failed()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(s.Place.Socket, 0o700); err != nil {
		return fmt.Errorf("making the socket's directory: %w", err)
	}
	if err := serverAccount().give(s.Place.Socket); err != nil {
		return err
	}
	if _, err := os.Stat(s.Place.cluster()); err == nil {
		return nil
	}
	leftovers, err := filepath.Glob(s.Place.cluster() + ".tmp-*")
	if err != nil {
		return fmt.Errorf("looking for leftovers: %w", err)
	}
	for _, dir := range leftovers {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing a half-made cluster: %w", err)
		}
	}
	tmp, err := os.MkdirTemp(s.Place.Dir, "cluster.tmp-*")
	if err != nil {
		return fmt.Errorf("making a cluster: %w", err)
	}
	if err := s.initdb(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, s.Place.cluster()); err != nil {
		return fmt.Errorf("keeping the cluster: %w", err)
	}
	return nil
}

// initdb makes a cluster and its password below dir.
func (s supervision) initdb(dir string) error {
	account := serverAccount()
	password, data := filepath.Join(dir, "password"), filepath.Join(dir, "data")
	if err := os.WriteFile(password, []byte(rand.Text()+"\n"), 0o600); err != nil {
		return fmt.Errorf("making the password: %w", err)
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	if err := account.give(dir, password, data); err != nil {
		return err
	}
	cmd := account.command(exec.CommandContext(context.Background(), filepath.Join(s.Bin, "initdb"), "-D", data, "-U", superuser,
		"-A", "scram-sha-256", "--pwfile", password, "-E", "UTF8", "--no-locale", "--no-sync"))
	endWithParent(cmd, syscall.SIGKILL)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running initdb: %w", err)
	}
	return nil
}

// endStale ends a postmaster that a dead supervisor has left, and removes its pid file.
// The caller holds the server lock, so no postmaster of this directory can be wanted.
func (s supervision) endStale() error {
	text, err := os.ReadFile(s.Place.pidFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading postmaster.pid: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err == nil && pid > 1 {
		if err := endForeign(pid, s.Place.data()); err != nil {
			return err
		}
	}
	if err := os.Remove(s.Place.pidFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing a stale postmaster.pid: %w", err)
	}
	return nil
}

// endForeign ends a postmaster of the data directory that is no child of this process.
func endForeign(pid int, data string) error {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		if !runs(pid, data) {
			return nil
		}
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("ending a stale postmaster: %w", err)
		}
		for deadline := time.Now().Add(harshShutdown); time.Now().Before(deadline) && runs(pid, data); {
			time.Sleep(20 * time.Millisecond)
		}
	}
	if runs(pid, data) {
		return fmt.Errorf("the stale postmaster %d does not end", pid)
	}
	return nil
}

// logTail returns the end of the log, for an error that a person reads.
func (s supervision) logTail() string {
	file, err := os.Open(s.Place.log())
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	text := make([]byte, min(info.Size(), logTailForError))
	n, err := file.ReadAt(text, info.Size()-int64(len(text)))
	if err != nil {
		return ""
	}
	return string(text[:n])
}
