package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"foundry/api/client"
)

// viewTick is how often the changing lines are drawn again.
const viewTick = 100 * time.Millisecond

// run names one attempt of one node.
type run struct {
	node    string
	index   int
	attempt int
}

type stream struct {
	run
	name client.LogStream
}

// view shows the events of one execution as lines for people: `fetch | text` for output,
// `fetch: completed in 1.2 s` for what happens. On a terminal every running node also has a line
// with the time that it takes, and one that runs more often than can be read is counted. add and tick may be called concurrently.
type view struct {
	term      *terminal
	execution uuid.UUID // as commands name it

	mu      sync.Mutex
	partial map[stream]*lineBuffer
	running []runningNode // in the order of their starts
	colours map[string]colour
	fans    map[string]*fan // by node
	parked  string          // what was said last of why it is
	started time.Time       // of the execution, as the server tells it
}

type runningNode struct {
	run
	label   string
	started time.Time // by the event
	seen    time.Time // by our clock
	waits   bool      // for a decision or a time
}

func newView(t *terminal, execution uuid.UUID) *view {
	return &view{term: t, execution: execution, partial: map[stream]*lineBuffer{}, colours: map[string]colour{}, fans: map[string]*fan{}}
}

// eventData is what the view reads of an event's data; each type of event has some of it.
type eventData struct {
	Reason    string          `json:"reason"`
	Isolation string          `json:"isolation"`
	Message   string          `json:"message"`
	DelayMS   int64           `json:"delay_ms"`
	ExitCode  *int            `json:"exit_code"`
	Error     *client.Failure `json:"error"`
	Path      string          `json:"path"` // of an artifact
	Name      string          `json:"name"` // of a checkpoint
	Size      int64           `json:"size"`
	waitingData
	fanData
}

// add shows one event.
func (v *view) add(event client.Event) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if event.Type == "log" {
		return v.addLog(event)
	}
	var data eventData
	if err := json.Unmarshal(event.Data, &data); err != nil {
		return fmt.Errorf("reading event %d: %w", event.Seq, err)
	}
	if event.Node == nil {
		v.tellFans(false)
		v.addExecution(event, data)
	} else if v.addNode(event, data) {
		return nil // the next tick draws it
	}
	v.term.show(v.progress(time.Now()))
	return nil
}

func runOf(event client.Event) run {
	r := run{node: *event.Node}
	if event.Index != nil {
		r.index = *event.Index
	}
	if event.Attempt != nil {
		r.attempt = *event.Attempt
	}
	return r
}

// label is how a node run is called: index 0 goes without saying.
func (r run) label() string { return labelOf(r.node, r.index) }

func labelOf(node string, index int) string {
	if index == 0 {
		return node
	}
	return indexed(node, index)
}

func (v *view) addLog(event client.Event) error {
	c, text, err := chunk(event)
	if err != nil || event.Node == nil {
		return err
	}
	key := stream{runOf(event), c.Stream}
	buffer := v.partial[key]
	if buffer == nil {
		buffer = &lineBuffer{}
		v.partial[key] = buffer
	}
	buffer.add(text, func(line []byte) { v.printLine(key.run, line) })
	return nil
}

func (v *view) printLine(r run, line []byte) {
	if v.term.live() {
		line = visible(line)
	}
	out := []byte(v.painted(v.label(r)) + " | ")
	v.term.print(append(out, line...))
}

// painted gives a label the colour of its node.
func (v *view) painted(label string) string {
	node, _, _ := strings.Cut(label, "[")
	c, ok := v.colours[node]
	if !ok {
		c = labelColour(len(v.colours))
		v.colours[node] = c
	}
	return v.term.paint(c, label)
}

// say prints what happened to a node or a part of the machinery.
func (v *view) say(label string, c colour, text string) {
	v.term.printf("%s: %s", v.painted(label), v.term.paint(c, text))
}

