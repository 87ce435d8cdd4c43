package sandbox_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
	"foundry/internal/shim"
)

func TestAnswersOfTheShim(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	for name, c := range map[string]struct {
		answer scripted
		state  shim.State
		code   errs.Code
	}{
		"an answer":           {scripted{stdout: `{"protocol":1,"state":"sealed"}` + "\n"}, shim.Sealed, ""},
		"words before it":     {scripted{stdout: "bash: warning\n" + `{"state":"lost"}` + "\n"}, shim.Lost, ""},
		"nothing":             {scripted{exitCode: 137}, "", errs.Unknown},
		"words instead of it": {scripted{stdout: "<html>Bad Gateway</html>", exitCode: 1}, "", errs.Unknown},
		"a cut line":          {scripted{stdout: `{"protocol":1,"sta`}, "", errs.Unknown},
		"an error":            {scripted{stdout: `{"protocol":1,"error":"no space"}`, exitCode: 1}, "", errs.Unavailable},
		"no call":             {scripted{err: lost}, "", errs.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state, err := client(&c.answer).Seal(t.Context(), uuid.New())
			if state != c.state || errs.CodeOf(err) != c.code {
				t.Fatalf("got %q, %v", state, err)
			}
			if c.answer.err != nil && !errors.Is(err, lost) {
				t.Fatalf("the cause is hidden: %v", err)
			}
		})
	}
}

func TestStartPutsSpecAndEscapesEnvironment(t *testing.T) {
	t.Parallel()
	sb := &scripted{stdout: `{"state":"started"}`}
	id := uuid.New()
	env := make([]string, 1, 5)
	env[0] = "TOKEN=secret"
	if _, err := client(sb).Start(t.Context(), id, shim.Spec{Script: "true"}, env); err != nil {
		t.Fatal(err)
	}
	if sb.path != "/shim/"+id.String()+"/spec.json" || !strings.Contains(sb.content, `"dir":"/workspace"`) || strings.Contains(sb.content, "secret") {
		t.Errorf("put %s: %s", sb.path, sb.content)
	}
	if want := []string{"/bin/shim", "x", "start", "/shim/" + id.String()}; !slices.Equal(sb.cmd.Argv, want) {
		t.Errorf("called %q", sb.cmd.Argv)
	}
	if want := []string{"FOUNDRY_ENV_TOKEN=secret", "FOUNDRY_ENV_FOUNDRY_WORKSPACE=/workspace"}; !slices.Equal(sb.cmd.Env, want) {
		t.Errorf("environment %q", sb.cmd.Env)
	}
	if env[:2][1] != "" {
		t.Error("the caller's slice was written to")
	}
}

func TestTailEndsSoonAfterItsWait(t *testing.T) {
	t.Parallel()
	sb := &scripted{stdout: `{"protocol":1,"runs":[]}`}
	before := time.Now()
	one, two := uuid.MustParse("00000000-0000-0000-0000-000000000001"), uuid.MustParse("00000000-0000-0000-0000-000000000002")
	if _, err := client(sb).Tail(t.Context(), map[uuid.UUID]int64{two: shim.Done, one: 7}, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	want := []string{"/bin/shim", "x", "tail", "/shim", "--wait", "3s", one.String() + ":7", two.String() + ":-1"}
	if !slices.Equal(sb.cmd.Argv, want) {
		t.Errorf("called %q", sb.cmd.Argv)
	}
	if d := sb.deadline.Sub(before); d < 3*time.Second || d > time.Minute {
		t.Errorf("the call may take %v", d)
	}
}

func TestReadFramesLeavesAPartialOne(t *testing.T) {
	t.Parallel()
	whole := shim.AppendFrame(nil, shim.Frame{Stream: shim.Stdout, Data: []byte("a")})
	more := shim.AppendFrame(slices.Clone(whole), shim.Frame{Stream: shim.Stdout, Pos: 1, Data: []byte("b")})
	for name, c := range map[string]struct {
		stored []byte
		frames int
		next   int64
		code   errs.Code
	}{
		"nothing":        {nil, 0, 100, ""},
		"a part":         {whole[:20], 0, 100, ""},
		"one and a part": {more[:len(more)-1], 1, 100 + int64(len(whole)), ""},
		"two":            {more, 2, 100 + int64(len(more)), ""},
		"damage":         {append(slices.Clone(whole), make([]byte, 50)...), 1, 100 + int64(len(whole)), errs.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			frames, next, err := client(&scripted{file: c.stored}).ReadFrames(t.Context(), uuid.New(), 100, shim.MaxFrameSize)
			if len(frames) != c.frames || next != c.next || errs.CodeOf(err) != c.code {
				t.Fatalf("%d frames, next %d, %v", len(frames), next, err)
			}
		})
	}
	if _, _, err := client(&scripted{}).ReadFrames(t.Context(), uuid.New(), 0, shim.MaxFrameSize-1); err == nil {
		t.Fatal("a limit that may not hold a frame was taken")
	}
}

func client(sb *scripted) *sandbox.Shim {
	return sandbox.NewShim(sb, sandbox.Info{Workspace: "/workspace", ShimRoot: "/shim", ShimCommand: []string{"/bin/shim", "x"}})
}

// scripted is a sandbox that answers what it is told to, and notes the last call.
type scripted struct {
	sandbox.Sandbox

	stdout   string
	exitCode int
	err      error
	file     []byte

	cmd      sandbox.Command
	deadline time.Time
	path     string
	content  string
}

func (s *scripted) Run(ctx context.Context, cmd sandbox.Command) (sandbox.Result, error) {
	s.cmd = cmd
	s.deadline, _ = ctx.Deadline()
	return sandbox.Result{ExitCode: s.exitCode, Stdout: []byte(s.stdout)}, s.err
}

func (s *scripted) PutFile(_ context.Context, path string, content io.Reader, _ uint32) error {
	b, err := io.ReadAll(content)
	s.path, s.content = path, string(b)
	return err
}

func (s *scripted) ReadFile(_ context.Context, _ string, _, _ int64) ([]byte, error) {
	return s.file, s.err
}
