// Package sandboxtest has the suite that every sandbox provider must pass, and a fake
// provider for tests of what stands above.
package sandboxtest

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
	"foundry/internal/shim"
)

// patience bounds what a test waits for; it is no measure of speed.
const patience = 60 * time.Second

// Harness is a provider under test.
type Harness struct {
	Provider sandbox.Provider
	// Here is set where the shim and the commands are processes of this machine and
	// Info.ShimRoot is a path of it, so that tests can look at them and kill them.
	Here bool
}

// Run runs the suite against one harness, which subtests share.
func Run(t *testing.T, setup func(t *testing.T) Harness) {
	t.Helper()
	h := setup(t)
	for name, test := range map[string]func(*testing.T, Harness){
		"create makes one sandbox of one id":        testCreateTwice,
		"get and destroy of what never was":         testUnknown,
		"list finds by labels":                      testList,
		"stop keeps files and ends processes":       testStop,
		"destroy ends and removes everything":       testDestroy,
		"destroy ends what a lost supervisor left":  testDestroyLost,
		"an ended context does nothing":             testEndedContext,
		"expiry can be moved":                       testExpiry,
		"files are put, read, listed and deleted":   testFiles,
		"files outside are refused":                 testFilesOutside,
		"run tells exit code and output":            testRun,
		"run ends with its context":                 testRunContext,
		"start runs once":                           testStartOnce,
		"seal before start":                         testSealFirst,
		"seal after start":                          testSealLater,
		"seal and start at once":                    testSealRace,
		"a seal that cannot be stored is none":      testSealWithoutRoom,
		"a command that cannot be executed":         testStartFailed,
		"a bad spec leaves a new directory":         testBadSpec,
		"shells":                                    testShells,
		"the command's environment":                 testEnvironment,
		"outputs, summary, artifacts":               testCollected,
		"artifacts are listed and read":             testLeft,
		"checkpoints are watched and restored":      testCheckpoints,
		"links of a command lead nowhere":           testLeftLinks,
		"outputs that cannot be taken":              testOutputsRefused,
		"any bytes arrive exactly":                  testOddBytes,
		"a 10 MB line arrives exactly":              testLongLine,
		"200,000 small writes arrive exactly":       testManyLines,
		"tail resumes at every frame":               testResume,
		"tail tells a directory that is new":        testTailNew,
		"tail forgets what is done":                 testTailDone,
		"tail waits in vain":                        testTailNothing,
		"tail shares its answer":                    testTailShare,
		"output beyond the limit":                   testOutputLimit,
		"a timeout ends the command":                testTimeout,
		"a TERM trap of 2 s runs to its end":        testTrap,
		"KILL follows after the grace":              testGrace,
		"KILL ends at once":                         testKill,
		"a signal for what does not run":            testSignalIdle,
		"death by a signal":                         testSignaled,
		"late output of a child is recorded":        testLateOutput,
		"children are gone at the end":              testChildren,
		"the end of the starter is not the end":     testStarterDies,
		"a lost supervisor":                         testLost,
		"secrets are in no argument list, no file":  testSecretsHidden,
		"variables of the dynamic linker are inert": testLinkerVariables,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

// box is a sandbox of one test.
type box struct {
	t    *testing.T
	h    Harness
	info sandbox.Info
	sb   sandbox.Sandbox
	shim *sandbox.Shim
}

func newBox(t *testing.T, h Harness) *box {
	t.Helper()
	spec := sandbox.Spec{ID: uuid.New(), Labels: map[string]string{sandbox.LabelInstallation: t.Name()}}
	info, err := h.Provider.Create(t.Context(), spec)
	noError(t, err)
	t.Cleanup(func() {
		noError(t, h.Provider.Destroy(context.WithoutCancel(t.Context()), info.ProviderID))
	})
	info = ready(t, h.Provider, info.ProviderID)
	sb, err := h.Provider.Open(t.Context(), info.ProviderID)
	noError(t, err)
	return &box{t: t, h: h, info: info, sb: sb, shim: sandbox.NewShim(sb, info)}
}

func ready(t *testing.T, p sandbox.Provider, id string) (info sandbox.Info) {
	t.Helper()
	eventually(t, "the sandbox is ready", func() bool {
		var err error
		info, err = p.Get(t.Context(), id)
		noError(t, err)
		return info.State == sandbox.Ready
	})
	return info
}

// script starts a script and expects that it was started.
func (b *box) script(text string, env ...string) uuid.UUID {
	b.t.Helper()
	return b.start(shim.Spec{Script: text}, env...)
}

func (b *box) start(spec shim.Spec, env ...string) uuid.UUID {
	b.t.Helper()
	id := uuid.New()
	r, err := b.shim.Start(b.t.Context(), id, spec, env)
	noError(b.t, err)
	if r.State != shim.Started {
		b.t.Fatalf("start answered %+v", r)
	}
	return id
}

// transcript is what was read of one node run.
type transcript struct {
	state          shim.State
	exit           *shim.Exit
	offset         int64
	frames         []shim.Frame
	stdout, stderr bytes.Buffer
	notice         bytes.Buffer
}

func (tr *transcript) add(t *testing.T, frames []shim.Frame) {
	t.Helper()
	for _, f := range frames {
		to := map[shim.Stream]*bytes.Buffer{shim.Stdout: &tr.stdout, shim.Stderr: &tr.stderr, shim.Notice: &tr.notice}[f.Stream]
		if to == nil {
			t.Fatalf("a frame of stream %d", f.Stream)
		}
		if f.Pos != int64(to.Len()) {
			t.Fatalf("a frame of stream %d at %d, after %d bytes", f.Stream, f.Pos, to.Len())
		}
		to.Write(f.Data)
	}
	tr.frames = append(tr.frames, frames...)
}

// follow reads a node run to its end.
func (b *box) follow(id uuid.UUID) *transcript {
	b.t.Helper()
	return b.read(id, func(tr *transcript) bool { return tr.exit != nil })
}

// until reads until stdout has the text.
func (b *box) until(id uuid.UUID, text string) *transcript {
	b.t.Helper()
	return b.read(id, func(tr *transcript) bool { return bytes.Contains(tr.stdout.Bytes(), []byte(text)) })
}

// read follows a node run as a worker does: by tail, and by file where that is far behind.
func (b *box) read(id uuid.UUID, enough func(*transcript) bool) *transcript {
	b.t.Helper()
	tr := &transcript{}
	for deadline := time.Now().Add(patience); !enough(tr); {
		if tr.state.Final() && tr.exit == nil && tr.state != shim.Ended {
			b.t.Fatalf("the node run is %s", tr.state)
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not enough after %v; state %s, stdout %.200q, stderr %.200q", patience, tr.state, tr.stdout.Bytes(), tr.stderr.Bytes())
		}
		res, err := b.shim.Tail(b.t.Context(), map[uuid.UUID]int64{id: tr.offset}, 5*time.Second)
		noError(b.t, err)
		for _, r := range res.Runs {
			if r.Dir == id.String() {
				b.take(id, tr, r)
			}
		}
	}
	return tr
}

func (b *box) take(id uuid.UUID, tr *transcript, r shim.RunTail) {
	b.t.Helper()
	frames, n, err := shim.DecodeFrames(r.Frames)
	noError(b.t, err)
	if r.Offset != tr.offset || r.Offset+int64(n) != r.Next {
		b.t.Fatalf("asked from %d, told %d to %d with %d bytes", tr.offset, r.Offset, r.Next, n)
	}
	tr.add(b.t, frames)
	tr.state, tr.exit, tr.offset = r.State, r.Exit, r.Next
	for r.Size-tr.offset > shim.MaxTailBytes {
		frames, next, err := b.shim.ReadFrames(b.t.Context(), id, tr.offset, 1<<20)
		noError(b.t, err)
		if next == tr.offset {
			b.t.Fatalf("no frames at %d of %d", tr.offset, r.Size)
		}
		tr.add(b.t, frames)
		tr.offset = next
	}
}

// eventually polls a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", patience, what)
		}
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code errs.Code) {
	t.Helper()
	if errs.CodeOf(err) != code {
		t.Fatalf("error %v has code %q, want %q", err, errs.CodeOf(err), code)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
}