func (v *view) addExecution(event client.Event, data eventData) {
	switch event.Type {
	case "execution.started":
		v.started = event.Time
	case "execution.waiting":
		v.addParked(data.waitingData)
	case "execution.cancel_requested":
		v.say("execution", yellow, "cancel requested")
	case "sandbox.waiting":
		v.say("sandbox", yellow, withDetail("waiting", data.Reason))
	case "sandbox.ready":
		v.say("sandbox", dim, withDetail("ready", data.Isolation))
	case "sandbox.failed":
		v.say("sandbox", red, withDetail("failed", data.explain()))
	case "warning":
		v.say("warning", yellow, data.explain())
	}
}

// addNode shows an event of a node. It returns true for one that is only counted.
func (v *view) addNode(event client.Event, data eventData) (counted bool) {
	r := runOf(event)
	f := v.fanOf(event, r, data.fanData)
	if v.counts(f, r) && f.count(event, r, data) {
		if f.ended[r.index] != "" {
			v.flush(r)
		}
		return true
	}
	label := v.fullLabel(r)
	switch event.Type {
	case "node.started":
		v.running = append(v.running, runningNode{run: r, label: label, started: event.Time, seen: time.Now()})
		text := "started"
		if r.attempt > 1 {
			text = fmt.Sprintf("started, attempt %d", r.attempt)
		}
		v.say(label, dim, text)
	case "node.attached":
		v.say(label, dim, "followed by another worker")
	case "node.waiting":
		v.addWaiting(r, data.waitingData)
	case "node.retrying":
		v.say(label, yellow, "tried again in "+seconds(time.Duration(data.DelayMS)*time.Millisecond))
	case "artifact":
		v.say(label, dim, fmt.Sprintf("left %s (%d bytes)", strings.Map(printable, data.Path), data.Size))
	case "checkpoint":
		v.say(label, dim, fmt.Sprintf("checkpoint %s (%d bytes)", strings.Map(printable, data.Name), data.Size))
	case "node.completed":
		v.ended(event, r, green, "completed", explainDecision(data.Decision))
	case "node.skipped":
		v.ended(event, r, dim, "skipped", data.Reason)
	case "node.canceled", "node.interrupted":
		v.ended(event, r, yellow, event.Type[len("node."):], data.explain())
	case "node.failed":
		v.ended(event, r, red, "failed", cmp.Or(explainDecision(data.Decision), data.explain()))
	case "node.timed_out":
		v.ended(event, r, red, "timed out", data.explain())
	case "warning":
		v.say(label, yellow, data.explain())
	}
	return false
}

// flush shows the last of the output of a node run that has ended.
func (v *view) flush(r run) {
	for _, name := range []client.LogStream{"stdout", "stderr"} {
		key := stream{r, name}
		if buffer := v.partial[key]; buffer != nil {
			buffer.flush(func(line []byte) { v.printLine(r, line) })
			delete(v.partial, key)
		}
	}
}

// ended shows the end of a node run, behind the last of its output.
func (v *view) ended(event client.Event, r run, c colour, word, detail string) {
	v.flush(r)
	for i, n := range v.running {
		if n.run == r {
			word += " in " + seconds(event.Time.Sub(n.started))
			v.running = slices.Delete(v.running, i, i+1)
			break
		}
	}
	v.say(v.fullLabel(r), c, withDetail(word, detail))
}

// tick draws the changing lines again.
func (v *view) tick() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.term.show(v.progress(time.Now()))
}

// close takes the changing lines away.
func (v *view) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tellFans(true)
	v.term.show(nil)
}

func (v *view) progress(now time.Time) []string {
	lines := v.fanProgress()
	for _, n := range v.running {
		word := "running"
		if n.waits {
			word = "waiting"
		}
		lines = append(lines, fmt.Sprintf("  %s  %s  %s", n.label, word, seconds(now.Sub(n.seen))))
	}
	return lines
}

func (d eventData) explain() string {
	switch {
	case d.Error != nil:
		return d.Error.Message
	case d.Message != "":
		return d.Message
	}
	return d.Reason
}

func withDetail(word, detail string) string {
	if detail == "" {
		return word
	}
	return word + ": " + detail
}

// seconds is a duration for people.
func seconds(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return strconv.FormatFloat(max(d, 0).Seconds(), 'f', 1, 64) + " s"
}
