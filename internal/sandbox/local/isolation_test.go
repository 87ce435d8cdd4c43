package local_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/local"
	"foundry/internal/shim"
)

// What a command must not reach, asked at both levels: the plain one reaches all of it, which
// shows that the questions are right.
func TestBwrapKeepsThisMachineOut(t *testing.T) {
	t.Parallel()
	needBwrap(t)
	for _, level := range []local.Level{local.Process, local.Bwrap} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, level)
			other := create(t, p, sandbox.Spec{})
			put(t, other, "theirs")
			script := `
ask() { if eval "$2" >/dev/null 2>&1; then echo "$1: yes"; else echo "$1: no"; fi; }
ask "state folder" 'ls "$STATE"'
ask "other workspace" 'cat "$STATE/sandboxes/$OTHER/workspace/theirs"'
ask "other shim directory" 'ls "$STATE/sandboxes/$OTHER/shim"'
ask "own shim directory" 'ls "$STATE/sandboxes/$FOUNDRY_SANDBOX_ID/shim"'
ask "socket folder" '[ -S "$SOCKET" ]'
ask "worker's environment" '[ -e /proc/$WORKER/environ ]'
ask "any environment" 'grep -aqs "MARK=${MARK_TAIL}-there" /proc/[0-9]*/environ'
ask "worker's process" 'kill -0 $WORKER'
ask "this repository" '[ -e "$REPOSITORY/go.mod" ]'
`
			repository, err := filepath.Abs("../../..")
			noError(t, err)
			mark := uuid.NewString()
			out := runScript(t, create(t, p, sandbox.Spec{}), script,
				"STATE="+p.StateDir(), "OTHER="+other.info.ProviderID, "SOCKET="+listenUnix(t), "WORKER="+fmt.Sprint(os.Getpid()),
				"MARK_TAIL="+mark, "REPOSITORY="+repository, "UNUSED="+processWithEnv(t, "MARK="+mark+"-there"))
			want := map[local.Level]string{local.Process: "yes", local.Bwrap: "no"}[level]
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if len(lines) != 9 {
				t.Fatalf("answers: %s", out)
			}
			for _, line := range lines {
				if !strings.HasSuffix(line, ": "+want) {
					t.Errorf("%s, want %s", line, want)
				}
			}
		})
	}
}

// These hold however this machine is set up; the plain level is no comparison for them.
func TestBwrapHasNoRights(t *testing.T) {
	t.Parallel()
	needBwrap(t)
	b := create(t, newProvider(t, local.Bwrap), sandbox.Spec{})
	for _, script := range []string{
		"! cat /etc/shadow",
		"! touch /usr/x",
		"! touch /etc/x",
		"! touch /x",
		"! touch /foundry/shim",
		"grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status",
		"[ $(ls -d /proc/[0-9]* | wc -l) -lt 10 ]",
		"[ \"$(pwd)\" = /workspace ] && touch x /tmp/x ~/x /var/tmp/x",
		"[ \"$(cat /proc/self/oom_score_adj)\" = 1000 ]",
	} {
		id := uuid.New()
		_, err := b.shim.Start(t.Context(), id, shim.Spec{Script: script}, nil)
		noError(t, err)
		if exit, out := follow(t, b, id); exit.ExitCode != 0 {
			t.Errorf("%s: %+v %s", script, exit, out)
		}
	}
}

