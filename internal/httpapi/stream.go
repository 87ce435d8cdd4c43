package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"foundry/internal/errs"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/stream"
)

// streamExecution answers GET /executions/{execution}/events for text/event-stream.
func (s *Server) streamExecution(c echo.Context, r openapi.ListExecutionEventsRequestObject) error {
	ctx := c.Request().Context()
	p := principal(ctx)
	logs, err := stream.ParseLogs(valueOr(r.Params.Logs, ""))
	if err != nil {
		return err
	}
	after, err := resumeAfter(r.Params)
	if err != nil {
		return err
	}
	e, err := s.executions.Get(ctx, p.OrganizationID, r.Execution)
	if err != nil {
		return err
	}
	if e.Status.Terminal() && after >= e.LastSeq {
		return c.NoContent(http.StatusNoContent) // which tells an EventSource to stop
	}
	closed, err := s.hub.Open(p.ID(), stream.KindExecution)
	if err != nil {
		return err
	}
	defer closed()
	watch, err := s.hub.Watch(ctx, r.Execution, after, logs)
	if err != nil {
		return notStarted(c, err)
	}
	defer watch.Close()
	out, err := startSSE(c.Response())
	if err != nil {
		return err
	}
	return out.follow(ctx, func() (<-chan struct{}, error) { return s.relay(ctx, watch, out) })
}

// resumeAfter returns the sequence that the client has seen.
func resumeAfter(p openapi.ListExecutionEventsParams) (int64, error) {
	if p.LastEventID == nil || *p.LastEventID == "" {
		return valueOr(p.After, 0), nil
	}
	after, err := strconv.ParseInt(*p.LastEventID, 10, 64)
	if err != nil || after < 0 {
		return 0, errs.E(errs.Invalid, "The header Last-Event-ID is not the id of an event of this stream.")
	}
	return after, nil
}

// relay writes what the watch has now. io.EOF: the stream is over.
func (s *Server) relay(ctx context.Context, watch *stream.Watch, out *sse) (changed <-chan struct{}, err error) {
	live := watch.Live()
	batch, changed, err := watch.Poll(ctx)
	switch {
	case errors.Is(err, io.EOF):
		return nil, out.last("end")
	case errors.Is(err, stream.ErrLagged):
		return nil, out.last("lagged")
	case err != nil:
		return nil, err
	}
	if len(batch) == 0 {
		return changed, nil
	}
	frames := make([][]byte, len(batch))
	for i, e := range batch {
		if frames[i], err = e.Frame(); err != nil {
			return nil, err
		}
	}
	if err := out.send(frames...); err != nil {
		return nil, err
	}
	if live {
		s.hub.Written(batch[len(batch)-1].Time)
	}
	return changed, nil
}

// streamSummaries answers GET /events.
func (s *Server) streamSummaries(c echo.Context) error {
	ctx := c.Request().Context()
	p := principal(ctx)
	closed, err := s.hub.Open(p.ID(), stream.KindOrganization)
	if err != nil {
		return err
	}
	defer closed()
	watch, err := s.hub.WatchOrganization(ctx, p.OrganizationID)
	if err != nil {
		return notStarted(c, err)
	}
	defer watch.Close()
	out, err := startSSE(c.Response())
	if err != nil {
		return err
	}
	if err := out.event("ready"); err != nil {
		return err
	}
	return out.follow(ctx, func() (<-chan struct{}, error) { return relaySummaries(watch, out) })
}

// relaySummaries writes what has changed since the last time.
func relaySummaries(watch *stream.OrganizationWatch, out *sse) (changed <-chan struct{}, err error) {
	frames, reset, changed, err := watch.Poll()
	if err != nil {
		return nil, err
	}
	if reset {
		if err := out.event("reset"); err != nil {
			return nil, err
		}
	}
	if len(frames) == 0 {
		return changed, nil
	}
	return changed, out.send(frames...)
}

// notStarted answers for a stream of events that cannot be watched. Where streams have ended it is a stream that ends at once: an
// EventSource comes back after one, and never after any answer but 200.
func notStarted(c echo.Context, err error) error {
	if !errors.Is(err, stream.ErrStopped) {
		return err
	}
	out, err := startSSE(c.Response())
	if err != nil {
		return err
	}
	defer out.finish()
	return out.moved()
}

// textError is why a text does not begin or breaks off.
func textError(err error) error {
	if errors.Is(err, stream.ErrStopped) {
		return errDraining().Because(err)
	}
	return err
}
