package stream

import (
	"strconv"
	"strings"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
)

// Logs chooses the log chunks of a stream; other events always pass. The zero value takes all of them.
type Logs struct {
	None bool // no logs at all; the rest is ignored

	Node    string // "": of every node
	Index   *int   // nil: of every index; needs Node
	Attempt *int   // nil: of every attempt; needs Index
}

// ParseLogs reads the query parameter logs: all | none | NODE[:index[:attempt]]. Empty is all.
func ParseLogs(s string) (Logs, error) {
	switch s {
	case "", "all":
		return Logs{}, nil
	case "none":
		return Logs{None: true}, nil
	}
	node, rest, hasIndex := strings.Cut(s, ":")
	logs := Logs{Node: node}
	if node == "" {
		return Logs{}, invalidLogs()
	}
	if !hasIndex {
		return logs, nil
	}
	index, attempt, hasAttempt := strings.Cut(rest, ":")
	n, err := strconv.Atoi(index)
	if err != nil || n < 0 {
		return Logs{}, invalidLogs()
	}
	logs.Index = &n
	if !hasAttempt {
		return logs, nil
	}
	a, err := strconv.Atoi(attempt)
	if err != nil || a < 1 {
		return Logs{}, invalidLogs()
	}
	logs.Attempt = &a
	return logs, nil
}

func invalidLogs() error {
	return errs.E(errs.Invalid, "The parameter logs is all, none, or NODE[:index[:attempt]].")
}

// wants reports whether the event belongs to the stream.
func (l Logs) wants(e *event.Event) bool {
	if e.Type != event.Log {
		return true
	}
	return !l.None && l.wantsRun(e.Node, e.Index, e.Attempt)
}

func (l Logs) wantsRun(node string, index, attempt int) bool {
	return l.Node == "" ||
		node == l.Node && (l.Index == nil || index == *l.Index) && (l.Attempt == nil || attempt == *l.Attempt)
}

// Filter turns the choice into the one that a query understands, given the execution's node runs.
func (l Logs) Filter(runs []execution.NodeRun) event.LogFilter {
	if l.None || l.Node == "" {
		return event.LogFilter{None: l.None}
	}
	var ids []uuid.UUID
	for _, run := range runs {
		if l.wantsRun(run.Key, run.Index, run.Attempt) {
			ids = append(ids, run.ID)
		}
	}
	// No such node run so far: nothing, where an empty list would mean everything.
	return event.LogFilter{None: len(ids) == 0, NodeRuns: ids}
}
