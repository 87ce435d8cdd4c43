package pgdev

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"foundry/internal/leaktest"
)

// useArg makes the test binary a process that uses a cluster until its stdin ends.
const useArg = "pg-use"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case SuperviseArg:
			if SuperviseMain(os.Args[2:]) != 0 {
				panic("supervising failed")
			}
			return
		case useArg:
			useMain(os.Args[2])
			return
		}
	}
	leaktest.Main(m)
}

// use is what a using process is told, as JSON.
type use struct {
	Dir   string
	Bin   string
	Cache string // "": the usual one
}

func (u use) config() Config {
	c := Config{Dir: u.Dir, Kind: Test, Bin: u.Bin, reachable: true, linger: 100 * time.Millisecond}
	if u.Cache != "" {
		c.finder = &finder{bin: u.Bin, cache: u.Cache, account: serverAccount(), npm: "npm"}
	}
	return c
}

// useMain prints "ready" and the server's version, or the error.
func useMain(arg string) {
	var u use
	err := json.Unmarshal([]byte(arg), &u)
	if err == nil {
		var version string
		if version, err = u.run(); err == nil {
			fmt.Fprintln(os.Stdout, "ready", version)
			_, _ = io.Copy(io.Discard, os.Stdin)
			return
		}
	}
	fmt.Fprintln(os.Stdout, err)
}

// run leaves the server in use until the process ends.
func (u use) run() (version string, err error) {
	s, err := Start(context.Background(), u.config())
	if err != nil {
		return "", err
	}
	return serverVersion(context.Background(), s)
}

func serverVersion(ctx context.Context, s *Server) (version string, err error) {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SHOW server_version").Scan(&version)
	return version, err
}

// openTempDir is t.TempDir for a directory that PostgreSQL's account can enter, with a
// name that is short enough for sockets.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pgdev-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// clusterDir is a directory for a cluster, and waits at the end until its server is down.
func clusterDir(t *testing.T) string {
	t.Helper()
	dir := openTempDir(t)
	t.Cleanup(func() { waitStopped(t, dir) })
	return dir
}

func places(t *testing.T, dir string) []place {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "pg*"))
	if err != nil {
		t.Fatal(err)
	}
	var all []place
	for _, d := range found {
		all = append(all, place{Dir: d})
	}
	return all
}

func waitStopped(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "the server is down", func() bool {
		if supervising(dir) {
			return false // one that comes late, and finds nothing to do
		}
		for _, p := range places(t, dir) {
			supervised, err := held(p.server())
			_, pidErr := os.Stat(p.pidFile())
			if err != nil || supervised || pidErr == nil {
				return false
			}
		}
		return true
	})
}

// supervising reports whether a process has been told to supervise a cluster below the directory.
func supervising(dir string) bool {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline") // only a malformed pattern is an error
	for _, name := range lines {
		line, err := os.ReadFile(name)
		if err == nil && bytes.Contains(line, []byte(SuperviseArg)) && bytes.Contains(line, []byte(dir+"/")) {
			return true
		}
	}
	return false
}

// eventually waits for a condition without saying how fast the machine must be.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(90 * time.Second)
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-ticker.C:
		}
	}
}

func start(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), use{Dir: dir}.config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // some tests have closed it
	return s
}

// process is a using process.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	line  string // what it has printed
}

// startProcess runs the test binary as a user of a cluster; uid 0 stands for our own.
func startProcess(t *testing.T, u use, uid uint32) *process {
	t.Helper()
	arg, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	self, err := executable()
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Dir(u.Dir)
	if uid != 0 {
		// go test keeps the binary in a directory that only we may enter.
		self = copyProgram(t, self)
		home = openTempDir(t)
		if err := os.Chown(home, int(uid), int(uid)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), self, useArg, string(arg))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if uid != 0 {
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME=")
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: stdin}
	t.Cleanup(p.end)
	p.line, err = bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the using process printed nothing: %v", err)
	}
	if !strings.HasPrefix(p.line, "ready ") {
		t.Fatalf("the using process failed: %s", p.line)
	}
	return p
}

func (p *process) end() {
	_ = p.stdin.Close()
	_ = p.cmd.Wait()
}

func copyProgram(t *testing.T, program string) string {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(openTempDir(t), "pgdev.test")
	writeProgram(t, copied, string(text))
	return copied
}
