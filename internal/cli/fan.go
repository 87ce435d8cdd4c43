package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"foundry/api/client"
)

const (
	// shownEach is how many runs of a node are shown one by one on a terminal; of a wider node they are counted.
	shownEach = 20
	// failuresEach is how many failures of a node whose runs are counted are shown.
	failuresEach = 10
	// longestCombination is how many characters of a combination stand on a line.
	longestCombination = 60
)

// fan is what the view knows of a node that runs under more than one index.
type fan struct {
	key      string
	of       int            // how many runs it has, at most
	matrix   bool           // else it is a repeat
	names    map[int]string // by index, the combination
	running  map[int]bool   // of those that are counted
	ended    map[int]string // likewise, the last part of the event's type
	failures int            // of those, how many were shown
	began    time.Time      // the first one, by the event
	last     time.Time      // the newest end
	told     bool           // how it has ended
}

// fanData is what events say of such a node.
type fanData struct {
	Of     int                        `json:"of"`
	Matrix map[string]json.RawMessage `json:"matrix"`
}

// fanOf takes in what an event of a node says, and returns the node's fan; nil for a plain node.
func (v *view) fanOf(event client.Event, r run, data fanData) *fan {
	f := v.fans[r.node]
	if event.Type != "node.started" || data.Of == 0 {
		return f
	}
	if f == nil {
		f = &fan{
			key: r.node, of: data.Of, matrix: data.Matrix != nil, began: event.Time,
			names: map[int]string{}, running: map[int]bool{}, ended: map[int]string{},
		}
		v.fans[r.node] = f
	}
	if data.Matrix != nil {
		f.names[r.index] = combination(data.Matrix)
	}
	return f
}

// combination is "part: c, size: 3", by the names of the axes; texts stand without quotes.
func combination(m map[string]json.RawMessage) string {
	parts := make([]string, 0, len(m))
	for _, axis := range slices.Sorted(maps.Keys(m)) {
		var text string
		if json.Unmarshal(m[axis], &text) != nil {
			text = string(m[axis])
		}
		parts = append(parts, axis+": "+oneLine(text))
	}
	text := []rune(strings.Join(parts, ", "))
	if len(text) > longestCombination {
		return string(text[:longestCombination-1]) + "…"
	}
	return string(text)
}

// label is how a run of a node is called beside its output.
func (v *view) label(r run) string {
	if v.fans[r.node] != nil {
		return indexed(r.node, r.index)
	}
	return r.label()
}

// fullLabel also says which combination it is.
func (v *view) fullLabel(r run) string {
	if f := v.fans[r.node]; f != nil && f.names[r.index] != "" {
		return indexed(r.node, r.index) + " (" + f.names[r.index] + ")"
	}
	return v.label(r)
}

func indexed(node string, index int) string { return node + "[" + strconv.Itoa(index) + "]" }

// counts reports whether a run is counted instead of shown: on a terminal, all of a wide matrix, and of a repeat what comes after the first
// few, since nobody knows how many there will be.
func (v *view) counts(f *fan, r run) bool {
	return f != nil && v.term.live() && f.of > shownEach && (f.matrix || r.index >= shownEach)
}

// count takes in an event of a run that is counted. It returns false for what is to be shown all the same.
func (f *fan) count(event client.Event, r run, data eventData) bool {
	kind := strings.TrimPrefix(event.Type, "node.")
	switch kind {
	case "started":
		f.running[r.index] = true
		delete(f.ended, r.index)
		f.told = false
	case "retrying":
		f.running[r.index] = true
		delete(f.ended, r.index)
	case "waiting":
		return data.Prompt == nil
	case "completed", "skipped", "canceled", "interrupted", "failed", "timed_out":
		delete(f.running, r.index)
		f.ended[r.index], f.last = kind, event.Time
		if kind == "failed" || kind == "timed_out" {
			f.failures++
			return f.failures > failuresEach
		}
	case "warning":
		return false
	}
	return true
}

// progress is "crunch: 412 of 1000 done, 8 running".
func (f *fan) progress() string {
	tally := map[string]int{"running": len(f.running)}
	for _, kind := range f.ended {
		tally[strings.Replace(kind, "_", " ", 1)]++
	}
	done := fmt.Sprintf("%d of %d done", tally["completed"], f.of)
	if !f.matrix {
		done = fmt.Sprintf("%d done, at most %d", shownEach+tally["completed"], f.of)
	}
	for _, kind := range []string{"running", "failed", "timed out", "skipped", "canceled", "interrupted"} {
		if tally[kind] > 0 {
			done += fmt.Sprintf(", %d %s", tally[kind], kind)
		}
	}
	return f.key + ": " + done
}

// tellFans says how nodes have ended whose runs were counted: those of which every run has, and with all whatever was counted.
func (v *view) tellFans(all bool) {
	for _, key := range slices.Sorted(maps.Keys(v.fans)) {
		f := v.fans[key]
		whole := f.matrix && len(f.ended) == f.of && len(f.running) == 0
		if f.told || len(f.ended) == 0 || !whole && !all {
			continue
		}
		f.told = true
		c := green
		if f.failures > 0 {
			c = red
		}
		_, text, _ := strings.Cut(f.progress(), ": ")
		v.say(key, c, text+", in "+seconds(f.last.Sub(f.began)))
	}
}

// fanProgress are the changing lines of nodes whose runs are counted.
func (v *view) fanProgress() []string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(v.fans)) {
		if f := v.fans[key]; !f.told && len(f.running)+len(f.ended) > 0 {
			lines = append(lines, "  "+f.progress())
		}
	}
	return lines
}
