package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"foundry/chaos/check"
)

// counts is what has been done to a run. Its methods may be called concurrently; what clients count is guarded by the run.
type counts struct {
	mu         sync.Mutex
	blows      map[kind]int
	busy       map[kind]int // those of them that hit while commands ran
	failpoints map[string]int
	drains     []time.Duration

	cancels   int
	decisions int
	refusals  int // of executions, by groups that were full
}

func newCounts() counts {
	return counts{blows: map[kind]int{}, busy: map[kind]int{}, failpoints: map[string]int{}}
}

func (c *counts) dealt(k kind, busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blows[k]++
	if busy {
		c.busy[k]++
	}
}

func (c *counts) drained(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drains = append(c.drains, d)
}

// worth reports whether a blow is worth dealing: a kill that hits while nothing runs only as long as three in four hit while something does.
func (c *counts) worth(k kind, busy bool) bool {
	all, hits := c.kills()
	return busy || !k.kills() || 4*hits > 3*all
}

// kills is how many there were, and how many hit while commands ran.
func (c *counts) kills() (all, busy int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range c.blows {
		if k.kills() {
			all, busy = all+n, busy+c.busy[k]
		}
	}
	return all, busy
}

// note looks at how an instance has ended.
func (r *run) note(p *process) {
	state, failpoint := p.last()
	p.mu.Lock()
	expected, pid := p.expected, p.cmd.Process.Pid
	p.expected = false
	p.mu.Unlock()
	switch {
	case expected:
		if killedBy(state) != syscall.SIGKILL && !p.endedWell(state) && !r.away() {
			r.t.Errorf("%s ended with %s on SIGTERM; its log is %s", p.name, state, p.log)
		}
	case killedBy(state) == syscall.SIGKILL && failpoint != "":
		busy, err := r.busy(r.t.Context())
		r.count.dealt(killSelf, err == nil && busy[pid] > 0)
		r.count.mu.Lock()
		r.count.failpoints[failpoint]++
		r.count.mu.Unlock()
	case !r.away():
		r.t.Errorf("%s ended by itself with %s; its log is %s", p.name, state, p.log)
	}
}

// summary is the text of a finished run.
func (r *run) summary(took time.Duration) string {
	var b strings.Builder
	all, busy := r.count.kills()
	fmt.Fprintf(&b, "%s form, seed %d: %d executions, %d kills (%d of them while their victim had commands running) in %s; sandboxes: %s\n",
		r.form.name, r.seed, r.queued, all, busy, took.Round(time.Second), r.level)
	for _, k := range slices.Sorted(maps.Keys(r.count.blows)) {
		fmt.Fprintf(&b, "  %5d × %s (%d while busy)\n", r.count.blows[k], k, r.count.busy[k])
	}
	if len(r.count.failpoints) > 0 {
		b.WriteString("  failpoints that killed:")
		for _, name := range slices.Sorted(maps.Keys(r.count.failpoints)) {
			fmt.Fprintf(&b, " %s %d", name, r.count.failpoints[name])
		}
		b.WriteString("\n")
	}
	if len(r.count.drains) > 0 {
		fmt.Fprintf(&b, "  drains took up to %s\n", slices.Max(r.count.drains).Round(time.Millisecond))
	}
	fmt.Fprintf(&b, "  %d cancels and %d decisions were accepted, %d executions refused\n", r.count.cancels, r.count.decisions, r.count.refusals)
	fmt.Fprintf(&b, "  %d node runs of matrices, %d of repeats; %d executions that nodes ran, %d of them canceled; %d artifacts and %d checkpoints\n",
		r.fanned.matrices, r.fanned.repeats, r.fanned.children, r.fanned.canceled, r.fanned.artifacts, r.fanned.checkpoints)
	for _, crowd := range r.crowds {
		fmt.Fprintf(&b, "  in %s there were up to %d at a time\n", crowd.Group, crowd.Most)
	}
	for _, name := range slices.Sorted(maps.Keys(r.ended)) {
		fmt.Fprintf(&b, "  %5d ended %s\n", r.ended[name], name)
	}
	return b.String()
}

// fanned is how wide a run was: node runs, executions that nodes ran, and files.
type fanned struct {
	matrices, repeats, children, canceled, artifacts, checkpoints int
}

func (f *fanned) add(r *run, x *check.Execution) {
	for _, n := range x.NodeRuns {
		switch planned := r.workflow(x.Workflow).Node(n.Key); {
		case planned == nil || !planned.Fan.Fans():
		case planned.Fan.Matrix():
			f.matrices++
		default:
			f.repeats++
		}
	}
	for _, file := range x.Files {
		if file.Checkpoint > 0 {
			f.checkpoints++
		} else {
			f.artifacts++
		}
	}
	if x.Parent != nil {
		f.children++
		if x.Status == "canceled" {
			f.canceled++
		}
	}
}
