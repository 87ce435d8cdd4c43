package engine

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/graph"
	"foundry/internal/journal"
	"foundry/internal/lifecycle"
	"foundry/internal/shim"
)

// maxInterruptions is how often one node may be interrupted before it fails.
const maxInterruptions = 5

// Pauses between calls to a sandbox that did not answer.
const (
	pauseFirst = 50 * time.Millisecond
	pauseMost  = 5 * time.Second
)

// beginRun makes an instance of a run node durable as running and starts its command after that. It reports false
// when there is no room, or no sandbox yet.
func (r *run) beginRun(in *instance) bool {
	if len(r.active) >= r.def.MaxParallel {
		return false
	}
	switch r.machine.state {
	case machineNone:
		r.machine.request(r)
		return false
	case machineMaking, machineBroken:
		return false
	case machineFailed:
		r.failUnstarted(in, r.machine.failure)
		return true
	case machineReady:
	}
	env, failure := r.commandEnv(in, in.attempt+1)
	if failure != nil {
		r.failUnstarted(in, failure)
		return true
	}
	id := r.addNodeRun(in, journal.NodeRun{
		Status: execution.NodeRunning, SandboxID: r.machine.id, ShimProtocol: shim.Protocol,
	})
	r.recordStart(in, id, map[string]any{"sandbox_id": r.machine.id.String()})
	in.current, in.signaled = id, false
	r.active[id] = in
	r.move(in, graph.Running)
	r.then(func() { r.launch(in, id, journal.Cursor{NodeRunID: id}, env) })
	return true
}

// launch follows a node run's output from the cursor and starts its command, which is harmless
// when it has been started before.
func (r *run) launch(in *instance, id uuid.UUID, cursor journal.Cursor, env []string) {
	n := &r.def.Nodes[in.node]
	spec := shim.Spec{Script: n.Script, Shell: string(n.Shell), Timeout: n.Timeout, OutputLimit: r.def.Sandbox.LogLimit}
	sh, ctx := r.machine.shim, r.machine.ctx
	r.tail.follow(ctx, sh, cursor)
	from := r.goesOn(in)
	r.work.Go(func() {
		if r.restore(ctx, sh, id, from, &spec) {
			r.start(ctx, sh, id, spec, env)
		}
	})
}

// start asks the shim until it has answered. What became of the command is the tailer's to tell, except
// where there is nothing to tail.
func (r *run) start(ctx context.Context, sh machineShim, id uuid.UUID, spec shim.Spec, env []string) {
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		result, err := sh.Start(ctx, id, spec, env)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && result.State == shim.Sealed:
			r.tell(ctx, func() { r.neverStarted(id) })
			return
		case err == nil:
			return
		case errs.Is(err, errs.Invalid):
			r.tell(ctx, func() {
				r.endNodeRun(id, execution.NodeFailed, journal.NodeRun{Failure: &execution.Failure{Code: "start_failed", Message: sentence("The command cannot be started", err)}})
			})
			return
		case errs.Is(err, errs.NotFound):
			r.tell(ctx, func() { r.machine.suspect(r) }) // if it is not gone, the start is still owed
		}
		r.log.Warn().Err(err).Str("node_run_id", id.String()).Msg("starting a command; trying again")
		if !lifecycle.Sleep(ctx, pause) {
			return
		}
	}
}

// endCommands asks every running command to end: TERM, and KILL after the shim's grace. Nodes that
// wait for a retry end as their last attempt did. It is called for durable facts only.
func (r *run) endCommands() {
	for _, in := range r.active {
		if !in.signaled || r.facts.CancelForced || r.facts.DeadlinePassed {
			r.signal(in)
		}
	}
	for in := range r.instances() {
		r.stopRetrying(in)
	}
}

// signal asks the command of an instance to end.
func (r *run) signal(in *instance) {
	sh, ctx, id := r.machine.shim, r.machine.ctx, in.current
	if sh == nil || r.active[id] != in {
		return // attachAll does it, or it has ended
	}
	in.signaled = true
	r.work.Go(func() { r.endCommand(ctx, sh, id) })
}

// stopRetrying ends an instance that waits for a retry, as its last attempt did.
func (r *run) stopRetrying(in *instance) {
	if in.retrying != nil {
		in.retrying.Stop()
		in.retrying = nil
		r.move(in, graph.Failed)
	}
}

// unwanted reports whether what runs of an instance is to end: the execution is canceled or its time is over, or its matrix
// has failed.
func (r *run) unwanted(in *instance) bool {
	f := r.nodes[in.node].fan
	return r.facts.Canceled || r.facts.DeadlinePassed || f != nil && f.failing
}

