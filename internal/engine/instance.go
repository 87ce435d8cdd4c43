package engine

import (
	"encoding/json"
	"iter"
	"time"

	"github.com/google/uuid"

	"foundry/internal/execution"
	"foundry/internal/graph"
)

// node is what the loop knows of one node. Its state is in run.states.
type node struct {
	instances []*instance // by index; a plain node has one, a fan those that there are yet
	fan       *fan        // nil of a plain node, and of one that has not begun
	target    *target     // of a workflow node, once it was looked up
	whole     bool        // it has ended as a whole, before it fanned out: its one node run stands for all
}

// instance is what runs of a node under one index: all of a plain node, one combination of a matrix, one iteration of a repeat.
type instance struct {
	node, index   int
	status        graph.Status
	combination   combination // of a matrix; zero otherwise
	attempt       int         // number of the newest node run; 0 before the first
	charged       int         // attempts that ended failed or timed_out
	interruptions int
	reused        bool      // its newest node run is that of an earlier execution, of which this one is a rerun
	interrupted   bool      // and not begun again yet
	current       uuid.UUID // the node run that is running or waiting, else zero
	signaled      bool      // its command was asked to end
	afterCancel   bool      // its command was started after the cancel, and runs because of it
	retrying      *time.Timer
	retryAt       time.Time     // while retrying, by this machine's monotonic clock
	retryDue      time.Duration // while loading: the pause before the retry that is due
	child         uuid.UUID     // while waiting for an execution: its id
	asked         graph.Cancel  // and the cancel that it was asked for
	due           *time.Time    // while waiting: when that ends by itself, by this machine's monotonic clock
	dueTimer      *time.Timer
	outputs       map[string]any
	size          int // of the outputs as JSON, in bytes
	failure       *execution.Failure
}

// combination is what an instance of a matrix runs for.
type combination struct {
	values map[string]any
	shown  json.RawMessage // the same as it is stored: masked by what was known then
}

// instance returns that of a node with the index, and makes it, and those before it, where it is new.
func (r *run) instance(node, index int) *instance {
	n := &r.nodes[node]
	for len(n.instances) <= index {
		n.instances = append(n.instances, &instance{node: node, index: len(n.instances), status: graph.Pending})
	}
	return n.instances[index]
}

// instances are those of all nodes.
func (r *run) instances() iter.Seq[*instance] {
	return func(yield func(*instance) bool) {
		for node := range r.nodes {
			for _, in := range r.nodes[node].instances {
				if !yield(in) {
					return
				}
			}
		}
	}
}

// move gives an instance its state, and its node what follows from that. A failure is for good: one that is retried moves to running.
func (r *run) move(in *instance, to graph.Status) {
	from := in.status
	in.status = to
	if f := r.nodes[in.node].fan; f != nil {
		f.moved(r, in, from)
	} else {
		r.states[in.node] = to
	}
	if to == graph.Failed || to == graph.TimedOut {
		r.noteFailure(in)
	}
}
