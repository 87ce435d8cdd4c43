package check

import (
	"slices"
	"time"
)

// maxParallel is how many nodes of an execution run side by side whose text does not say.
const maxParallel = 8

// span is when a command ran that came to its own end, as it has noted itself.
type span struct {
	instance
	begin, end time.Time
}

// spans are those of an execution, by node. What was cut short has noted no end, and is left out.
func (e *Evidence) spans(x *Execution) map[string][]span {
	type run struct {
		instance
		attempt int
	}
	begun := map[run]time.Time{}
	all := map[string][]span{}
	for _, note := range e.Notes[x.ID] {
		r := run{note.instance(), note.Attempt}
		if note.Word == "begin" {
			begun[r] = note.At
		} else if begin, ok := begun[r]; ok && note.Word == "end" {
			all[note.Node] = append(all[note.Node], span{r.instance, begin, note.At})
		}
	}
	return all
}

// crowded is how many of the spans there were at one time, at most.
func crowded(spans []span) (most int) {
	for _, s := range spans {
		n := 0
		for _, other := range spans {
			if !other.begin.After(s.begin) && other.end.After(s.begin) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// parallel: no more commands ran side by side than the text allows; of a repeat one.
func parallel(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		var all []span
		for key, spans := range e.spans(x) {
			all = append(all, spans...)
			planned := e.node(x, key)
			if planned == nil || !planned.Fan.Fans() {
				continue
			}
			if n := crowded(spans); n > planned.Fan.Parallel() {
				say("execution %s: %d commands of node %s ran at one time, and %d may", x.ID, n, key, planned.Fan.Parallel())
			}
		}
		if n := crowded(all); n > maxParallel {
			say("execution %s: %d commands ran at one time, and %d may", x.ID, n, maxParallel)
		}
	}
}

// hasty: once something of a matrix has failed that is not patient, nothing else of it begins.
func hasty(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		for key, runs := range x.last() {
			planned := e.node(x, key)
			if planned == nil || !planned.Fan.Matrix() || planned.Fan.Patient || planned.ContinueOnError || skipped(runs) {
				continue
			}
			failed := slices.DeleteFunc(slices.Clone(runs), func(n *NodeRun) bool { return !final(planned)(n) || n.FinishedAt == nil })
			for _, n := range x.NodeRuns {
				for _, f := range failed {
					if n.Key == key && n.Status != "skipped" && n.StartedAt != nil && n.StartedAt.After(*f.FinishedAt) {
						say("execution %s: node %s began after %s had failed", x.ID, n.instance(), f.instance())
					}
				}
			}
		}
	}
}
