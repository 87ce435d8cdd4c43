package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/sandbox"
	"foundry/internal/workflow"
)

// goneGap is the time between the two questions after which a sandbox counts as gone.
const goneGap = 15 * time.Second

// createTries is how often a creation that fails for a reason of no known kind is tried.
const createTries = 5

// destroyTimeout bounds the call that ends a sandbox after its execution's end.
const destroyTimeout = 30 * time.Second

type machineShim = *sandbox.Shim

type machineState int

const (
	machineNone machineState = iota
	machineMaking
	machineReady
	machineFailed
)

// machine is the execution's sandbox. Its fields belong to the loop's goroutine.
type machine struct {
	state      machineState
	id         uuid.UUID
	info       sandbox.Info
	shim       machineShim
	failure    *execution.Failure
	readySince time.Time
	suspected  bool
}

// settled reports whether no call to the provider is under way.
func (m *machine) settled() bool { return m.state != machineMaking }

// request writes the intent to make a sandbox, and makes it once that is durable.
func (m *machine) request(r *run) {
	*m = machine{state: machineMaking, id: execution.NewID()}
	r.addSandbox(journal.SandboxCreating, "")
	r.record(event.SandboxCreating, uuid.Nil, map[string]any{"sandbox_id": m.id.String(), "provider": r.e.Provider.Name()})
	r.then(func() { m.make(r) })
}

// resume completes the intent to make a sandbox, or opens one that is ready: a creation is idempotent
// by the sandbox's id.
func (m *machine) resume(r *run, id uuid.UUID) {
	*m = machine{state: machineMaking, id: id}
	r.then(func() { m.make(r) })
}

func (m *machine) make(r *run) {
	id := m.id
	r.spawn(func(ctx context.Context) {
		made, err := r.makeSandbox(ctx, id)
		r.tell(ctx, func() {
			m.info = made.info // also of one that failed at a later stage, and must be destroyed
			if err != nil {
				m.failed(r, err)
				return
			}
			m.ready(r, made)
		})
	})
}

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

// makeSandbox creates a sandbox and puts the workflow's files into it. What it returns is never nil.
func (r *run) makeSandbox(ctx context.Context, id uuid.UUID) (*made, error) {
	begun := time.Now()
	stages := map[string]any{}
	m := &made{stages: stages}
	info, err := r.createSandbox(ctx, r.sandboxSpec(id))
	r.e.metrics.sandboxCalls.WithLabelValues(r.e.Provider.Name(), "create", outcome(err)).Inc()
	m.info = info
	if err != nil {
		return m, &stageError{"create", err}
	}
	stages["create_ms"] = time.Since(begun).Milliseconds()

	begun = time.Now()
	sb, err := r.e.Provider.Open(ctx, info.ProviderID)
	if err != nil {
		return m, &stageError{"open", err}
	}
	m.shim = sandbox.NewShim(sb, info)
	if err := m.shim.Prepare(ctx); err != nil {
		return m, &stageError{"shim", err}
	}
	stages["shim_ms"] = time.Since(begun).Milliseconds()

	begun = time.Now()
	if err := r.putFiles(ctx, sb, info.Workspace); err != nil {
		return m, &stageError{"files", err}
	}
	stages["files_ms"] = time.Since(begun).Milliseconds()
	return m, nil
}

// createSandbox asks the provider until the sandbox is ready or never will be. No room and no answer
// are no failures.
func (r *run) createSandbox(ctx context.Context, spec sandbox.Spec) (sandbox.Info, error) {
	told, tries := "", 0
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		info, err := r.e.Provider.Create(ctx, spec)
		if err == nil && info.State != sandbox.Ready {
			info, err = r.awaitReady(ctx, info)
		}
		if err == nil || ctx.Err() != nil || errs.Is(err, errs.Invalid) {
			return info, err
		}
		reason := "The provider does not answer."
		switch errs.CodeOf(err) {
		case sandbox.Quota:
			reason = "The provider has no room."
		case errs.Unavailable, errs.Unknown:
		default:
			if tries++; tries == createTries {
				return info, err
			}
		}
		r.log.Warn().Err(err).Msg("making a sandbox; trying again")
		if told != reason {
			told = reason
			r.tell(ctx, func() { r.record(event.SandboxWaiting, uuid.Nil, map[string]any{"reason": reason}) })
		}
		if !sleep(ctx, pause) {
			return info, context.Cause(ctx)
		}
	}
}

