package engine

import (
	"encoding/json"
	"fmt"
	"math"

	"foundry/internal/execution"
	"foundry/internal/expr"
	"foundry/internal/graph"
	"foundry/internal/workflow"
)

// failFast is why what is left of a matrix is skipped in which something has failed.
const failFast = "fail_fast"

// maxCombinations is how many bytes the combinations of a matrix may have together, since each is stored with its node run.
const maxCombinations = 1 << 20

// maxNodeRuns is how many node runs one execution may have.
const maxNodeRuns = 10_000

// fan is a node that has begun and runs more than once: side by side for a matrix, one after the other for a repeat. What it runs for
// follows from what is durable above it, so it is worked out anew after a takeover and stored nowhere.
type fan struct {
	parallel    int         // instances side by side, at most
	times       int         // of a repeat: iterations, at most; 0 of a matrix
	pending     []*instance // to be begun, in order
	live        int         // begun and not ended
	open        int         // not ended
	failing     bool        // an instance has failed, and the others end with it
	afterCancel bool        // it runs because of the cancel
	bytes       int         // of the outputs of all instances
	outputs     map[string]any
}

// fanOut works out what a node runs for. A node that runs for nothing is completed.
func (r *run) fanOut(node int) {
	f, combinations, err := r.expand(node)
	if err == nil && r.nodeRuns+r.due()+len(combinations) > maxNodeRuns {
		err = errTooMany
	}
	switch {
	case err != nil:
		r.endWhole(node, execution.NodeFailed, &execution.Failure{Code: "fan_out", Message: err.Error()})
		return
	case len(combinations) == 0 && f.times == 0:
		r.endWhole(node, execution.NodeCompleted, nil)
		return
	}
	f.afterCancel = r.facts.Canceled
	n := &r.nodes[node]
	n.fan = f
	r.states[node] = graph.Running
	for i, c := range combinations {
		in := r.instance(node, i)
		in.combination = c
		f.add(in)
	}
	if f.times > 0 {
		f.add(r.instance(node, 0))
	}
}

// errTooMany is why a node does not run as often as it should.
var errTooMany = fmt.Errorf("The execution would have more than %d node runs.", maxNodeRuns) //nolint:staticcheck // a sentence for a person

// due counts the node runs that are to come at least: one for each node and each instance that has not begun.
func (r *run) due() (n int) {
	for node := range r.nodes {
		switch f := r.nodes[node].fan; {
		case f != nil:
			n += f.open - f.live
		case r.states[node] == graph.Pending:
			n++
		}
	}
	return n
}

// add takes up an instance that is to be begun.
func (f *fan) add(in *instance) {
	f.pending = append(f.pending, in)
	f.open++
}

// expand evaluates the matrix of a node to its combinations, or the number of its iterations. The error is a sentence.
func (r *run) expand(node int) (*fan, []combination, error) {
	n := &r.def.Nodes[node]
	f := &fan{parallel: math.MaxInt}
	if n.MaxParallel > 0 {
		f.parallel = n.MaxParallel
	}
	env := r.contexts(node)
	if n.Repeat != nil {
		f.parallel = 1
		times, err := n.Repeat.Count(env)
		f.times = times
		return f, nil, err
	}
	values, err := n.Matrix.Combinations(env)
	if err != nil {
		return f, nil, err
	}
	combinations, size := make([]combination, 0, len(values)), 0
	for _, v := range values {
		c := combination{v, r.showCombination(v)}
		if size += len(c.shown); size > maxCombinations {
			return f, nil, fmt.Errorf("The combinations of the matrix have more than %d bytes as JSON.", maxCombinations) //nolint:staticcheck // a sentence for a person
		}
		combinations = append(combinations, c)
	}
	return f, combinations, nil
}

// showCombination is a combination as it is stored and shown.
func (r *run) showCombination(c map[string]any) json.RawMessage {
	raw, err := json.Marshal(storableValue(maskValue(r.redact.Patterns(), c)))
	if err != nil {
		r.log.Error().Err(err).Msg("encoding a combination")
		return json.RawMessage("{}")
	}
	return raw
}

