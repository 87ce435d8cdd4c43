package engine

import (
	"bytes"
	"cmp"
	"context"
	"path"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/lifecycle"
	"foundry/internal/sandbox"
)

// insistFor is how long a stage is repeated that fails for reasons of no known kind, and for no other.
const insistFor = time.Minute

// made is a sandbox that is ready for commands, and how long its stages took.
type made struct {
	info   sandbox.Info
	shim   machineShim
	stages map[string]any
}

// stageError is a failure of one stage of making a sandbox.
type stageError struct {
	stage string
	err   error
}

func (e *stageError) Error() string { return e.stage + ": " + e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

// makeSandbox creates a sandbox and puts the workflow's files into it, or opens the one that the provider
// knows by the id readyAs. It insists until ctx ends: no room and no answer are no failures. What it
// returns is never nil.
func (r *run) makeSandbox(ctx context.Context, id uuid.UUID, readyAs string) (*made, error) {
	m := &made{stages: map[string]any{}}
	var sb sandbox.Sandbox
	create := func() (err error) {
		if readyAs != "" {
			m.info, err = r.wake(ctx, readyAs)
			return err
		}
		if m.info, err = r.e.Provider.Create(ctx, r.sandboxSpec(id)); err == nil {
			m.info, err = r.awaitReady(ctx, m.info)
		}
		return err
	}
	open := func() (err error) {
		if sb, err = r.e.Provider.Open(ctx, m.info.ProviderID); err != nil {
			return err
		}
		m.shim = sandbox.NewShim(sb, m.info)
		return m.shim.Prepare(ctx)
	}
	files := func() error {
		// Those of a sandbox that was ready before are there, as the commands have left them.
		if readyAs != "" {
			if old, err := r.filesOld(ctx); err != nil || !old {
				return err
			}
		}
		return r.putFiles(ctx, sb, m.info.Workspace)
	}
	for _, s := range []struct {
		name string
		do   func() error
	}{{"create", create}, {"shim", r.awake(ctx, &m.info, open)}, {"files", r.awake(ctx, &m.info, files)}} {
		begun := time.Now()
		err := r.insist(ctx, s.name, s.do)
		if s.name == "create" {
			r.e.metrics.sandboxCalls.WithLabelValues(r.e.Provider.Name(), "create", outcome(err)).Inc()
		}
		if err != nil {
			return m, &stageError{s.name, err}
		}
		m.stages[s.name+"_ms"] = time.Since(begun).Milliseconds()
	}
	return m, nil
}

// insist repeats one stage of making a sandbox until it is done, is refused for good, or ctx ends.
func (r *run) insist(ctx context.Context, stage string, do func() error) error {
	told, since := "", time.Now() // since when its failures are of no known kind
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		err := do()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		reason := "The provider does not answer."
		switch errs.CodeOf(err) {
		case "":
			return nil
		case errs.Invalid, errs.NotFound:
			return err
		case sandbox.Quota:
			reason, since = "The provider has no room.", time.Now()
		case errs.StaleClaim: // the lease is in doubt: this run is about to be stopped, or goes on
			reason, since = told, time.Now()
		case errs.Unavailable, errs.Unknown:
			since = time.Now()
		default:
			if time.Since(since) > insistFor {
				return err
			}
		}
		r.log.Warn().Err(err).Str("stage", stage).Msg("making a sandbox; trying again")
		if told != reason {
			told = reason
			r.tell(r.ctx, func() {
				r.record(event.SandboxWaiting, uuid.Nil, map[string]any{"stage": stage, "reason": reason})
			})
		}
		if !lifecycle.Sleep(ctx, pause) {
			return context.Cause(ctx)
		}
	}
}

// awake is a stage that works in a sandbox which was ready before it. One that does not answer, or is not found, may have been stopped
// since then, or be gone: its state is asked for, and it is started again, before the stage is repeated.
func (r *run) awake(ctx context.Context, info *sandbox.Info, stage func() error) func() error {
	return func() error {
		err := stage()
		if !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.NotFound) {
			return err
		}
		found, unready := r.wake(ctx, info.ProviderID)
		if unready != nil {
			return unready
		}
		*info = found
		if errs.Is(err, errs.NotFound) {
			return errs.E(errs.Internal, "The sandbox is there, but something in it is not found.").Because(err)
		}
		return err
	}
}

// wake waits until a sandbox that was there before is ready, and starts it if it was stopped. errs.NotFound means that it is gone.
func (r *run) wake(ctx context.Context, providerID string) (sandbox.Info, error) {
	info, err := r.look(ctx, providerID)
	if err != nil {
		return info, err
	}
	return r.awaitReady(ctx, info)
}

// look asks for the state of a sandbox that was there before. errs.NotFound means that the provider has said so twice, goneGap apart,
// since once proves nothing (protocols.md, 7).
func (r *run) look(ctx context.Context, providerID string) (sandbox.Info, error) {
	info, err := r.e.Provider.Get(ctx, providerID)
	if !errs.Is(err, errs.NotFound) {
		return info, err
	}
	if !lifecycle.Sleep(ctx, r.e.goneGap) {
		return info, context.Cause(ctx)
	}
	return r.e.Provider.Get(ctx, providerID)
}

// awaitReady asks for the state until it is final, and starts a sandbox that was stopped.
func (r *run) awaitReady(ctx context.Context, info sandbox.Info) (sandbox.Info, error) {
	for pause := pauseFirst; ; pause = min(2*pause, time.Second) {
		switch info.State {
		case sandbox.Ready:
			return info, nil
		case sandbox.Stopped:
			next, err := r.e.Provider.Start(ctx, info.ProviderID)
			switch {
			case errs.Is(err, errs.NotFound): // which look makes sure of
			case err != nil:
				return info, err
			case next.State == sandbox.Ready:
				return next, nil
			}
		case sandbox.Failed, sandbox.Destroying:
			return info, brokenBy(info)
		case sandbox.Creating, sandbox.Starting, sandbox.Stopping:
		}
		if !lifecycle.Sleep(ctx, pause) {
			return info, context.Cause(ctx)
		}
		next, err := r.look(ctx, info.ProviderID)
		if err != nil {
			return info, err
		}
		info = next
	}
}

// brokenBy says why a sandbox that has failed, or is being destroyed, will never be ready.
func brokenBy(info sandbox.Info) error {
	if info.State == sandbox.Destroying {
		return errs.E(errs.Invalid, "The sandbox is being destroyed.")
	}
	return errs.E(errs.Invalid, "%s", cmp.Or(info.Reason, "The sandbox has failed."))
}

// filesOld reports whether a sandbox that was ready before needs the files of the execution's version: a rerun with another one goes on
// in it, and none of its commands has been started.
func (r *run) filesOld(ctx context.Context) (bool, error) {
	if !r.c.Rerun {
		return false, nil
	}
	return r.e.Sandboxes.filesOld(ctx, r.c.ID)
}

func (r *run) putFiles(ctx context.Context, sb sandbox.Sandbox, workspace string) error {
	if len(r.def.Files) == 0 {
		return nil
	}
	files, err := r.e.Workflows.Contents(ctx, r.c.WorkflowID, r.c.Version)
	if err != nil {
		return err
	}
	for _, f := range files {
		mode := uint32(0o644)
		if f.Executable {
			mode = 0o755
		}
		if err := sb.PutFile(ctx, path.Join(workspace, f.Path), bytes.NewReader(f.Bytes), mode); err != nil {
			return err
		}
	}
	return nil
}