// awaitReady asks for the state until it is final.
func (r *run) awaitReady(ctx context.Context, info sandbox.Info) (sandbox.Info, error) {
	for pause := pauseFirst; ; pause = min(2*pause, time.Second) {
		switch info.State {
		case sandbox.Ready:
			return info, nil
		case sandbox.Stopped:
			return r.e.Provider.Start(ctx, info.ProviderID)
		case sandbox.Failed:
			return info, errs.E(errs.Invalid, "%s", info.Reason)
		case sandbox.Destroying:
			return info, errs.E(errs.Invalid, "The sandbox is being destroyed.")
		case sandbox.Creating, sandbox.Starting, sandbox.Stopping:
		}
		if !sleep(ctx, pause) {
			return info, context.Cause(ctx)
		}
		next, err := r.e.Provider.Get(ctx, info.ProviderID)
		if err != nil {
			return info, err
		}
		info = next
	}
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

// sandboxSpec is what the text asks of the machine.
func (r *run) sandboxSpec(id uuid.UUID) sandbox.Spec {
	s := r.def.Sandbox
	spec := sandbox.Spec{
		ID: id, Image: s.Image, Snapshot: s.Snapshot, CPU: float64(s.CPU),
		MemoryMiB: int(s.Memory >> 20), DiskMiB: int(s.Disk >> 20),
		Network: sandbox.Network{Block: s.Network.Block, Allow: s.Network.Allow},
		Labels: map[string]string{
			sandbox.LabelInstallation: r.e.Installation.String(),
			sandbox.LabelSandbox:      id.String(),
			sandbox.LabelExecution:    r.c.ID.String(),
		},
	}
	for _, v := range s.Volumes {
		spec.Volumes = append(spec.Volumes, sandbox.Volume{Name: v.Name, Path: v.Path})
	}
	return spec
}

// addSandbox writes the sandbox's state into the entry.
func (r *run) addSandbox(state journal.SandboxState, reason string) {
	r.entry.Sandboxes = append(r.entry.Sandboxes, journal.Sandbox{
		ID: r.machine.id, Provider: r.e.Provider.Name(), Host: r.e.Host, ProviderID: r.machine.info.ProviderID,
		State: state, Isolation: r.machine.info.Isolation, Reason: storable(r.mask(reason), maxMessage),
	})
}

// ready opens the sandbox to commands: those that were running before are attached to.
func (m *machine) ready(r *run, made *made) {
	m.state, m.shim, m.readySince = machineReady, made.shim, time.Now()
	r.addSandbox(journal.SandboxReady, "")
	data := maps.Clone(made.stages)
	data["sandbox_id"], data["isolation"] = m.id.String(), m.info.Isolation
	r.record(event.SandboxReady, uuid.Nil, data)
	r.attachAll()
}

// failed gives the sandbox up, and with it all that needs one.
func (m *machine) failed(r *run, err error) {
	r.log.Warn().Err(err).Msg("no sandbox")
	stage, reason := "create", "Internal error."
	if s, ok := errors.AsType[*stageError](err); ok {
		stage = s.stage
	}
	if e, ok := errors.AsType[*errs.Error](err); ok {
		reason = e.Message
	}
	m.state = machineFailed
	m.failure = &execution.Failure{Code: "sandbox", Message: "There is no sandbox to run in (" + stage + "): " + reason}
	r.addSandbox(journal.SandboxDestroying, reason)
	r.record(event.SandboxFailed, uuid.Nil, map[string]any{"sandbox_id": m.id.String(), "stage": stage, "reason": reason})
	id, providerID := m.id, m.info.ProviderID
	r.then(func() {
		r.spawn(func(ctx context.Context) { r.destroySandbox(ctx, id, providerID) })
	})
	for _, id := range slices.Collect(maps.Keys(r.active)) {
		r.interrupt(id, "its sandbox could not be reached")
	}
}

// suspect finds out whether the sandbox is gone: the provider must say so twice, with a pause between.
func (m *machine) suspect(r *run) {
	if m.state != machineReady || m.suspected {
		return
	}
	m.suspected = true
	id, providerID := m.id, m.info.ProviderID
	r.spawn(func(ctx context.Context) {
		for times := 0; times < 2; {
			_, err := r.e.Provider.Get(ctx, providerID)
			switch {
			case err == nil:
				r.tell(ctx, func() { m.suspected = false; r.attachAll() })
				return
			case errs.Is(err, errs.NotFound):
				times++
			}
			if times < 2 && !sleep(ctx, r.e.goneGap) {
				return
			}
		}
		r.tell(ctx, func() { m.gone(r, id) })
	})
}

// gone forgets a sandbox that does not exist any more. What ran in it was interrupted.
func (m *machine) gone(r *run, id uuid.UUID) {
	if m.id != id {
		return
	}
	r.tail.forget()
	r.addSandbox(journal.SandboxFailed, "The sandbox is gone.")
	r.record(event.SandboxFailed, uuid.Nil, map[string]any{"sandbox_id": id.String(), "stage": "run", "reason": "The sandbox is gone."})
	*m = machine{}
	for _, id := range slices.Collect(maps.Keys(r.active)) {
		r.interrupt(id, "its sandbox is gone")
	}
}

// end writes into the terminal entry what is to become of the sandbox.
func (m *machine) end(r *run, status execution.Status) {
	if m.state != machineReady {
		return
	}
	keep := r.def.Sandbox.Keep
	if keep == workflow.KeepDefault {
		keep = r.e.Keep
	}
	if keep == workflow.KeepAlways || keep == workflow.KeepOnFailure && status != execution.Completed {
		r.addSandbox(journal.SandboxKept, "")
		r.entry.Sandboxes[len(r.entry.Sandboxes)-1].KeepMS = cmp.Or(r.def.Sandbox.KeepFor, defaultKeepFor).Milliseconds()
		m.state = machineNone
		return
	}
	r.addSandbox(journal.SandboxDestroying, "")
}

// cleanUp destroys the sandbox of an execution that has ended. The intent is durable: if this fails, a
// janitor completes it.
func (m *machine) cleanUp(ctx context.Context, r *run) {
	if m.state != machineReady {
		return
	}
	r.e.metrics.sandboxSeconds.Add(time.Since(m.readySince).Seconds())
	r.destroySandbox(ctx, m.id, m.info.ProviderID)
}

func (r *run) destroySandbox(ctx context.Context, id uuid.UUID, providerID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), destroyTimeout)
	defer cancel()
	if err := r.e.Destroy(ctx, id, providerID); err != nil {
		r.log.Warn().Err(err).Str("sandbox_id", id.String()).Msg("destroying the sandbox; a janitor will try again")
	}
}
