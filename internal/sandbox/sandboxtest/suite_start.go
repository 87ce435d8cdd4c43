package sandboxtest

import (
	"os/exec"
	"path"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
	"foundry/internal/shim"
)

func testStartOnce(t *testing.T, h Harness) {
	b := newBox(t, h)
	id := uuid.New()
	spec := shim.Spec{Script: "echo ran >> runs; read -r _ < gate"}
	equal(t, "mkfifo", b.follow(b.script("mkfifo gate")).exit.ExitCode, 0)
	states := make([]shim.State, 6)
	var group errgroup.Group
	for i := range states {
		group.Go(func() error {
			r, err := b.shim.Start(t.Context(), id, spec, nil)
			states[i] = r.State
			return err
		})
	}
	noError(t, group.Wait())
	started := 0
	for _, s := range states {
		if s == shim.Started {
			started++
		} else {
			equal(t, "the other starts' state", s, shim.Already)
		}
	}
	equal(t, "starts that started", started, 1)
	equal(t, "opening the gate", b.follow(b.script("echo > gate")).exit.ExitCode, 0)
	b.follow(id)
	r, err := b.shim.Start(t.Context(), id, spec, nil)
	noError(t, err)
	equal(t, "a start after the end", r.State, shim.Ended)
	equal(t, "runs", b.file("runs"), "ran\n")
}

func testSealFirst(t *testing.T, h Harness) {
	b := newBox(t, h)
	id := uuid.New()
	for range 2 {
		state, err := b.shim.Seal(t.Context(), id)
		noError(t, err)
		equal(t, "the seal's state", state, shim.Sealed)
	}
	r, err := b.shim.Start(t.Context(), id, shim.Spec{Script: "touch ran"}, nil)
	noError(t, err)
	equal(t, "the start's state", r.State, shim.Sealed)
	_, err = b.sb.ReadFile(t.Context(), path.Join(b.info.Workspace, "ran"), 0, 1)
	wantCode(t, err, errs.NotFound)
}

func testSealLater(t *testing.T, h Harness) {
	b := newBox(t, h)
	id := b.script("echo up; while [ ! -e go ]; do sleep 0.02; done; echo end")
	b.until(id, "up")
	state, err := b.shim.Seal(t.Context(), id)
	noError(t, err)
	equal(t, "the state while it runs", state, shim.Started)
	noError(t, b.sb.PutFile(t.Context(), path.Join(b.info.Workspace, "go"), strings.NewReader(""), 0o600))
	tr := b.follow(id)
	equal(t, "stdout", tr.stdout.String(), "up\nend\n")
	state, err = b.shim.Seal(t.Context(), id)
	noError(t, err)
	equal(t, "the state after it ran", state, shim.Ended)
}

// Whoever comes first, the two answers agree, and the command runs only if the start said so.
func testSealRace(t *testing.T, h Harness) {
	b := newBox(t, h)
	for range 12 {
		id := uuid.New()
		var started shim.StartResult
		var sealed shim.State
		var group errgroup.Group
		group.Go(func() (err error) {
			started, err = b.shim.Start(t.Context(), id, shim.Spec{Script: "touch ran-" + id.String()}, nil)
			return err
		})
		group.Go(func() (err error) {
			sealed, err = b.shim.Seal(t.Context(), id)
			return err
		})
		noError(t, group.Wait())
		equal(t, "sealed by both accounts", started.State == shim.Sealed, sealed == shim.Sealed)
		if started.State == shim.Started {
			b.follow(id)
		}
		_, err := b.sb.ReadFile(t.Context(), path.Join(b.info.Workspace, "ran-"+id.String()), 0, 1)
		equal(t, "the command ran", err == nil, started.State == shim.Started)
	}
}

// A seal that fails half-way, as on a full disk, must not look like a start whose supervisor died.
func testSealWithoutRoom(t *testing.T, h Harness) {
	b := newBox(t, h)
	id := uuid.New()
	noError(t, b.sb.PutFile(t.Context(), path.Join(b.shim.Dir(id), shim.SpecFile), strings.NewReader("{}"), 0o600)) // makes the folder
	argv := append([]string{"sh", "-c", `ulimit -f 0; exec "$@"`, "sh"}, b.info.ShimCommand...)
	r, err := b.sb.Run(t.Context(), sandbox.Command{Argv: append(argv, "seal", b.shim.Dir(id))})
	noError(t, err)
	if r.ExitCode == 0 {
		t.Fatalf("a seal that can write nothing answers %s", r.Stdout)
	}
	state, err := b.shim.Seal(t.Context(), id)
	noError(t, err)
	equal(t, "the state of a seal with room", state, shim.Sealed)
}

