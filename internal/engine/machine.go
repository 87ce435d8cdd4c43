package engine

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/lifecycle"
	"foundry/internal/sandbox"
	"foundry/internal/workflow"
)

// goneGap is the time between the two questions after which a sandbox counts as gone.
const goneGap = 15 * time.Second

// destroyTimeout bounds the call that ends a sandbox after its execution's end.
const destroyTimeout = 30 * time.Second

type machineShim = *sandbox.Shim

type machineState int

const (
	machineNone machineState = iota
	machineMaking
	machineReady
	machineFailed
	machineBroken // it will never work again, and is being destroyed
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
	ctx        context.Context // of the goroutines that work on this sandbox
	stop       context.CancelCauseFunc
}

// errAborted ends the making of a sandbox that nothing needs any more.
var errAborted = errors.New("the sandbox is not needed any more")

// errStopped ends a run whose sandbox somebody has stopped.
var errStopped = errors.New("the sandbox was stopped")

// settled reports whether no call to the provider is under way.
func (m *machine) settled() bool { return m.state != machineMaking }

// request writes the intent to make a sandbox, and makes it once that is durable.
func (m *machine) request(r *run) {
	m.begin(r, execution.NewID())
	r.addSandbox(journal.SandboxCreating, "")
	r.record(event.SandboxCreating, uuid.Nil, map[string]any{"sandbox_id": m.id.String(), "provider": r.e.Provider.Name()})
	r.then(func() { m.make(r, "") })
}

// resume completes the intent to make a sandbox (it has no provider id then) or to destroy one in which commands may run, or opens one
// that was ready, whose files belong to the commands. One that was stopped meanwhile is started again.
func (m *machine) resume(r *run, k known) {
	m.begin(r, k.id)
	m.info.ProviderID = k.providerID
	if k.broken {
		m.broken(r, k.id, reasonGone)
		return
	}
	if k.stopped {
		r.addSandbox(journal.SandboxStarting, "")
	}
	r.then(func() { m.make(r, k.providerID) })
}

func (m *machine) begin(r *run, id uuid.UUID) {
	*m = machine{state: machineMaking, id: id}
	m.ctx, m.stop = context.WithCancelCause(r.ctx)
}

// abort gives the making up, however long the provider would let us wait. The answer comes as a failure.
func (m *machine) abort() { m.stop(errAborted) }

func (m *machine) make(r *run, readyAs string) {
	id, making := m.id, m.ctx
	r.spawn(func(ctx context.Context) {
		made, err := r.makeSandbox(making, id, readyAs)
		r.tell(ctx, func() {
			if made.info.ProviderID != "" {
				m.info = made.info // also of one that failed at a later stage, and must be destroyed
			}
			switch {
			case errors.Is(context.Cause(making), errAborted) && len(r.active) > 0:
				m.unreached(r)
			case err == nil:
				m.ready(r, made)
			case readyAs != "" && errs.Is(err, errs.NotFound):
				m.gone(r, id, reasonGone)
			case readyAs != "" && errs.Is(err, errs.Invalid):
				m.broken(r, id, sandboxReason(err))
			case readyAs != "" && errors.Is(err, errAborted):
				m.state, m.readySince = machineReady, time.Now() // it is there, and the end says what becomes of it
			default:
				m.failed(r, err)
			}
		})
	})
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
		ID: r.machine.id, Provider: r.e.Provider.Name(), Host: r.e.Place, ProviderID: r.machine.info.ProviderID,
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
	stage, reason := "create", sandboxReason(err)
	if s, ok := errors.AsType[*stageError](err); ok {
		stage = s.stage
	}
	m.state = machineFailed
	m.failure = &execution.Failure{Code: "sandbox", Message: "There is no sandbox to run in (" + stage + "): " + reason}
	r.addSandbox(journal.SandboxDestroying, reason)
	if !errors.Is(err, errAborted) {
		r.log.Warn().Err(err).Msg("no sandbox")
		r.record(event.SandboxFailed, uuid.Nil, map[string]any{"sandbox_id": m.id.String(), "stage": stage, "reason": reason})
	}
	id, providerID := m.id, m.info.ProviderID
	r.then(func() {
		r.work.Go(func() { r.destroySandbox(r.outer, id, providerID) })
	})
	for _, id := range slices.Collect(maps.Keys(r.active)) {
		r.interrupt(id, "its sandbox could not be reached")
	}
}

// sandboxReason is what people are told of why there is no sandbox.
func sandboxReason(err error) string { return errs.MessageOf(err, "Internal error.") }

// suspect finds out whether the sandbox is gone, which the provider must say twice with a pause between, or will never work again.
func (m *machine) suspect(r *run) {
	if m.state != machineReady || m.suspected {
		return
	}
	m.suspected = true
	id, providerID := m.id, m.info.ProviderID
	r.spawn(func(ctx context.Context) {
		for times := 0; times < 2; {
			info, err := r.e.Provider.Get(ctx, providerID)
			switch {
			case err == nil && (info.State == sandbox.Stopped || info.State == sandbox.Stopping):
				r.stop(errStopped) // and load again: it is started, and what ran in it is found lost
				return
			case err == nil && (info.State == sandbox.Failed || info.State == sandbox.Destroying):
				r.tell(ctx, func() { m.broken(r, id, sandboxReason(brokenBy(info))) })
				return
			case err == nil:
				r.tell(ctx, func() { m.suspected = false })
				return
			case errs.Is(err, errs.NotFound):
				times++
			}
			if times < 2 && !lifecycle.Sleep(ctx, r.e.goneGap) {
				return
			}
		}
		r.tell(ctx, func() { m.gone(r, id, reasonGone) })
	})
}

// broken destroys a sandbox that will never work again. What ran in it is interrupted after that, since it runs elsewhere then.
func (m *machine) broken(r *run, id uuid.UUID, reason string) {
	if m.id != id || m.state != machineReady && m.state != machineMaking {
		return
	}
	m.stop(nil)
	r.tail.reset()
	m.state, m.suspected = machineBroken, false
	r.addSandbox(journal.SandboxDestroying, reason)
	providerID := m.info.ProviderID
	r.then(func() {
		r.spawn(func(ctx context.Context) {
			for pause := pauseFirst; !r.destroySandbox(ctx, id, providerID); pause = min(2*pause, pauseMost) {
				if !lifecycle.Sleep(ctx, pause) {
					return
				}
			}
			r.tell(ctx, func() { m.gone(r, id, reason) })
		})
	})
}

// reasonGone is what people are told of a sandbox that its provider does not know any more.
const reasonGone = "The sandbox is gone."

// gone forgets a sandbox that does not exist any more. What ran in it was interrupted.
func (m *machine) gone(r *run, id uuid.UUID, reason string) {
	if m.id != id {
		return
	}
	m.stop(nil)
	r.tail.reset()
	r.addSandbox(journal.SandboxFailed, reason) // which one that was destroyed does not become
	r.record(event.SandboxFailed, uuid.Nil, map[string]any{"sandbox_id": id.String(), "stage": "run", "reason": reason})
	*m = machine{}
	clear(r.recalled)
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

// destroySandbox reports whether it has.
func (r *run) destroySandbox(ctx context.Context, id uuid.UUID, providerID string) bool {
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	err := r.e.Destroy(ctx, id, providerID)
	if err != nil {
		r.log.Warn().Err(err).Str("sandbox_id", id.String()).Msg("destroying the sandbox; a janitor will try again")
	}
	return err == nil
}
