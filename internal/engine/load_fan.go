package engine

import (
	"encoding/json"
	"reflect"

	"github.com/google/uuid"

	"foundry/internal/graph"
)

// recallFans works out what the nodes run for that had fanned out when the execution was loaded. What a node above gives comes first.
func (r *run) recallFans() {
	for _, node := range r.def.Graph.Order() {
		if r.def.Nodes[node].Fans() && len(r.nodes[node].instances) > 0 {
			r.recallFan(node)
		}
	}
}

func (r *run) recallFan(node int) {
	def, n := &r.def.Nodes[node], &r.nodes[node]
	first := n.instances[0]
	f, combinations, err := r.expand(node)
	n.whole = err != nil || len(n.instances) == 1 && first.status.Terminal() && (f.times == 0 && first.combination.shown == nil || def.Repeat != nil && first.status == graph.Skipped)
	if n.whole {
		r.states[node] = first.status
		return
	}
	if def.Matrix != nil && len(n.instances) > len(combinations) {
		n.instances = n.instances[:len(combinations)] // a rerun with a version that has fewer; only what was reused goes beyond
	}
	if len(n.instances) == 0 {
		return // it begins, for nothing
	}
	n.fan = f
	for i, c := range combinations {
		in := r.instance(node, i)
		if in.reused && !sameJSON(r.maskJSON(in.combination.shown), c.shown) {
			r.forget(in)
		}
		in.combination = c
	}
	f.recall(r, node)
}

// forget takes an instance for one that has not begun: what it has done belongs to another combination, of an earlier version.
func (r *run) forget(in *instance) {
	in.status, in.outputs, in.failure, in.charged = graph.Pending, nil, nil, 0
}

// recall takes in the states of the instances.
func (f *fan) recall(r *run, node int) {
	def, instances := &r.def.Nodes[node], r.nodes[node].instances
	for _, in := range instances {
		f.afterCancel = f.afterCancel || in.afterCancel
		switch {
		case in.status == graph.Pending:
			f.add(in)
		case !in.status.Terminal():
			f.open++
			f.live++
		case in.status == graph.Failed || in.status == graph.TimedOut:
			f.failing = f.failing || hasty(def)
		}
		if in.outputs != nil {
			if raw, err := json.Marshal(in.outputs); err == nil {
				in.size = len(raw)
				f.bytes += in.size
			}
		}
	}
	if f.failing {
		f.giveUpRetries(instances)
	}
	r.states[node] = graph.Running
	if def.Repeat != nil {
		f.iterated(r, instances[len(instances)-1])
	}
	if f.open == 0 {
		r.states[node] = f.settled(r, node)
	}
}

// giveUpRetries ends what was to be retried when another instance failed.
func (f *fan) giveUpRetries(instances []*instance) {
	for _, in := range instances {
		if in.status == graph.Running && in.current == uuid.Nil {
			in.status = graph.Failed
			f.open--
			f.live--
		}
	}
}

// maskJSON masks a stored combination by what is masked today, which may be more than when it was stored.
func (r *run) maskJSON(raw json.RawMessage) json.RawMessage {
	var c map[string]any
	if json.Unmarshal(raw, &c) != nil {
		return raw
	}
	return r.showCombination(c)
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
