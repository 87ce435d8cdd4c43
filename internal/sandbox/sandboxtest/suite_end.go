package sandboxtest

import (
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/shim"
)

func testTimeout(t *testing.T, h Harness) {
	b := newBox(t, h)
	for timeout := 300 * time.Millisecond; ; timeout *= 2 {
		tr := b.follow(b.start(shim.Spec{
			Script:  "trap 'echo trapped; exit 3' TERM; sleep 1000 & wait",
			Timeout: timeout,
			Grace:   patience,
		}))
		equal(t, "reason", tr.exit.Reason, shim.TimedOut)
		if lasted := tr.exit.EndedAt.Sub(tr.exit.StartedAt); lasted < timeout {
			t.Fatalf("it ended after %v, before its %v", lasted, timeout)
		}
		// TERM ends a shell that has not come to its trap within the timeout, so that the next one gets more.
		if tr.exit.Signal == "SIGTERM" && timeout < patience/4 {
			continue
		}
		equal(t, "exit code", tr.exit.ExitCode, 3)
		equal(t, "stdout", tr.stdout.String(), "trapped\n")
		return
	}
}

func testTrap(t *testing.T, h Harness) {
	b := newBox(t, h)
	id := b.start(shim.Spec{
		Script: "trap 'echo cleaning; sleep 2; while [ ! -e go ]; do sleep 0.02; done; echo cleaned; exit 5' TERM; echo up; sleep 1000 & wait",
		Grace:  patience,
	})
	b.until(id, "up")
	state, err := b.shim.Signal(t.Context(), id, shim.TERM)
	noError(t, err)
	equal(t, "the state after the signal", state, shim.Started)
	noError(t, b.sb.PutFile(t.Context(), path.Join(b.info.Workspace, "go"), strings.NewReader(""), 0o600))
	tr := b.follow(id)
	equal(t, "reason", tr.exit.Reason, shim.Canceled)
	equal(t, "exit code", tr.exit.ExitCode, 5)
	equal(t, "stdout", tr.stdout.String(), "up\ncleaning\ncleaned\n")
}

func testGrace(t *testing.T, h Harness) {
	b := newBox(t, h)
	for grace := 400 * time.Millisecond; ; grace *= 2 {
		id := b.start(shim.Spec{
			Script: "trap 'echo no' TERM; echo up; while :; do sleep 0.05 || :; done",
			Grace:  grace,
		})
		b.until(id, "up")
		_, err := b.shim.Signal(t.Context(), id, shim.TERM)
		noError(t, err)
		tr := b.follow(id)
		equal(t, "reason", tr.exit.Reason, shim.Canceled)
		equal(t, "exit code", tr.exit.ExitCode, 137)
		equal(t, "signal", tr.exit.Signal, "SIGKILL")
		// A shell that has not come to its trap within the grace says nothing, so that the next one gets more.
		if tr.stdout.String() == "up\n" && grace < patience/4 {
			continue
		}
		equal(t, "stdout", tr.stdout.String(), "up\nno\n")
		return
	}
}

func testKill(t *testing.T, h Harness) {
	b := newBox(t, h)
	mark := uniqueNumber()
	id := b.script("trap 'echo no' TERM; sleep " + mark + " & echo up; wait")
	b.until(id, "up")
	_, err := b.shim.Signal(t.Context(), id, shim.KILL)
	noError(t, err)
	tr := b.follow(id)
	equal(t, "reason", tr.exit.Reason, shim.Canceled)
	equal(t, "exit code", tr.exit.ExitCode, 137)
	equal(t, "stdout", tr.stdout.String(), "up\n")
	if h.Here {
		noProcess(t, mark)
	}
}

func testSignalIdle(t *testing.T, h Harness) {
	b := newBox(t, h)
	state, err := b.shim.Signal(t.Context(), uuid.New(), shim.TERM)
	noError(t, err)
	equal(t, "the state of one never started", state, shim.New)
	id := b.script("exit 0")
	b.follow(id)
	state, err = b.shim.Signal(t.Context(), id, shim.KILL)
	noError(t, err)
	equal(t, "the state of one that has ended", state, shim.Ended)
	equal(t, "its reason", b.follow(id).exit.Reason, shim.Exited)
	if _, err := b.shim.Signal(t.Context(), id, "HUP"); err == nil {
		t.Fatal("HUP was taken")
	}
}

func testSignaled(t *testing.T, h Harness) {
	b := newBox(t, h)
	exit := b.follow(b.script("kill -SEGV $$")).exit
	equal(t, "reason", exit.Reason, shim.Signaled)
	equal(t, "exit code", exit.ExitCode, 139)
	equal(t, "signal", exit.Signal, "SIGSEGV")
	// A group that ends itself must not take what tells about it along.
	exit = b.follow(b.script("kill -TERM 0; sleep 1000")).exit
	equal(t, "reason", exit.Reason, shim.Signaled)
	equal(t, "signal", exit.Signal, "SIGTERM")
}

