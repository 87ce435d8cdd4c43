package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
)

// logsRead is how many chunks, of at most 64 KiB each, are read at once.
const logsRead = 32

// logText is the output of node runs as one text, of which a part may be asked. Its size is known before the
// first byte is read, and stays what it was while node runs go on writing.
type logText struct {
	ctx      context.Context //nolint:containedctx // of the request; the generated interface passes none
	events   *event.Store
	sections []logSection
	size     int64 // bytes
	part     *byteRange
}

// logSection is the output of one node run behind a header.
type logSection struct {
	header string
	params event.LogParams
	size   int64 // bytes of output
}

func (h *handlers) GetExecutionLogs(ctx context.Context, r openapi.GetExecutionLogsRequestObject) (openapi.GetExecutionLogsResponseObject, error) {
	p := r.Params
	if p.Node == nil && (p.Index != nil || p.Attempt != nil) {
		return nil, errs.E(errs.Invalid, "The query parameters index and attempt need node.").With("?node", "Is missing.")
	}
	runs, err := h.nodeRuns(ctx, r.Execution)
	if err != nil {
		return nil, err
	}
	text := &logText{ctx: ctx, events: h.events}
	if p.Node != nil {
		run, err := chooseRun(runs, *p.Node, p.Index, p.Attempt)
		if err != nil {
			return nil, err
		}
		text.add(r.Execution, run, "", (*event.Stream)(p.Stream))
	} else {
		text.addAll(r.Execution, runs, (*event.Stream)(p.Stream))
	}
	if p.Range != nil {
		if text.part, err = parseRange(*p.Range, text.size); err != nil {
			return nil, err
		}
	}
	return text, nil
}

func (t *logText) add(executionID uuid.UUID, run *execution.NodeRun, header string, stream *event.Stream) {
	size := run.StdoutBytes + run.StderrBytes
	if stream != nil && *stream == event.Stdout {
		size = run.StdoutBytes
	} else if stream != nil {
		size = run.StderrBytes
	}
	t.sections = append(t.sections, logSection{
		header: header, size: size, params: event.LogParams{ExecutionID: executionID, NodeRunID: &run.ID, Stream: stream, Limit: logsRead},
	})
	t.size += int64(len(header)) + size
}

// addAll adds every node run that has started, in the order of their starts.
func (t *logText) addAll(executionID uuid.UUID, runs []execution.NodeRun, stream *event.Stream) {
	runs = slices.DeleteFunc(slices.Clone(runs), func(run execution.NodeRun) bool { return run.StartedAt == nil })
	slices.SortStableFunc(runs, func(a, b execution.NodeRun) int { return a.StartedAt.Compare(*b.StartedAt) })
	for i := range runs {
		header := logHeader(runs, &runs[i])
		if i > 0 {
			header = "\n" + header
		}
		t.add(executionID, &runs[i], header, stream)
	}
}

// logHeader names a node run as briefly as is clear among all of them: "==> build <==", "==> build[3] <==" for an
// index, "==> build (attempt 2) <==".
func logHeader(runs []execution.NodeRun, run *execution.NodeRun) string {
	name := run.Key
	if slices.ContainsFunc(runs, func(other execution.NodeRun) bool {
		return other.Key == run.Key && (other.Index > 0 || other.Combination != nil)
	}) {
		name = indexed(run.Key, run.Index)
	}
	if run.Attempt > 1 {
		name += fmt.Sprintf(" (attempt %d)", run.Attempt)
	}
	return "==> " + name + " <==\n"
}

// indexed is how people call one of the runs of a node that fans out.
func indexed(key string, index int) string { return key + "[" + strconv.Itoa(index) + "]" }

// VisitGetExecutionLogsResponse writes the text, or the part of it that was asked for.
func (t *logText) VisitGetExecutionLogsResponse(w http.ResponseWriter) error {
	part := byteRange{0, t.size}
	status := http.StatusOK
	header := w.Header()
	if t.part != nil {
		part, status = *t.part, http.StatusPartialContent
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.from, part.to-1, t.size))
	}
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Accept-Ranges", "bytes")
	header.Set("Content-Length", strconv.FormatInt(part.to-part.from, 10))
	w.WriteHeader(status)
	return t.write(w, part)
}

// write writes bytes part.from to part.to of the text.
func (t *logText) write(w io.Writer, part byteRange) error {
	start := int64(0) // of the section in the text
	for _, s := range t.sections {
		head := part.within(start, int64(len(s.header)))
		if _, err := io.WriteString(w, s.header[head.from:head.to]); err != nil {
			return errors.Join(errClientGone, err)
		}
		start += int64(len(s.header))
		if body := part.within(start, s.size); body.from < body.to {
			if err := t.writeBody(w, s.params, body); err != nil {
				return err
			}
		}
		start += s.size
	}
	return nil
}

// writeBody writes a part, which is not empty, of one node run's output.
func (t *logText) writeBody(w io.Writer, params event.LogParams, part byteRange) error {
	after, at, err := t.events.LogSeek(t.ctx, params, part.from)
	if err != nil {
		return err
	}
	params.After = after
	for at < part.to {
		chunks, err := t.events.Logs(t.ctx, params)
		if err != nil {
			return err
		}
		if len(chunks) == 0 {
			return fmt.Errorf("the log of node run %s ends at byte %d, before byte %d", params.NodeRunID, at, part.to)
		}
		for _, chunk := range chunks {
			piece := part.within(at, int64(len(chunk.Chunk)))
			if _, err := w.Write(chunk.Chunk[piece.from:piece.to]); err != nil {
				return errors.Join(errClientGone, err)
			}
			at += int64(len(chunk.Chunk))
		}
		params.After = chunks[len(chunks)-1].Seq
	}
	return nil
}
