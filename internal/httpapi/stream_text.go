package httpapi

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/stream"
)

// followLogs answers GET /executions/{execution}/logs with follow=true. What has to be cut short is cut, so that
// nobody takes a part of the text for all of it.
func (s *Server) followLogs(c echo.Context, r openapi.GetExecutionLogsRequestObject) error {
	ctx := c.Request().Context()
	p := r.Params
	if p.Node == nil && (p.Index != nil || p.Attempt != nil) {
		return errs.E(errs.Invalid, "The query parameters index and attempt need node.").With("?node", "Is missing.")
	}
	runs, err := s.nodeRuns(ctx, r.Execution)
	if err != nil {
		return err
	}
	text := &textFollower{hub: s.hub, executionID: r.Execution, runs: runs, stream: (*event.Stream)(p.Stream)}
	if p.Node != nil {
		text.logs = stream.Logs{Node: *p.Node, Index: new(valueOr(p.Index, 0)), Attempt: p.Attempt}
		if run, err := chooseRun(runs, *p.Node, p.Index, p.Attempt); err == nil {
			text.logs.Attempt = &run.Attempt
		} // else it has yet to start
	}
	closed, err := s.hub.Open(principal(ctx).ID(), stream.KindText)
	if err != nil {
		return err
	}
	defer closed()
	watch, err := s.hub.Watch(ctx, r.Execution, 0, text.logs)
	if err != nil {
		return textError(err)
	}
	text.out = startLive(c.Response(), "text/plain; charset=utf-8")
	defer text.out.finish()
	return text.follow(ctx, watch)
}

// textFollower writes output as text while it comes.
type textFollower struct {
	hub         *stream.Hub
	out         *liveWriter
	executionID uuid.UUID
	logs        stream.Logs
	stream      *event.Stream       // nil: both
	runs        []execution.NodeRun // known so far, for headers
	last        uuid.UUID           // the node run whose output was written last
}

// follow writes until the node run or the execution has ended. It closes the watch.
func (f *textFollower) follow(ctx context.Context, watch *stream.Watch) error {
	defer func() { watch.Close() }()
	for {
		if err := f.out.flush(); err != nil {
			return err
		}
		batch, changed, err := watch.Poll(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, stream.ErrLagged) { // a text has no way to say so: go on where it stopped
			after := watch.Position()
			watch.Close()
			if watch, err = f.hub.Watch(ctx, f.executionID, after, f.logs); err != nil {
				return textError(err)
			}
			continue
		}
		if err != nil {
			return textError(err)
		}
		over, err := f.write(batch)
		if err != nil || over {
			return err
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// write writes the output among the events, and reports whether the node run that is followed has ended.
func (f *textFollower) write(batch []*stream.Entry) (over bool, err error) {
	for _, e := range batch {
		if !f.concerns(e) {
			continue
		}
		if e.Type != event.Log {
			if f.logs.Node != "" && endsNodeRun(e.Type) {
				return true, nil
			}
			continue
		}
		if f.stream != nil && e.Stream != *f.stream {
			continue
		}
		if err := f.out.write([]byte(f.header(e))); err != nil {
			return false, err
		}
		if err := f.out.write(e.Chunk); err != nil {
			return false, err
		}
	}
	return false, nil
}

// concerns reports whether the event is of what is followed. The first attempt that is seen is the one that is
// followed, unless one was named.
func (f *textFollower) concerns(e *stream.Entry) bool {
	if f.logs.Node == "" {
		return true
	}
	if e.Node != f.logs.Node || e.Index != *f.logs.Index {
		return false
	}
	if f.logs.Attempt == nil {
		f.logs.Attempt = new(e.Attempt)
	}
	return e.Attempt == *f.logs.Attempt
}

// header returns the line that says whose output follows, where that changes in the text of a whole execution.
func (f *textFollower) header(e *stream.Entry) string {
	if f.logs.Node != "" || e.NodeRunID == nil || *e.NodeRunID == f.last {
		return ""
	}
	run := execution.NodeRun{ID: *e.NodeRunID, Key: e.Node, Index: e.Index, Attempt: e.Attempt}
	f.runs = append(f.runs, run)
	header := logHeader(f.runs, &run)
	if f.last != uuid.Nil {
		header = "\n" + header
	}
	f.last = run.ID
	return header
}

// endsNodeRun reports whether an event is the last of its node run: those are named for its terminal statuses.
func endsNodeRun(t event.Type) bool {
	status, ok := strings.CutPrefix(string(t), "node.")
	return ok && execution.NodeStatus(status).Terminal()
}
