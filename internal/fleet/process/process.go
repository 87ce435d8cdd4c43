// Package process keeps a worker running as a child process on this machine.
//
// # Who dies, and what then happens
//
//	this process                        worker (own process group)
//	------------                        --------------------------
//	starts ────────────────────────────▶ reads its stdin, on which nothing ever comes
//	                                     exits or is killed
//	starts another after a pause ───────▶
//	its context ends: SIGTERM ──────────▶ drains, exits 0
//	  after the grace: SIGKILL ─────────▶
//	is killed: the kernel closes the ───▶ reads EOF: drains, exits
//	  other end of the worker's stdin
//
// A pipe tells of the parent's death on every Unix, whichever thread started the worker, and
// leaves the worker the time to drain; PDEATHSIG does neither. The worker has a process group
// of its own, so that Ctrl-C on a terminal reaches only this process, which then decides the
// order of things. Commands of users are in sessions of their own (package shim) and are touched
// by none of this.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"foundry/internal/errs"
	"foundry/internal/lifecycle"
)

const (
	defaultGrace = 20 * time.Second
	firstPause   = 200 * time.Millisecond
	longestPause = 5 * time.Second
	// longLife is how long a worker must have lived for the next pause to be the first again.
	longLife = 10 * time.Second
)

// Config says what to start.
type Config struct {
	Path string
	Args []string
	Env  []string // NAME=value, on top of this process's environment
	// Output gets what the worker writes to stdout and stderr, in one goroutine at a time.
	// Nil discards it.
	Output io.Writer
	Grace  time.Duration // between SIGTERM and SIGKILL; default 20 s
	// Started and Ended are told of each worker, by the goroutine of Run; nil is fine. The
	// error says how it ended; another one starts after the pause.
	Started func(pid int)
	Ended   func(err error, pause time.Duration)
}

// Worker is one worker at a time.
type Worker struct{ config Config }

// New returns a worker that is not running yet.
func New(c Config) *Worker {
	c.Grace = cmp.Or(c.Grace, defaultGrace)
	if c.Started == nil {
		c.Started = func(int) {}
	}
	if c.Ended == nil {
		c.Ended = func(error, time.Duration) {}
	}
	return &Worker{config: c}
}

// Run starts the worker, and another one whenever it ends, until the context ends. Then it
// stops it and returns nil. A worker that cannot be started at all is an error.
func (w *Worker) Run(ctx context.Context) error {
	pause := firstPause
	for ctx.Err() == nil {
		started := time.Now()
		ended, err := w.runOne(ctx)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if time.Since(started) >= longLife {
			pause = firstPause
		}
		w.config.Ended(ended, pause)
		lifecycle.Sleep(ctx, pause)
		pause = min(2*pause, longestPause)
	}
	return nil
}

// runOne starts one worker and waits for its end, which it describes in ended.
func (w *Worker) runOne(ctx context.Context) (ended, err error) {
	cmd := exec.CommandContext(ctx, w.config.Path, w.config.Args...)
	cmd.Env = append(cmd.Environ(), w.config.Env...)
	cmd.Stdout, cmd.Stderr = w.config.Output, w.config.Output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = w.config.Grace
	parent, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting a worker: %w", err)
	}
	defer parent.Close()
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return nil, nil
		}
		return nil, fmt.Errorf("starting a worker: %w", err)
	}
	w.config.Started(cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		return err, nil
	}
	return errors.New("it exited by itself"), nil
}

// WithParent is for the worker's side: it returns a context that ends when the process that
// started this one is gone, which the end of stdin tells. From then on, what is written to a closed
// stdout is lost, but no longer ends this process.
func WithParent(ctx context.Context, stdin io.Reader) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	// Notify rather than Ignore: an ignored signal stays ignored in every command that is started.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	go func() {
		// Nothing to wait for at the end: the read ends with the process at the latest.
		_, _ = io.Copy(io.Discard, stdin)
		cancel(errs.E(errs.Unavailable, "The process that started this worker is gone."))
	}()
	return ctx, func() {
		signal.Stop(broken)
		cancel(context.Canceled)
	}
}