// advanceFans begins what there is room for, and reports whether anything has left the state pending.
func (r *run) advanceFans() (moved bool) {
	for node := range r.nodes {
		if f := r.nodes[node].fan; f != nil && len(f.pending) > 0 {
			moved = r.advanceFan(f) || moved
		}
	}
	return moved
}

func (r *run) advanceFan(f *fan) (moved bool) {
	switch c := r.cancel(); {
	case c == graph.Forced || c == graph.Requested && !f.afterCancel:
		f.drop(r, r.stopReason())
		return true
	case f.failing:
		f.drop(r, failFast)
		return true
	}
	for len(f.pending) > 0 && f.live < f.parallel {
		in := f.pending[0]
		if !r.beginInstance(in) {
			break
		}
		if len(f.pending) > 0 && f.pending[0] == in { // else its failure has dropped all
			f.pending = f.pending[1:]
		}
		moved = true
	}
	return moved
}

// drop ends what has not begun, or was to begin again.
func (f *fan) drop(r *run, reason string) {
	pending := f.pending
	f.pending = nil
	for _, in := range pending {
		switch {
		case in.status != graph.Pending:
		case in.attempt == 0:
			r.skip(in, reason)
		case in.interrupted:
			r.move(in, graph.Canceled)
		default:
			r.move(in, graph.Failed)
		}
	}
}

// moved takes in that an instance has left a state for another.
func (f *fan) moved(r *run, in *instance, from graph.Status) {
	f.live += boolInt(isLive(in.status)) - boolInt(isLive(from))
	switch {
	case in.status == graph.Pending:
		f.pending = append(f.pending, in)
		return
	case !in.status.Terminal() || from.Terminal():
		return
	}
	f.open--
	n := &r.def.Nodes[in.node]
	failed := in.status == graph.Failed || in.status == graph.TimedOut
	switch {
	case n.Repeat != nil:
		f.iterated(r, in)
	case failed && hasty(n) && !f.failing:
		f.fail(r, in.node)
	}
	if f.open == 0 {
		r.states[in.node] = f.settled(r, in.node)
	}
}

// hasty reports whether one failure ends all of a node.
func hasty(n *workflow.Node) bool { return n.Matrix != nil && n.FailFast && !n.ContinueOnError }

func isLive(s graph.Status) bool { return s == graph.Running || s == graph.Waiting }

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// iterated says what follows an iteration: another one, or the end of the node. One whose end cannot be evaluated fails as the next
// iteration.
func (f *fan) iterated(r *run, in *instance) {
	if in.status != graph.Completed {
		return
	}
	until, err := r.until(in)
	if err == nil && (until || in.index+1 >= f.times) {
		return
	}
	next := r.instance(in.node, in.index+1)
	if next.status != graph.Pending {
		return // it was loaded
	}
	f.open++
	switch {
	case err != nil:
		r.failUnstarted(next, &execution.Failure{Code: "expression", Message: sentence("The end of the repeat cannot be evaluated", err)})
		return
	case r.nodeRuns+r.due() > maxNodeRuns:
		r.failUnstarted(next, &execution.Failure{Code: "fan_out", Message: errTooMany.Error()})
		return
	}
	f.pending = append(f.pending, next)
}

// until reports whether an iteration that has completed is the last.
func (r *run) until(in *instance) (bool, error) {
	u := r.def.Nodes[in.node].Repeat.Until
	if u == nil {
		return false, nil
	}
	env := r.contexts(in.node)
	env.Contexts["repeat"] = iteration(in.index, in.outputs)
	v, err := u.Eval(env)
	return expr.Truthy(v), err
}

// iteration is the context repeat: the number of an iteration, and the outputs of the one that was the last to end.
func iteration(index int, outputs map[string]any) map[string]any {
	if outputs == nil {
		outputs = map[string]any{}
	}
	return map[string]any{"index": float64(index), "outputs": outputs}
}