// endCommand signals a command, or seals its directory if it has not been started yet.
func (r *run) endCommand(ctx context.Context, sh machineShim, id uuid.UUID) {
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		state, err := sh.Signal(ctx, id, shim.TERM)
		if err == nil && state == shim.New {
			state, err = sh.Seal(ctx, id)
			if err == nil && state == shim.Sealed {
				r.tell(ctx, func() { r.neverStarted(id) })
				return
			}
			// It has started meanwhile, or could not be sealed.
		} else if err == nil || ctx.Err() != nil {
			r.tail.heard(err == nil)
			return
		}
		r.tail.heard(err == nil)
		if err != nil {
			r.log.Warn().Err(err).Str("node_run_id", id.String()).Msg("signaling a command; trying again")
		}
		if !lifecycle.Sleep(ctx, pause) {
			return
		}
	}
}

// neverStarted ends a node run whose directory was sealed before its command began.
func (r *run) neverStarted(id uuid.UUID) {
	if in, ok := r.active[id]; ok && r.unwanted(in) {
		r.endNodeRun(id, execution.NodeCanceled, journal.NodeRun{})
		return
	}
	r.interrupt(id, "sealed")
}

// exited ends a node run whose command has ended and whose output has been submitted.
func (r *run) exited(id uuid.UUID, exit *shim.Exit) {
	in, ok := r.active[id]
	if !ok {
		return
	}
	if exit.Reason == shim.Canceled && !r.unwanted(in) {
		r.interrupt(id, "signaled by somebody else")
		return
	}
	result := journal.NodeRun{Summary: storable(r.mask(string(exit.Summary)), shim.DefaultSummaryLimit)}
	if exit.ExitCode >= 0 {
		code := exit.ExitCode
		result.ExitCode = &code
	}
	in.outputs = nil // those of an earlier attempt do not count
	status, failure := judge(exit, r.def.Nodes[in.node].Timeout)
	outputs, err := parseOutputs(exit)
	if err == nil && len(outputs) > 0 {
		var masked []string
		outputs, masked = r.maskOutputs(outputs)
		r.warnMasked(id, masked)
		if result.Outputs, err = r.encodeOutputs(in, outputs); err == nil {
			in.outputs = outputs
		}
	}
	if err != nil && status == execution.NodeCompleted {
		status, failure = execution.NodeFailed, &execution.Failure{Code: "outputs", Message: err.Error()}
	}
	if exit.Truncated {
		r.record(event.Warning, id, map[string]any{
			"code": "log_limit", "message": "The output reached its limit; what came after it was not kept.",
		})
	}
	if exit.Error != "" && exit.Reason != shim.StartFailed {
		r.log.Warn().Str("node_run_id", id.String()).Str("cause", exit.Error).Msg("output of a command was lost in its sandbox")
		r.record(event.Warning, id, map[string]any{
			"code": "output_lost", "message": "The sandbox could not store all output, most likely because its disk was full; what came after that was not kept.",
		})
	}
	result.Failure = failure
	r.endNodeRun(id, status, result)
}

// judge says how a command ended.
func judge(exit *shim.Exit, timeout time.Duration) (execution.NodeStatus, *execution.Failure) {
	switch exit.Reason {
	case shim.Exited:
		if exit.ExitCode == 0 {
			return execution.NodeCompleted, nil
		}
		return execution.NodeFailed, &execution.Failure{Code: "exit_code", Message: fmt.Sprintf("The command exited with code %d.", exit.ExitCode)}
	case shim.Signaled:
		return execution.NodeFailed, &execution.Failure{Code: "signaled", Message: fmt.Sprintf("The command was ended by a signal (exit code %d).", exit.ExitCode)}
	case shim.TimedOut:
		return execution.NodeTimedOut, &execution.Failure{Code: "timed_out", Message: fmt.Sprintf("The command did not end within its timeout of %s.", timeout)}
	case shim.Canceled:
		return execution.NodeCanceled, nil
	case shim.StartFailed:
	}
	return execution.NodeFailed, &execution.Failure{Code: "start_failed", Message: "The command could not be executed: " + exit.Error + "."}
}

// parseOutputs reads what the command wrote to FOUNDRY_OUTPUT. The error is a sentence.
func parseOutputs(exit *shim.Exit) (map[string]any, error) {
	if exit.OutputsError != "" {
		return nil, errs.E(errs.Invalid, "%s", exit.OutputsError)
	}
	parsed, err := shim.ParseOutputs(exit.Outputs)
	if err != nil {
		return nil, errs.E(errs.Invalid, "%s", sentence("FOUNDRY_OUTPUT cannot be read", err))
	}
	outputs := make(map[string]any, len(parsed))
	for name, value := range parsed {
		outputs[name] = value
	}
	return outputs, nil
}

// endNodeRun writes a node run's end into the entry, and the retry that follows it, if one does.
func (r *run) endNodeRun(id uuid.UUID, status execution.NodeStatus, result journal.NodeRun) {
	in, ok := r.active[id]
	if !ok {
		return
	}
	delete(r.active, id)
	r.endInstance(in, status, result)
}

