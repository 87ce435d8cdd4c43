package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/graph"
	"foundry/internal/journal"
	"foundry/internal/lifecycle"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

// maxAdmitted is how many executions one entry queues, others wait for its commit, and how many are read at once.
const maxAdmitted = 50

// target is the workflow that a node runs: the version that was the newest when the node began.
type target struct {
	workflow *workflow.Workflow
	def      *workflow.Definition
}

// beginChild makes an instance of a workflow node durable as waiting, and with it the execution that it waits for.
func (r *run) beginChild(in *instance) bool {
	if r.cancel() == graph.Forced {
		r.skip(in, r.stopReason())
		return true
	}
	if len(r.entry.Children) >= maxAdmitted {
		r.more = true
		return false
	}
	request, failure := r.childRequest(in)
	if r.broken != nil {
		return false
	}
	if failure != nil {
		r.failUnstarted(in, failure)
		return true
	}
	id := r.addNodeRun(in, journal.NodeRun{Status: execution.NodeWaiting})
	in.current, in.afterCancel = id, r.facts.Canceled
	r.recordStart(in, id, nil)
	r.record(event.NodeWaiting, id, map[string]any{
		"kind": string(workflow.KindWorkflow), "execution_id": request.ID.String(), "workflow": r.def.Nodes[in.node].Workflow,
	})
	r.move(in, graph.Waiting)
	r.admitChild(in, request)
	return true
}

// admitChild has the execution of an instance queued with the entry.
func (r *run) admitChild(in *instance, request queue.Request) {
	request.Parent = &queue.Parent{ExecutionID: r.c.ID, NodeRunID: in.current, Depth: r.c.Depth}
	in.child, in.asked = request.ID, graph.NotCanceled
	r.entry.Children = append(r.entry.Children, request)
}

// childRequest is the execution that an instance asks for, or why there can be none. A question to the database that was not answered sets
// broken.
func (r *run) childRequest(in *instance) (queue.Request, *execution.Failure) {
	n := &r.def.Nodes[in.node]
	if r.c.Depth >= queue.MaxDepth {
		return queue.Request{}, &execution.Failure{Code: "too_deep", Message: fmt.Sprintf("Workflows run workflows to a depth of %d, which this execution has reached.", queue.MaxDepth)}
	}
	to, failure := r.target(in.node)
	if failure != nil || r.broken != nil {
		return queue.Request{}, failure
	}
	given, err := evalOutputs(n.Inputs, r.contextsOf(in))
	if err != nil {
		return queue.Request{}, &execution.Failure{Code: "expression", Message: sentence("An input cannot be evaluated", err)}
	}
	raw, err := encodeOutputs(given, workflow.MaxInputs)
	if err != nil {
		return queue.Request{}, &execution.Failure{Code: "inputs", Message: err.Error()}
	}
	inputs, faults := to.def.ValidateInputs(raw)
	if len(faults) > 0 {
		return queue.Request{}, &execution.Failure{Code: "inputs", Message: fmt.Sprintf("The workflow %s does not take these inputs: %s: %s", n.Workflow, faults[0].Pointer, faults[0].Detail)}
	}
	request := queue.Request{
		ID: execution.NewID(), OrganizationID: r.c.OrganizationID, WorkflowID: to.workflow.ID, Version: to.workflow.LatestVersion,
		Source: execution.FromExecution, Actor: fmt.Sprintf("%s #%d", r.c.WorkflowSlug, r.c.Number), Priority: to.def.Priority,
	}
	if err := request.Fill(to.def, to.workflow.Slug, inputs); err != nil {
		return queue.Request{}, &execution.Failure{Code: "group", Message: errs.MessageOf(err, err.Error())}
	}
	return request, nil
}

// target looks up the workflow that a node runs, once a claim, so that all of a matrix runs the same version.
func (r *run) target(node int) (*target, *execution.Failure) {
	n := &r.nodes[node]
	if n.target != nil {
		return n.target, nil
	}
	slug := r.def.Nodes[node].Workflow
	w, err := r.e.Workflows.Get(r.ctx, r.c.OrganizationID, slug)
	if errs.Is(err, errs.NotFound) {
		return nil, &execution.Failure{Code: "workflow", Message: fmt.Sprintf("There is no workflow %q.", slug)}
	}
	var def *workflow.Definition
	if err == nil {
		def, err = r.e.definitions.Get(r.ctx, w.ID, w.LatestVersion)
	}
	switch {
	case errs.Is(err, errs.Validation):
		return nil, &execution.Failure{Code: "workflow", Message: fmt.Sprintf("The newest version of the workflow %q cannot be read.", slug)}
	case err != nil:
		r.broken = fmt.Errorf("looking up a workflow: %w", err)
		return nil, nil
	}
	n.target = &target{w, def}
	return n.target, nil
}

// refusedChildren ends the instances whose executions were not admitted.
func (r *run) refusedChildren(refused map[uuid.UUID]*errs.Error) {
	for in := range r.instances() {
		if err, ok := refused[in.child]; ok && in.status == graph.Waiting {
			r.endInstance(in, execution.NodeFailed, journal.NodeRun{Failure: &execution.Failure{Code: string(err.Code), Message: "The execution was not queued: " + err.Message}})
		}
	}
}