// What a child says once its parent is gone is recorded, if it comes to it in the time that the shim leaves it.
func testLateOutput(t *testing.T, h Harness) {
	b := newBox(t, h)
	for deadline := time.Now().Add(patience); ; {
		tr := b.follow(b.script("(while kill -0 $$ 2>/dev/null; do sleep 0.02; done; echo late; touch said) & echo early"))
		equal(t, "exit code", tr.exit.ExitCode, 0)
		equal(t, "reason", tr.exit.Reason, shim.Exited)
		_, err := b.sb.ReadFile(t.Context(), path.Join(b.info.Workspace, "said"), 0, 1)
		if errs.Is(err, errs.NotFound) && time.Now().Before(deadline) {
			continue // it was too late
		}
		noError(t, err)
		equal(t, "stdout", tr.stdout.String(), "early\nlate\n")
		return
	}
}

// Children are gone when the exit is told, whether they hold the pipes or not, are in the
// group or in a session of their own, or lost their parent.
func testChildren(t *testing.T, h Harness) {
	b := newBox(t, h)
	for _, script := range []string{
		"sleep MARK & echo up",
		"sleep MARK >/dev/null 2>&1 & echo up",
		"setsid sleep MARK >/dev/null 2>&1 & echo up",
		"(setsid sh -c 'sleep MARK & sleep MARK' &) ; echo up",
		"trap '' TERM HUP; (trap '' TERM; sleep MARK >/dev/null 2>&1; sleep MARK) & echo up",
	} {
		mark := uniqueNumber()
		tr := b.follow(b.script(strings.ReplaceAll(script, "MARK", mark)))
		equal(t, script+": stdout", tr.stdout.String(), "up\n")
		equal(t, script+": exit code", tr.exit.ExitCode, 0)
		if h.Here {
			noProcess(t, mark)
		}
	}
	// Where this machine's processes cannot be seen, a file that stops growing tells.
	id := b.script("(setsid sh -c 'while :; do echo x >> beat; sleep 0.02; done' >/dev/null 2>&1 &); while [ ! -e beat ]; do sleep 0.02; done")
	b.follow(id)
	before := b.file("beat")
	b.follow(b.script("sleep 0.3"))
	equal(t, "bytes of a child that should be gone", len(b.file("beat")), len(before))
}

// A command that leaves nothing behind and asks for nothing survives whoever started it.
func testStarterDies(t *testing.T, h Harness) {
	if !h.Here {
		t.Skip("the starter is not a process of this machine")
	}
	b := newBox(t, h)
	id := uuid.New()
	spec := `{"dir":"` + b.info.Workspace + `","script":"echo up; while [ ! -e go ]; do sleep 0.02; done; echo end"}`
	noError(t, b.sb.PutFile(t.Context(), path.Join(b.shim.Dir(id), shim.SpecFile), strings.NewReader(spec), 0o600))
	startAndDie(t, append(b.info.ShimCommand, "start", b.shim.Dir(id)))
	b.until(id, "up")
	noError(t, b.sb.PutFile(t.Context(), path.Join(b.info.Workspace, "go"), strings.NewReader(""), 0o600))
	tr := b.follow(id)
	equal(t, "stdout", tr.stdout.String(), "up\nend\n")
	equal(t, "exit code", tr.exit.ExitCode, 0)
}

func testLost(t *testing.T, h Harness) {
	if !h.Here {
		t.Skip("the supervisor is not a process of this machine")
	}
	b := newBox(t, h)
	mark, own := uniqueNumber(), uniqueNumber()
	id := b.start(shim.Spec{Argv: []string{"sh", "-c", "setsid sleep " + mark + " & echo up; sleep " + mark + "; :", own}})
	offset := b.until(id, "up").offset
	killProcess(t, "supervise", b.shim.Dir(id))
	eventually(t, "the command dies with its supervisor", func() bool { return len(processesWith(own)) == 0 })
	res, err := b.shim.Tail(t.Context(), map[uuid.UUID]int64{id: offset}, patience)
	noError(t, err)
	equal(t, "directories told", len(res.Runs), 1)
	equal(t, "the state", res.Runs[0].State, shim.Lost)
	state, err := b.shim.Seal(t.Context(), id)
	noError(t, err)
	equal(t, "the seal's state", state, shim.Lost)
	noProcess(t, mark)
	r, err := b.shim.Start(t.Context(), id, shim.Spec{Script: "touch again"}, nil)
	noError(t, err)
	equal(t, "the start's state", r.State, shim.Lost)
	state, err = b.shim.Signal(t.Context(), id, shim.TERM)
	noError(t, err)
	equal(t, "the signal's state", state, shim.Lost)
}