// endInstance writes the end of an instance's newest node run into the entry, and the retry that follows it, if one does.
func (r *run) endInstance(in *instance, status execution.NodeStatus, result journal.NodeRun) {
	id := in.current
	result.Failure = r.maskFailure(result.Failure)
	in.current, in.child, in.failure = uuid.Nil, uuid.Nil, result.Failure
	result.ID, result.Status = id, status
	var again bool
	if status == execution.NodeFailed || status == execution.NodeTimedOut {
		in.charged++
		var delay time.Duration
		if delay, again = r.retryDelay(in, result.ExitCode); again {
			result.RetryIn = &delay
		}
	}
	r.writeNodeRun(in, result)

	data := map[string]any{}
	if result.ExitCode != nil {
		data["exit_code"] = *result.ExitCode
	}
	if result.Outputs != nil {
		data["outputs"] = brief(result.Outputs)
	}
	if result.Failure != nil {
		data["error"] = result.Failure
	}
	r.record(event.Type("node."+string(status)), id, data)
	switch {
	case again:
		r.retry(in, id, *result.RetryIn)
	case status == execution.NodeInterrupted:
		r.again(in)
	default:
		r.move(in, graph.Status(status))
	}
}

// retryDelay says whether an instance that has just failed is run again, and after what pause.
func (r *run) retryDelay(in *instance, exitCode *int) (time.Duration, bool) {
	def := &r.def.Nodes[in.node]
	if in.charged > def.Retries.Max || r.unwanted(in) || r.nodeRuns+r.due() >= maxNodeRuns {
		return 0, false
	}
	if len(def.RetryOn) > 0 {
		listed := false
		for _, code := range def.RetryOn {
			listed = listed || exitCode != nil && *exitCode == code
		}
		if !listed {
			return 0, false
		}
	}
	delay := def.Retries.Delay(in.charged)
	return delay/2 + rand.N(delay/2+1), true //nolint:gosec // jitter needs no secrecy
}

// retry runs an instance again after a pause. Until then it counts as running.
func (r *run) retry(in *instance, id uuid.UUID, delay time.Duration) {
	r.move(in, graph.Running)
	r.record(event.NodeRetrying, id, map[string]any{"delay_ms": delay.Milliseconds(), "next_attempt": in.attempt + 1})
	r.then(func() { r.schedule(in, delay) })
}

func (r *run) schedule(in *instance, delay time.Duration) {
	ctx := r.ctx
	in.retryAt = time.Now().Add(delay)
	in.retrying = time.AfterFunc(delay, func() {
		r.tell(ctx, func() {
			if in.retrying != nil { // a cancel may have been faster
				in.retrying = nil
				r.move(in, graph.Pending)
			}
		})
	})
}

// interrupt ends a node run whose machinery died. It is not charged; the instance is run again at once,
// unless that has happened too often.
func (r *run) interrupt(id uuid.UUID, reason string) {
	in, ok := r.active[id]
	if !ok {
		return
	}
	in.interruptions++
	r.e.metrics.interruptions.Inc()
	r.endNodeRun(id, execution.NodeInterrupted, journal.NodeRun{
		Failure: &execution.Failure{Code: "interrupted", Message: "The command was lost with the machinery around it: " + reason + "."},
	})
}

// again says what becomes of an instance that was interrupted.
func (r *run) again(in *instance) {
	switch {
	case r.unwanted(in):
		r.move(in, graph.Canceled)
	case in.interruptions >= maxInterruptions:
		r.failUnstarted(in, &execution.Failure{
			Code: "infrastructure", Message: fmt.Sprintf("The node was interrupted %d times.", in.interruptions),
		})
	default:
		in.interrupted = true
		r.move(in, graph.Pending)
	}
}

// commandEnv is what a command gets beside the sandbox's own environment: facts, then the workflow's env, the
// node's, and secrets. Of two with one name the later wins.
func (r *run) commandEnv(in *instance, attempt int) ([]string, *execution.Failure) {
	n := &r.def.Nodes[in.node]
	own, err := r.evalEnv(n.Env, r.contextsOf(in))
	if err != nil {
		return nil, &execution.Failure{Code: "expression", Message: sentence("The env cannot be evaluated", err)}
	}
	secrets, failure := r.secretEnv(in.node)
	if failure != nil {
		return nil, failure
	}
	vars := map[string]string{
		"CI":                   "true",
		"FOUNDRY_EXECUTION_ID": r.c.ID.String(), "FOUNDRY_WORKFLOW": r.c.WorkflowSlug,
		"FOUNDRY_NODE": n.Key, "FOUNDRY_INDEX": strconv.Itoa(in.index), "FOUNDRY_ATTEMPT": strconv.Itoa(attempt),
	}
	for _, layer := range []map[string]any{r.env, own} {
		for name, value := range layer {
			vars[name] = fmt.Sprint(value)
		}
	}
	maps.Copy(vars, secrets)
	env := make([]string, 0, len(vars))
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	return env, nil
}
