package pgdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"foundry/internal/errs"
)

func TestStart(t *testing.T) {
	t.Parallel()

	t.Run("makes, shares, stops and starts again", func(t *testing.T) {
		t.Parallel()
		dir := clusterDir(t)
		var stages []string
		c := use{Dir: dir}.config()
		c.Progress = func(stage string) { stages = append(stages, stage) }
		first, err := Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"searching for PostgreSQL", "initialising a PostgreSQL cluster", fmt.Sprintf("starting PostgreSQL %d", first.Major())}
		if !slices.Equal(stages, want) {
			t.Errorf("stages %q, want %q", stages, want)
		}
		pid := postmaster(t, first)
		second := start(t, dir)
		if postmaster(t, second) != pid {
			t.Error("the second user has another server")
		}
		if err := first.EnsureDatabase(t.Context(), "kept"); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(first.Close(), second.Close()); err != nil {
			t.Fatal(err)
		}
		waitStopped(t, dir)

		// A stale postmaster.pid with a pid that is alive would stop PostgreSQL. It is ours, which
		// must not be signalled either.
		place := first.supervision.Place
		text := fmt.Sprintf("%d\n%s\n", os.Getpid(), place.data())
		if err := os.WriteFile(place.pidFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		third := start(t, dir)
		if pid := postmaster(t, third); pid == os.Getpid() {
			t.Error("postmaster.pid is still ours")
		}
		if os.Geteuid() == 0 && ownerOf(t, place.data()) == 0 {
			t.Error("the data belongs to root")
		}
		conn, err := pgx.Connect(t.Context(), third.URL("kept"))
		if err != nil {
			t.Fatalf("the database is gone: %v", err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})

	t.Run("by many processes at once makes one cluster", func(t *testing.T) {
		t.Parallel()
		dir := clusterDir(t)
		var group sync.WaitGroup
		servers := make([]*Server, 6)
		for i := range servers {
			group.Go(func() {
				s, err := Start(t.Context(), use{Dir: dir}.config())
				if err != nil {
					t.Error(err)
					return
				}
				servers[i] = s
				if err := s.EnsureDatabase(t.Context(), "same"); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		pids := map[int]bool{}
		for _, s := range servers {
			if s != nil {
				pids[postmaster(t, s)] = true
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		}
		if len(pids) != 1 {
			t.Errorf("%d postmasters", len(pids))
		}
	})

	t.Run("removes what a killed initdb has left", func(t *testing.T) {
		t.Parallel()
		dir := clusterDir(t)
		c := use{Dir: dir}.config()
		found, err := Config{Progress: func(string) {}}.findBinaries(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p, err := findPlace(c, found.Major)
		if err != nil {
			t.Fatal(err)
		}
		half := filepath.Join(p.Dir, "cluster.tmp-123")
		if err := os.MkdirAll(filepath.Join(half, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		start(t, dir)
		if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the half-made cluster is there: %v", err)
		}
	})

	t.Run("says why it failed", func(t *testing.T) {
		t.Parallel()
		bin := fakeBinaries(t, openTempDir(t), 16)
		_, err := Start(t.Context(), use{Dir: clusterDir(t), Bin: bin}.config())
		if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "running initdb") {
			t.Errorf("got %v", err)
		}
	})

	t.Run("ends with its context", func(t *testing.T) {
		t.Parallel()
		c := use{Dir: openTempDir(t), Bin: fakeBinaries(t, openTempDir(t), 16)}.config()
		p, err := findPlace(c, 16)
		if err != nil {
			t.Fatal(err)
		}
		// Somebody holds the users' lock, as a supervisor does that shuts down.
		lock, err := openLock(p.users())
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := lock.wait(t.Context(), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		defer time.AfterFunc(100*time.Millisecond, func() { cancel(enough) }).Stop()
		if _, err := Start(ctx, c); !errors.Is(err, enough) {
			t.Errorf("got %v", err)
		}
	})
}

func TestKilledUser(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	user := startProcess(t, use{Dir: dir}, 0)
	if err := user.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waitStopped(t, dir)
}

func TestKilledServer(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	s := start(t, dir)
	watch(t, s)
	if err := s.EnsureDatabase(t.Context(), "kept"); err != nil {
		t.Fatal(err)
	}
	// One after the other, on one cluster: making one is what takes the time.
	for _, victims := range []struct {
		name                   string
		postmaster, supervisor bool
	}{
		{"postmaster", true, false}, {"supervisor", false, true}, {"both", true, true},
	} {
		pid := postmaster(t, s)
		ppid := parent(t, pid)
		if victims.supervisor {
			kill(t, ppid)
		}
		if victims.postmaster {
			kill(t, pid)
		}
		eventually(t, victims.name+" killed: another postmaster answers", func() bool {
			return s.answers(t.Context()) && postmaster(t, s) != pid
		})
	}
	conn, err := pgx.Connect(t.Context(), start(t, dir).URL("kept"))
	if err != nil {
		t.Fatalf("the database is gone: %v", err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir := clusterDir(t)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	user := startProcess(t, use{Dir: dir}, nobody)
	if owner := ownerOf(t, places(t, dir)[0].data()); owner != nobody {
		t.Errorf("the cluster belongs to %d", owner)
	}
	if err := user.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
}

func TestStartRefusesInASupervisor(t *testing.T) {
	t.Setenv(supervisedEnv, "1")
	if _, err := Start(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "pgtest.Main") {
		t.Errorf("got %v", err)
	}
}

func TestSuperviseMainRefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {stepRun}, {"dance", "{}"}, {stepRun, "no JSON"}} {
		if code := SuperviseMain(args); code == 0 {
			t.Errorf("%q: code 0", args)
		}
	}
}

func TestRunsKnowsZombies(t *testing.T) {
	t.Parallel()
	sleeper := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	pid := sleeper.Process.Pid
	eventually(t, "the process runs", func() bool { return runs(pid, "1000") })
	if runs(pid, "100") {
		t.Error("part of a word is found")
	}
	kill(t, pid)
	eventually(t, "a zombie does not run", func() bool { return !runs(pid, "1000") })
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("it was no zombie: %v", err)
	}
	_ = sleeper.Wait() // says that it was killed
}

func TestPlace(t *testing.T) {
	t.Parallel()

	t.Run("a long directory has its socket elsewhere", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(openTempDir(t), strings.Repeat("x", 100))
		p, err := findPlace(Config{Dir: dir, reachable: true}, 15)
		if err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(p.Socket, ".s.PGSQL.5432")
		if len(socket) > maxSocketPath || strings.HasPrefix(socket, dir) {
			t.Errorf("socket %s", socket)
		}
		again, err := findPlace(Config{Dir: dir, reachable: true}, 15)
		if err != nil || again != p {
			t.Errorf("a second process has %v, %v", again, err)
		}
		other, err := findPlace(Config{Dir: dir, reachable: true}, 17)
		if err != nil || other.Dir == p.Dir || other.Socket == p.Socket {
			t.Errorf("another major version shares %v, %v", other, err)
		}
	})

	t.Run("a directory of somebody else is refused", func(t *testing.T) {
		t.Parallel()
		base := openTempDir(t)
		open, link := filepath.Join(base, "open"), filepath.Join(base, "link")
		if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777), os.Symlink(base, link)); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{open, link} {
			if err := ownDir(dir); !errs.Is(err, errs.Conflict) {
				t.Errorf("%s: %v", dir, err)
			}
		}
	})
}

// postmaster returns the pid of the server that answers.
func postmaster(t *testing.T, s *Server) int {
	t.Helper()
	return readPID(t, s.supervision.Place)
}

func readPID(t *testing.T, p place) int {
	t.Helper()
	var pid int
	eventually(t, "postmaster.pid exists", func() bool {
		text, err := os.ReadFile(p.pidFile())
		if err != nil {
			return false
		}
		first, _, _ := strings.Cut(string(text), "\n")
		pid, err = strconv.Atoi(first)
		return err == nil
	})
	return pid
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-o", "ppid=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	ppid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || ppid < 2 {
		t.Fatalf("parent of %d is %q", pid, out)
	}
	return ppid
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
}

// watch runs Server.Watch until the test ends.
func watch(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
}

func ownerOf(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner")
	}
	return int(stat.Uid)
}

func TestRootHasItsOwnPlace(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("for root only")
	}
	base, err := baseDir(Config{Dir: "/root/project/.foundry", Kind: Dev})
	if err != nil || strings.HasPrefix(base, "/root") {
		t.Errorf("base %s, %v", base, err)
	}
	again, err := baseDir(Config{Dir: "/root/project/../project/.foundry", Kind: Dev})
	if err != nil || again != base {
		t.Errorf("the same directory has %s and %s, %v", base, again, err)
	}
}