// takeChildren takes in which executions of its nodes have ended. What is to be queued yet has none; recalled says that there is no such
// thing, so that what is not found is queued again.
func (r *run) takeChildren(recalled bool) error {
	waiting := r.waiting(workflow.KindWorkflow)
	if len(waiting) == 0 {
		return nil
	}
	ids := make([]uuid.UUID, 0, len(waiting))
	for id := range waiting {
		ids = append(ids, id)
	}
	for some := range slices.Chunk(ids, maxAdmitted) {
		found, err := r.e.Executions.Children(r.ctx, r.c.ID, some)
		if err != nil {
			return err
		}
		for i := range found {
			in := waiting[found[i].NodeRunID]
			delete(waiting, found[i].NodeRunID)
			in.child = found[i].ID
			if found[i].Status.Terminal() {
				r.childEnded(in, &found[i])
			}
		}
	}
	if !recalled {
		return nil
	}
	for _, in := range waiting { // it was refused, and nobody has said so yet
		if r.unwanted(in) && !in.afterCancel {
			r.endInstance(in, execution.NodeCanceled, journal.NodeRun{})
			continue
		}
		request, failure := r.childRequest(in)
		switch {
		case r.broken != nil:
			return r.broken
		case failure != nil:
			r.endInstance(in, execution.NodeFailed, journal.NodeRun{Failure: failure})
		default:
			r.admitChild(in, request)
		}
	}
	return nil
}

// childEnded ends an instance as its execution has ended.
func (r *run) childEnded(in *instance, c *execution.Child) {
	name := fmt.Sprintf("%s #%d", c.WorkflowSlug, c.Number)
	result := journal.NodeRun{}
	status := execution.NodeCompleted
	switch c.Status {
	case execution.Completed:
	case execution.Failed:
		status, result.Failure = execution.NodeFailed, &execution.Failure{Code: "child_failed", Message: "The execution " + name + " failed."}
		if c.Failure != nil {
			result.Failure.Message += " " + c.Failure.Message
		}
	case execution.TimedOut:
		status, result.Failure = execution.NodeTimedOut, &execution.Failure{Code: "child_timed_out", Message: "The execution " + name + " timed out."}
	case execution.Canceled:
		status = execution.NodeCanceled
		if !r.unwanted(in) { // a cancel of it alone is a failure here, or what needs it would be skipped in silence
			status, result.Failure = execution.NodeFailed, &execution.Failure{Code: "child_canceled", Message: "The execution " + name + " was canceled."}
		}
	case execution.Queued, execution.Running, execution.Waiting:
	}
	if err := r.childOutputs(in, c, &result); err != nil {
		status, result.Failure = execution.NodeFailed, &execution.Failure{Code: "outputs", Message: err.Error()}
	}
	r.endInstance(in, status, result)
}

// childOutputs makes the outputs of an execution those of its instance. The error is a sentence.
func (r *run) childOutputs(in *instance, c *execution.Child, result *journal.NodeRun) error {
	in.outputs = nil
	if c.Size > execution.MaxChildOutputs {
		return fmt.Errorf("The outputs of the execution have %d bytes; the limit is %d.", c.Size, maxNodeOutputs) //nolint:staticcheck // a sentence for a person
	}
	if c.Outputs == nil {
		return nil
	}
	var outputs map[string]any
	if err := json.Unmarshal(c.Outputs, &outputs); err != nil {
		return errors.New(sentence("The outputs of the execution cannot be read", err))
	}
	outputs, masked := r.maskOutputs(outputs)
	raw, err := r.encodeOutputs(in, outputs)
	if err != nil {
		return err
	}
	r.warnMasked(in.current, masked)
	in.outputs, result.Outputs = outputs, raw
	return nil
}

// cancelChild passes a cancel on to the execution of an instance, once the entry is durable. Until that was done, this execution is not
// parked: who claims it next does it again, but only if there is a reason for a claim.
func (r *run) cancelChild(in *instance) {
	how := max(r.cancel(), graph.Requested)
	f := r.nodes[in.node].fan
	spared := in.afterCancel && how == graph.Requested && (f == nil || !f.failing) // it runs because of the cancel
	if spared || in.asked >= how || in.child == uuid.Nil {
		return
	}
	in.asked = how
	id, by := in.child, fmt.Sprintf("%s #%d, whose node %s runs it", r.c.WorkflowSlug, r.c.Number, r.def.Nodes[in.node].Key)
	r.calls++
	r.then(func() {
		r.spawn(func(ctx context.Context) {
			for pause := pauseFirst; ; pause = min(2*pause, time.Second) {
				err := r.e.Queue.CancelChild(ctx, r.c.OrganizationID, id, how == graph.Forced, by)
				if err == nil {
					break
				}
				r.log.Warn().Err(err).Str("child_id", id.String()).Msg("canceling a child; trying again")
				if !lifecycle.Sleep(ctx, pause) {
					return
				}
			}
			r.tell(ctx, func() { r.calls-- })
		})
	})
}