// fail ends the other instances of a matrix in which one has failed. Commands are signaled once the failure is durable.
func (f *fan) fail(r *run, node int) {
	f.failing = true
	f.drop(r, failFast)
	for _, in := range r.nodes[node].instances {
		switch in.status {
		case graph.Waiting:
			r.cancelWait(in)
		case graph.Running:
			if in.retrying != nil {
				r.stopRetrying(in)
			} else {
				r.then(func() { r.signal(in) })
			}
		case graph.Pending, graph.Completed, graph.Failed, graph.Skipped, graph.Canceled, graph.TimedOut, graph.Interrupted:
		}
	}
}

// failFans ends what else there is of the matrices in which something had failed when the execution was loaded: what others decide
// about an approval is durable before an engine reacts to it.
func (r *run) failFans() {
	for node := range r.nodes {
		if f := r.nodes[node].fan; f != nil && f.failing && f.open > 0 {
			f.fail(r, node)
		}
	}
}

// settled collects the outputs of a node whose instances have all ended, and says how the node has.
func (f *fan) settled(r *run, node int) graph.Status {
	instances := r.nodes[node].instances
	last := instances[len(instances)-1]
	status := graph.Completed
	for _, in := range instances {
		status = worse(status, in.status)
	}
	if r.def.Nodes[node].Repeat == nil {
		f.outputs = columns(instances)
		return status
	}
	for i := len(instances) - 1; i >= 0 && f.outputs == nil; i-- {
		f.outputs = instances[i].outputs
	}
	if last.status == graph.Skipped {
		return graph.Canceled // in the middle
	}
	return status
}

// worse is what a node is of which one instance has ended as a, and another as b.
func worse(a, b graph.Status) graph.Status {
	for _, s := range []graph.Status{graph.Failed, graph.TimedOut, graph.Canceled} {
		if a == s || b == s || s == graph.Canceled && b == graph.Skipped {
			return s
		}
	}
	return graph.Completed
}

// columns are the outputs of a matrix: by name, the values by index, null where there is none.
func columns(instances []*instance) map[string]any {
	all := map[string]any{}
	for i, in := range instances {
		for name, value := range in.outputs {
			column, ok := all[name].([]any)
			if !ok {
				column = make([]any, len(instances))
				all[name] = column
			}
			column[i] = value
		}
	}
	return all
}

// outputsOf are the outputs of a node, as others see them.
func (r *run) outputsOf(node int) map[string]any {
	n := &r.nodes[node]
	switch {
	case n.fan != nil:
		return n.fan.outputs
	case len(n.instances) == 0:
		return nil
	}
	return n.instances[0].outputs
}

// contextsOf is what the expressions of an instance see.
func (r *run) contextsOf(in *instance) expr.Env {
	env := r.contexts(in.node)
	switch n := &r.def.Nodes[in.node]; {
	case n.Matrix != nil:
		env.Contexts["matrix"] = in.combination.values
	case n.Repeat != nil:
		var before map[string]any
		if in.index > 0 {
			before = r.instance(in.node, in.index-1).outputs
		}
		env.Contexts["repeat"] = iteration(in.index, before)
	}
	return env
}

// encodeOutputs returns the outputs of an instance as they are stored, or a sentence that names the limit they pass.
func (r *run) encodeOutputs(in *instance, outputs map[string]any) (json.RawMessage, error) {
	raw, err := encodeOutputs(outputs, maxNodeOutputs)
	f := r.nodes[in.node].fan
	if err != nil || f == nil {
		return raw, err
	}
	all := f.bytes - in.size + len(raw) // those of an earlier attempt do not count
	if all > maxFanOutputs {
		return nil, fmt.Errorf("The outputs of all runs of the node have %d bytes; the limit is %d.", all, maxFanOutputs) //nolint:staticcheck // a sentence for a person
	}
	f.bytes, in.size = all, len(raw)
	return raw, nil
}