func testStartFailed(t *testing.T, h Harness) {
	b := newBox(t, h)
	noError(t, b.sb.PutFile(t.Context(), path.Join(b.info.Workspace, "tool"), strings.NewReader("#!/no/such/interpreter\n"), 0o755))
	for name, c := range map[string]struct {
		spec shim.Spec
		want string
	}{
		"no program":     {shim.Spec{Argv: []string{"no-such-program"}}, "command not found"},
		"no interpreter": {shim.Spec{Argv: []string{"./tool"}}, "interpreter"},
		"no folder":      {shim.Spec{Argv: []string{"true"}, Dir: "/no/such/folder"}, "working directory"},
	} {
		id := uuid.New()
		r, err := b.shim.Start(t.Context(), id, c.spec, nil)
		noError(t, err)
		equal(t, name+": the state", r.State, shim.Failed)
		if !strings.Contains(r.Error, c.want) {
			t.Fatalf("%s: the error is %q", name, r.Error)
		}
		exit := b.follow(id).exit
		equal(t, name+": the reason", exit.Reason, shim.StartFailed)
		equal(t, name+": the exit code", exit.ExitCode, -1)
		equal(t, name+": the error", exit.Error, r.Error)
		r, err = b.shim.Start(t.Context(), id, c.spec, nil)
		noError(t, err)
		equal(t, name+": a second start", r.State, shim.Ended)
	}
}

func testBadSpec(t *testing.T, h Harness) {
	b := newBox(t, h)
	id := uuid.New()
	for _, spec := range []shim.Spec{
		{},
		{Argv: []string{"true"}, Script: "true"},
		{Argv: []string{"true"}, Dir: "relative"},
		{Argv: []string{"true"}, Timeout: -1},
		{Script: "true", Shell: "fish"},
	} {
		_, err := b.shim.Start(t.Context(), id, spec, nil)
		wantCode(t, err, errs.Invalid)
	}
	noError(t, b.sb.PutFile(t.Context(), path.Join(b.shim.Dir(id), shim.SpecFile), strings.NewReader("{"), 0o600))
	r, err := b.sb.Run(t.Context(), sandbox.Command{Argv: append(b.info.ShimCommand, "start", b.shim.Dir(id))})
	noError(t, err)
	equal(t, "exit code", r.ExitCode, 1)
	started, err := b.shim.Start(t.Context(), id, shim.Spec{Argv: []string{"true"}}, nil)
	noError(t, err)
	equal(t, "the state with a good spec", started.State, shim.Started)
}

func testShells(t *testing.T, h Harness) {
	b := newBox(t, h)
	for _, c := range []struct {
		program, shell, script string
		exit                   int
		stdout                 string
	}{
		{"sh", "sh", "echo a; false; echo b", 1, "a\n"},
		{"sh", "sh", "echo $((1+1)); exit 9", 9, "2\n"},
		{"bash", "", "set -o | grep pipefail | tr -s '\\t ' ' '; false | true; echo not here", 1, "pipefail on\n"},
		{"bash", "bash", "a=(x y); echo ${a[1]}", 0, "y\n"},
		{"python3", "python", "import sys\nprint('py'); sys.exit(4)", 4, "py\n"},
		{"node", "node", "console.log('js'); process.exit(5)", 5, "js\n"},
	} {
		if _, err := exec.LookPath(c.program); h.Here && err != nil {
			continue
		}
		if _, err := exec.LookPath("/usr/bin/" + c.program); h.Here && err != nil {
			continue // installed where a sandbox need not see it
		}
		tr := b.follow(b.start(shim.Spec{Script: c.script, Shell: c.shell}))
		equal(t, c.script+": stdout", tr.stdout.String(), c.stdout)
		equal(t, c.script+": exit code", tr.exit.ExitCode, c.exit)
		equal(t, c.script+": reason", tr.exit.Reason, shim.Exited)
	}
	// A sandbox without bash has only what its PATH finds.
	noError(t, b.sb.PutFile(t.Context(), path.Join(b.info.Workspace, "bin/sh"), strings.NewReader("#!/bin/sh\necho \"fallback $1\"\n"), 0o755))
	tr := b.follow(b.script("true", "PATH="+path.Join(b.info.Workspace, "bin")))
	equal(t, "the shell without bash", tr.stdout.String(), "fallback -e\n")
}

func testEnvironment(t *testing.T, h Harness) {
	b := newBox(t, h)
	tr := b.follow(b.script(`
echo "$GREETING|$FOUNDRY_WORKSPACE|$(pwd)|$PWD|$HOME"
[ -w "$HOME" ] && [ -w "$TMPDIR" ] && [ -w "$FOUNDRY_OUTPUT" ] && [ -w "$FOUNDRY_SUMMARY" ]
[ -d "$FOUNDRY_ARTIFACTS" ] && [ -d "$FOUNDRY_CHECKPOINTS" ]
env | grep -c '^FOUNDRY_ENV_' || true
read -r line || echo "no stdin"
`, "GREETING=first", "GREETING=a=b c", "HOME="+b.info.Workspace))
	want := "a=b c|" + strings.Repeat(b.info.Workspace+"|", 3) + b.info.Workspace + "\n0\nno stdin\n"
	equal(t, "stdout", tr.stdout.String(), want)
	equal(t, "exit code", tr.exit.ExitCode, 0)
}

// file reads a file of the workspace.
func (b *box) file(name string) string {
	b.t.Helper()
	content, err := b.sb.ReadFile(b.t.Context(), path.Join(b.info.Workspace, name), 0, 1<<20)
	noError(b.t, err)
	return string(content)
}
