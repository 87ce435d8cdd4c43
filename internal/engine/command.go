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

// beginRun makes a run node durable as running and starts its command after that. It reports false
// when there is no room, or no sandbox yet.
func (r *run) beginRun(node int) bool {
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
		r.failUnstarted(node, r.machine.failure)
		return true
	case machineReady:
	}
	env, failure := r.commandEnv(node, r.nodes[node].attempt+1)
	if failure != nil {
		r.failUnstarted(node, failure)
		return true
	}
	id := r.addNodeRun(node, journal.NodeRun{
		Status: execution.NodeRunning, SandboxID: r.machine.id, ShimProtocol: shim.Protocol,
	})
	r.record(event.NodeStarted, id, map[string]any{"sandbox_id": r.machine.id.String()})
	r.states[node] = graph.Running
	r.nodes[node].current, r.nodes[node].signaled = id, false
	r.active[id] = node
	r.then(func() { r.launch(node, id, journal.Cursor{NodeRunID: id}, env) })
	return true
}

// launch follows a node run's output from the cursor and starts its command, which is harmless
// when it has been started before.
func (r *run) launch(node int, id uuid.UUID, cursor journal.Cursor, env []string) {
	n := &r.def.Nodes[node]
	spec := shim.Spec{Script: n.Script, Shell: string(n.Shell), Timeout: n.Timeout, OutputLimit: r.def.Sandbox.LogLimit}
	sh, ctx := r.machine.shim, r.machine.ctx
	r.tail.follow(ctx, sh, cursor)
	r.work.Go(func() { r.start(ctx, sh, id, spec, env) })
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
	for id, node := range r.active {
		n := &r.nodes[node]
		if n.signaled && !r.facts.CancelForced && !r.facts.DeadlinePassed {
			continue
		}
		if sh, ctx := r.machine.shim, r.machine.ctx; sh != nil { // else attachAll does it
			n.signaled = true
			r.work.Go(func() { r.endCommand(ctx, sh, id) })
		}
	}
	for node := range r.nodes {
		if t := r.nodes[node].retrying; t != nil {
			t.Stop()
			r.nodes[node].retrying = nil
			r.states[node] = graph.Failed
			r.noteFailure(node)
		}
	}
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
	if r.facts.Canceled || r.facts.DeadlinePassed {
		r.endNodeRun(id, execution.NodeCanceled, journal.NodeRun{})
		return
	}
	r.interrupt(id, "sealed")
}

// exited ends a node run whose command has ended and whose output has been submitted.
func (r *run) exited(id uuid.UUID, exit *shim.Exit) {
	node, ok := r.active[id]
	if !ok {
		return
	}
	if exit.Reason == shim.Canceled && !r.facts.Canceled && !r.facts.DeadlinePassed {
		r.interrupt(id, "signaled by somebody else")
		return
	}
	result := journal.NodeRun{Summary: storable(r.mask(string(exit.Summary)), shim.DefaultSummaryLimit)}
	if exit.ExitCode >= 0 {
		code := exit.ExitCode
		result.ExitCode = &code
	}
	r.nodes[node].outputs = nil // those of an earlier attempt do not count
	status, failure := judge(exit, r.def.Nodes[node].Timeout)
	outputs, err := parseOutputs(exit)
	if err == nil && len(outputs) > 0 {
		var masked []string
		outputs, masked = r.maskOutputs(outputs)
		r.warnMasked(id, masked)
		r.nodes[node].outputs = outputs
		result.Outputs, err = encodeOutputs(outputs, maxNodeOutputs)
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
	node, ok := r.active[id]
	if !ok {
		return
	}
	delete(r.active, id)
	n := &r.nodes[node]
	result.Failure = r.maskFailure(result.Failure)
	n.current, n.failure = uuid.Nil, result.Failure
	result.ID, result.Key, result.Attempt, result.Status = id, r.def.Nodes[node].Key, n.attempt, status
	var again bool
	if status == execution.NodeFailed || status == execution.NodeTimedOut {
		n.charged++
		var delay time.Duration
		if delay, again = r.retryDelay(node, result.ExitCode); again {
			result.RetryIn = &delay
		}
	}
	r.entry.NodeRuns = append(r.entry.NodeRuns, result)

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
	r.states[node] = graph.Status(status)
	switch {
	case again:
		r.retry(node, id, *result.RetryIn)
	case status == execution.NodeFailed || status == execution.NodeTimedOut:
		r.noteFailure(node)
	}
}

// retryDelay says whether a node that has just failed is run again, and after what pause.
func (r *run) retryDelay(node int, exitCode *int) (time.Duration, bool) {
	def, n := &r.def.Nodes[node], &r.nodes[node]
	if n.charged > def.Retries.Max || r.cancel() != graph.NotCanceled {
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
	delay := def.Retries.Delay(n.charged)
	return delay/2 + rand.N(delay/2+1), true //nolint:gosec // jitter needs no secrecy
}

// retry runs a node again after a pause. Until then it counts as running.
func (r *run) retry(node int, id uuid.UUID, delay time.Duration) {
	r.states[node] = graph.Running
	r.record(event.NodeRetrying, id, map[string]any{"delay_ms": delay.Milliseconds(), "next_attempt": r.nodes[node].attempt + 1})
	r.then(func() { r.schedule(node, delay) })
}

func (r *run) schedule(node int, delay time.Duration) {
	n := &r.nodes[node]
	ctx := r.ctx
	n.retryAt = time.Now().Add(delay)
	n.retrying = time.AfterFunc(delay, func() {
		r.tell(ctx, func() {
			if n.retrying != nil { // a cancel may have been faster
				n.retrying = nil
				r.states[node] = graph.Pending
			}
		})
	})
}

// interrupt ends a node run whose machinery died. It is not charged; the node is run again at once,
// unless that has happened too often.
func (r *run) interrupt(id uuid.UUID, reason string) {
	node, ok := r.active[id]
	if !ok {
		return
	}
	n := &r.nodes[node]
	n.interruptions++
	r.e.metrics.interruptions.Inc()
	r.endNodeRun(id, execution.NodeInterrupted, journal.NodeRun{
		Failure: &execution.Failure{Code: "interrupted", Message: "The command was lost with the machinery around it: " + reason + "."},
	})
	switch {
	case r.facts.Canceled || r.facts.DeadlinePassed:
		r.states[node] = graph.Canceled
	case n.interruptions >= maxInterruptions:
		r.failUnstarted(node, &execution.Failure{
			Code: "infrastructure", Message: fmt.Sprintf("The node was interrupted %d times.", n.interruptions),
		})
	default:
		r.states[node] = graph.Pending
	}
}

// commandEnv is what a command gets beside the sandbox's own environment: facts, then the workflow's env, the
// node's, and secrets. Of two with one name the later wins.
func (r *run) commandEnv(node, attempt int) ([]string, *execution.Failure) {
	own, err := r.evalEnv(r.def.Nodes[node].Env, r.contexts(node))
	if err != nil {
		return nil, &execution.Failure{Code: "expression", Message: sentence("The env cannot be evaluated", err)}
	}
	secrets, failure := r.secretEnv(node)
	if failure != nil {
		return nil, failure
	}
	vars := map[string]string{
		"CI":                   "true",
		"FOUNDRY_EXECUTION_ID": r.c.ID.String(), "FOUNDRY_WORKFLOW": r.c.WorkflowSlug,
		"FOUNDRY_NODE": r.def.Nodes[node].Key, "FOUNDRY_INDEX": "0", "FOUNDRY_ATTEMPT": strconv.Itoa(attempt),
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
