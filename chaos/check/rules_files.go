package check

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/google/uuid"

	"foundry/chaos/plan"
)

// kept is how many checkpoints of an instance stay.
const kept = 2

// is reports whether the file has the content.
func (f *File) is(content []byte) bool {
	sum := sha256.Sum256(content)
	return f.whole() && f.Size == int64(len(content)) && bytes.Equal(f.SHA256, sum[:])
}

// whole reports whether all the bytes are there that were listed.
func (f *File) whole() bool { return f.Size == f.There && bytes.Equal(f.SHA256, f.Content) }

// left are the files of each node run of an execution: artifacts, or those of checkpoints.
func (x *Execution) left(checkpoints bool) map[uuid.UUID][]File {
	all := map[uuid.UUID][]File{}
	for _, f := range x.Files {
		if checkpoints == (f.Checkpoint > 0) {
			all[f.NodeRunID] = append(all[f.NodeRunID], f)
		}
	}
	return all
}

// artifacts: what a command has left that came to its own end is there, each file once, with the bytes that it wrote; of one that was cut
// short, what is there is a beginning. Where the execution was to end, or another of the matrix had failed, some may be missing, and a warning says so.
func artifacts(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		left := x.left(false)
		for _, n := range x.NodeRuns {
			planned := e.node(x, n.Key)
			if planned == nil {
				continue
			}
			found := map[string]int{}
			for _, f := range left[n.ID] {
				found[f.Path]++
				i := slices.IndexFunc(planned.Leaves, func(p plan.File) bool { return p.Path == f.Path })
				switch {
				case i < 0:
					say("execution %s: node %s, attempt %d, has left %s, which its text has not", x.ID, n.instance(), n.Attempt, f.Path)
				case f.is(planned.Content(n.Index, planned.Leaves[i])):
				case n.whole() || f.Size > int64(planned.Leaves[i].Size) || !f.is(planned.Content(n.Index, planned.Leaves[i])[:f.Size]):
					say("execution %s: node %s, attempt %d, %s: its artifact %s is not what it wrote; %d bytes of %d are there, %d were written",
						x.ID, n.instance(), n.Attempt, n.Status, f.Path, f.There, f.Size, planned.Leaves[i].Size)
				}
			}
			delete(left, n.ID)
			excused := (x.Canceled || x.Deadline) && (x.told(n, "artifacts_incomplete") || x.told(n, "artifact_skipped"))
			for _, p := range planned.Leaves {
				if n.whole() && found[p.Path] != 1 && !excused {
					say("execution %s: node %s, attempt %d, %s: its artifact %s is there %d times", x.ID, n.instance(), n.Attempt, n.Status, p.Path, found[p.Path])
				}
			}
		}
		for id := range left {
			say("execution %s has artifacts of the node run %s, which does not exist", x.ID, id)
		}
	}
}

// checkpoints: those that are there have the bytes that the command wrote, are the newest, and no more than are kept. The last that a command
// made which came to its own end is among them.
func checkpoints(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		left := x.left(true)
		numbers := map[instance][]int{}
		for _, n := range x.NodeRuns {
			planned := e.node(x, n.Key)
			last := ""
			for _, f := range left[n.ID] {
				numbers[n.instance()] = append(numbers[n.instance()], f.Checkpoint)
				last = f.Path
				if planned == nil || !isCheckpoint(planned, n.Index, &f) {
					say("execution %s: node %s, attempt %d: its checkpoint %d, %s, is not what it wrote; %d bytes of %d are there", x.ID, n.instance(), n.Attempt, f.Checkpoint, f.Path, f.There, f.Size)
				}
			}
			delete(left, n.ID)
			if planned == nil || planned.Checkpoints() == 0 || !n.whole() || x.Canceled || x.Deadline {
				continue
			}
			if want, _ := planned.Checkpoint(n.Index, planned.Checkpoints()); last != want && !x.dropped(n) {
				say("execution %s: node %s, attempt %d, %s: its last checkpoint is %q, not %s", x.ID, n.instance(), n.Attempt, n.Status, last, want)
			}
		}
		for in, have := range numbers {
			newest := x.saved(in, int64(len(x.Events)+len(x.Chunks)+1))
			slices.Sort(have)
			for i, number := range slices.Backward(have) {
				if len(have) > kept || newest == nil || number != newest.number-(len(have)-1-i) {
					say("execution %s: node %s has the checkpoints %v; the newest was %v", x.ID, in, have, newest)
					break
				}
			}
		}
		for id := range left {
			say("execution %s has checkpoints of the node run %s, which does not exist", x.ID, id)
		}
	}
}

// isCheckpoint reports whether a file is one of the checkpoints that a run of the node makes.
func isCheckpoint(planned *plan.Node, index int, f *File) bool {
	for i := range planned.Checkpoints() {
		if name, content := planned.Checkpoint(index, i+1); name == f.Path {
			return f.is(content)
		}
	}
	return false
}

// saved is a checkpoint that the history tells of.
type saved struct {
	name   string
	number int
}

// saved is the newest checkpoint of an instance whose event stands before a sequence number, nil if there is none.
func (x *Execution) saved(in instance, before int64) (newest *saved) {
	runs := map[uuid.UUID]bool{}
	for _, n := range x.NodeRuns {
		runs[n.ID] = n.instance() == in
	}
	for _, event := range x.Events {
		if event.Type == "checkpoint" && event.NodeRunID != nil && runs[*event.NodeRunID] && event.Seq < before {
			newest = &saved{field[string](event.Data, "name"), field[int](event.Data, "number")}
		}
	}
	return newest
}

// dropped reports whether later attempts have made so many checkpoints that those of this one are gone.
func (x *Execution) dropped(n *NodeRun) bool {
	later := 0
	for _, event := range x.Events {
		for _, other := range x.NodeRuns {
			if event.Type == "checkpoint" && event.NodeRunID != nil && other.ID == *event.NodeRunID && other.instance() == n.instance() && other.Attempt > n.Attempt {
				later++
			}
		}
	}
	return later >= kept
}

// restored: each attempt was given the newest checkpoint that there was when it began, and nothing else.
func restored(e *Evidence, say func(string, ...any)) {
	for _, x := range e.World.Executions {
		started := map[uuid.UUID]int64{}
		for _, event := range x.Events {
			if event.Type == "node.started" && event.NodeRunID != nil {
				started[*event.NodeRunID] = event.Seq
			}
		}
		for _, note := range e.Notes[x.ID] {
			found, ok := strings.CutPrefix(note.Word, "found=")
			if !ok {
				continue
			}
			for _, n := range x.NodeRuns {
				if n.instance() != note.instance() || n.Attempt != note.Attempt || x.told(n, "checkpoint_not_restored") {
					continue
				}
				want := ""
				if newest := x.saved(n.instance(), started[n.ID]); newest != nil {
					want = newest.name + ","
				}
				if found != want {
					say("execution %s: node %s, attempt %d, was given the checkpoint %q, not %q", x.ID, n.instance(), n.Attempt, found, want)
				}
			}
		}
	}
}
