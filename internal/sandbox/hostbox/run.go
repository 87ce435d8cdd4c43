package hostbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
)

const (
	maxStdout = 4 << 20
	// waitDelay is how long Run waits for the pipes of a command that has exited or was killed.
	waitDelay = 5 * time.Second
)

var errTooMuch = errors.New("more than 4 MiB of output")

// Run implements sandbox.Sandbox. The command is a process of this machine, outside of any
// isolation.
func (b *Box) Run(ctx context.Context, c sandbox.Command) (sandbox.Result, error) {
	if err := ctx.Err(); err != nil {
		return sandbox.Result{}, err
	}
	if err := b.Usable(); err != nil {
		return sandbox.Result{}, err
	}
	dir := b.WorkspaceDir
	if c.Dir != "" {
		rel, ok := below(b.Workspace, c.Dir)
		if !ok {
			return sandbox.Result{}, errs.E(errs.Invalid, "%s is outside of the workspace.", c.Dir)
		}
		dir = filepath.Join(dir, rel)
	}
	stdout := &cappedBuffer{}
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Dir = dir
	cmd.Env = slices.Concat(b.Env, c.Env)
	cmd.Stdin = bytes.NewReader(c.Stdin)
	cmd.Stdout = stdout
	cmd.WaitDelay = waitDelay
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return sandbox.Result{}, errs.E(errs.Unknown, "The call did not end in time.").Because(context.Cause(ctx))
	case errors.Is(err, exec.ErrWaitDelay):
		return sandbox.Result{}, errs.E(errs.Unknown, "The command's output did not end with it.").Because(err)
	case stdout.full:
		return sandbox.Result{}, fmt.Errorf("running %s: %w", c.Argv[0], errTooMuch)
	case cmd.ProcessState == nil:
		return sandbox.Result{}, errs.E(errs.Unavailable, "The command cannot be run.").Because(err)
	}
	return sandbox.Result{ExitCode: cmd.ProcessState.ExitCode(), Stdout: stdout.content.Bytes()}, nil
}

// cappedBuffer keeps what fits; it goes on accepting, so that the command is not blocked.
type cappedBuffer struct {
	content bytes.Buffer
	full    bool
}

func (b *cappedBuffer) Write(p []byte) (int, error) {
	if b.content.Len()+len(p) > maxStdout {
		b.full = true
		return len(p), nil
	}
	return b.content.Write(p)
}