func TestNetworkIsSharedUnlessBlocked(t *testing.T) {
	t.Parallel()
	needBwrap(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	noError(t, err)
	t.Cleanup(func() { listener.Close() })
	p := newProvider(t, local.Bwrap)
	script := fmt.Sprintf("if (exec 3<>/dev/tcp/127.0.0.1/%d) 2>/dev/null; then echo open; else echo closed; fi", listener.Addr().(*net.TCPAddr).Port) //nolint:forcetypeassert // of a TCP listener
	if out := runScript(t, create(t, p, sandbox.Spec{}), script); out != "open\n" {
		t.Errorf("a shared network is %q", out)
	}
	blocked := create(t, p, sandbox.Spec{Network: sandbox.Network{Block: true}})
	if out := runScript(t, blocked, script); out != "closed\n" {
		t.Errorf("a blocked network is %q", out)
	}
}

func TestPoliciesThatCannotBeKeptAreRefused(t *testing.T) {
	t.Parallel()
	needBwrap(t)
	bwrap, process := newProvider(t, local.Bwrap), newProvider(t, local.Process)
	allow := sandbox.Spec{Network: sandbox.Network{Allow: []string{"example.com"}}}
	block := sandbox.Spec{Network: sandbox.Network{Block: true}}
	volume := func(name, path string) sandbox.Spec {
		return sandbox.Spec{Volumes: []sandbox.Volume{{Name: name, Path: path}}}
	}
	for name, c := range map[string]struct {
		p    *local.Provider
		spec sandbox.Spec
		want string
	}{
		"allow under bwrap":   {bwrap, allow, "allow list"},
		"allow in a process":  {process, allow, "allow list"},
		"block in a process":  {process, block, "without bubblewrap"},
		"volume in a process": {process, volume("data", "/data"), "without bubblewrap"},
		"volume's name":       {bwrap, volume("../x", "/data"), "not a name"},
		"volume over /usr":    {bwrap, volume("data", "/usr/lib"), "mounted"},
		"volume over /":       {bwrap, volume("data", "/"), "mounted"},
		"volume, relative":    {bwrap, volume("data", "data"), "mounted"},
		"volume with dots":    {bwrap, volume("data", "/a/../usr"), "mounted"},
	} {
		c.spec.ID = uuid.New()
		_, err := c.p.Create(t.Context(), c.spec)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.p.Get(t.Context(), c.spec.ID.String()); !errs.Is(err, errs.NotFound) {
			t.Errorf("%s: a sandbox was made (%v)", name, err)
		}
	}
}

func TestVolumesOutliveSandboxes(t *testing.T) {
	t.Parallel()
	needBwrap(t)
	p := newProvider(t, local.Bwrap)
	spec := sandbox.Spec{Volumes: []sandbox.Volume{{Name: "cache", Path: "/data/cache"}}}
	first := create(t, p, spec)
	runScript(t, first, "echo kept > /data/cache/file")
	noError(t, p.Destroy(t.Context(), first.info.ProviderID))
	if out := runScript(t, create(t, p, spec), "cat /data/cache/file"); out != "kept\n" {
		t.Errorf("the volume has %q", out)
	}
}

type opened struct {
	info sandbox.Info
	sb   sandbox.Sandbox
	shim *sandbox.Shim
}

func create(t *testing.T, p *local.Provider, spec sandbox.Spec) opened {
	t.Helper()
	spec.ID = uuid.New()
	info, err := p.Create(t.Context(), spec)
	noError(t, err)
	t.Cleanup(func() { noError(t, p.Destroy(context(t), info.ProviderID)) })
	sb, err := p.Open(t.Context(), info.ProviderID)
	noError(t, err)
	return opened{info, sb, sandbox.NewShim(sb, info)}
}

func put(t *testing.T, b opened, name string) {
	t.Helper()
	noError(t, b.sb.PutFile(t.Context(), b.info.Workspace+"/"+name, strings.NewReader("x"), 0o600))
}

// runScript returns stdout of a script that must succeed.
func runScript(t *testing.T, b opened, script string, env ...string) string {
	t.Helper()
	id := uuid.New()
	r, err := b.shim.Start(t.Context(), id, shim.Spec{Script: script}, env)
	noError(t, err)
	if r.State != shim.Started {
		t.Fatalf("start answered %+v", r)
	}
	exit, out := follow(t, b, id)
	if exit.ExitCode != 0 {
		t.Fatalf("it ended as %+v with %s", exit, out)
	}
	return out
}

func follow(t *testing.T, b opened, id uuid.UUID) (*shim.Exit, string) {
	t.Helper()
	var out bytes.Buffer
	for offset, deadline := int64(0), time.Now().Add(time.Minute); time.Now().Before(deadline); {
		res, err := b.shim.Tail(t.Context(), map[uuid.UUID]int64{id: offset}, 5*time.Second)
		noError(t, err)
		for _, r := range res.Runs {
			if r.Dir != id.String() {
				continue
			}
			frames, _, err := shim.DecodeFrames(r.Frames)
			noError(t, err)
			for _, f := range frames {
				if f.Stream == shim.Stdout {
					out.Write(f.Data)
				}
			}
			offset = r.Next
			if r.Exit != nil {
				return r.Exit, out.String()
			}
		}
	}
	t.Fatal("it does not end")
	return nil, ""
}

// listenUnix is where a database would listen.
func listenUnix(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "socket") //nolint:usetesting // its name is too long for a socket
	noError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, ".s.PGSQL.5432"))
	noError(t, err)
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

func processWithEnv(t *testing.T, env string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	cmd.Env = []string{env}
	noError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	// It is started before it has its environment.
	pid := fmt.Sprint(cmd.Process.Pid)
	for deadline := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
		environ, err := os.ReadFile("/proc/" + pid + "/environ")
		noError(t, err)
		if strings.Contains(string(environ), env) {
			return pid
		}
		if time.Now().After(deadline) {
			t.Fatal("it gets no environment")
		}
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
