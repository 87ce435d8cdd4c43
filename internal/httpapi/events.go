package httpapi

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/stream"
)

const (
	// eventsRead is how many events are read at once, and eventsBytes the size from which a page ends early: a
	// thousand chunks of 64 KiB are not one answer.
	eventsRead  = 64
	eventsBytes = 4 << 20
)

// eventPage is a page of events in the form that streams carry, too.
type eventPage struct {
	Data       []stream.Object `json:"data"`
	NextCursor *int64          `json:"next_cursor"`
}

// VisitListExecutionEventsResponse writes the page. Logs are full of <, > and &, which stay as they are.
func (p *eventPage) VisitListExecutionEventsResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", mediaJSON)
	w.WriteHeader(http.StatusOK)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(p)
}

func (h *handlers) ListExecutionEvents(ctx context.Context, r openapi.ListExecutionEventsRequestObject) (openapi.ListExecutionEventsResponseObject, error) {
	logs, err := stream.ParseLogs(valueOr(r.Params.Logs, "all"))
	if err != nil {
		return nil, err
	}
	runs, err := h.nodeRuns(ctx, r.Execution)
	if err != nil {
		return nil, err
	}
	events, more, err := h.readEvents(ctx, r.Execution, valueOr(r.Params.After, 0), valueOr(r.Params.Limit, eventsMax), logs.Filter(runs))
	if err != nil {
		return nil, err
	}
	answer := &eventPage{Data: make([]stream.Object, 0, len(events))}
	for i := range events {
		object, err := stream.NewObject(&events[i])
		if err != nil {
			return nil, err
		}
		answer.Data = append(answer.Data, object)
	}
	if more {
		answer.NextCursor = &events[len(events)-1].Seq
	}
	return answer, nil
}

// StreamEvents completes the generated interface: live answers such requests before they come here.
func (h *handlers) StreamEvents(context.Context, openapi.StreamEventsRequestObject) (openapi.StreamEventsResponseObject, error) {
	return nil, errs.E(errs.Internal, "Streams are answered by live.")
}

// readEvents returns at most limit events, fewer when they are large, and whether there may be more.
func (s *Server) readEvents(ctx context.Context, id uuid.UUID, after int64, limit int, filter event.LogFilter) (events []event.Event, more bool, err error) {
	for size := 0; len(events) < limit && size < eventsBytes; {
		asked := min(limit-len(events), eventsRead)
		read, err := s.events.Page(ctx, id, after, asked, filter)
		if err != nil {
			return nil, false, err
		}
		events = append(events, read...)
		if len(read) < asked {
			return events, false, nil
		}
		after = read[len(read)-1].Seq
		for i := range read {
			size += len(read[i].Chunk) + len(read[i].Data)
		}
	}
	return events, true, nil
}
