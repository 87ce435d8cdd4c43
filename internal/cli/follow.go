package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"foundry/api/client"
	"foundry/internal/errs"
	"foundry/internal/lifecycle"
)

const (
	// silence is how long a stream may say nothing: servers send a comment every 15 s.
	silence      = 45 * time.Second
	firstRetry   = 200 * time.Millisecond
	longestRetry = 5 * time.Second
	giveUpAfter  = 5 * time.Minute
)

// errEnded is a stream that has told the execution's last event.
var errEnded = errors.New("the execution has ended")

// follower reads the events of one execution. It may be used once.
type follower struct {
	server    *server
	execution uuid.UUID
	logs      string // as the API's parameter: all, none, or a node
	after     int64  // the last sequence seen
	// handle gets every event once, in order. Its error ends it all.
	handle func(client.Event) error
	// lost is told, once per outage, that the server does not answer.
	lost func(error)
}

// handlerError is an error of handle, which no new connection mends.
type handlerError struct{ error }

func (e handlerError) Unwrap() error { return e.error }

// run returns nil once the last event has been handled.
func (f *follower) run(ctx context.Context) error {
	pause, told := firstRetry, false
	lastContact := time.Now()
	for {
		before := f.after
		contact, err := f.stream(ctx)
		switch {
		case errors.Is(err, errEnded):
			return nil
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), ctx.Err())
		case !transient(err):
			return err
		}
		if contact {
			lastContact, told = time.Now(), false
		}
		if f.after > before {
			pause = firstRetry
		}
		if time.Since(lastContact) > giveUpAfter {
			return errs.E(errs.Unavailable, "The server has not answered for %s.", giveUpAfter).Because(err)
		}
		if !contact && !told {
			told = true
			f.lost(err)
		}
		lifecycle.Sleep(ctx, pause/2+rand.N(pause/2)) //nolint:gosec // jitter
		pause = min(2*pause, longestRetry)
	}
}

// transient reports whether another connection may do better. nil is the end of a stream that
// has more to tell.
func transient(err error) bool {
	if _, ok := errors.AsType[handlerError](err); ok {
		return false
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused.status >= http.StatusInternalServerError || refused.status == http.StatusTooManyRequests ||
			refused.status == http.StatusRequestTimeout
	}
	return true
}

// stream reads one connection to its end. contact is true when the server has answered.
func (f *follower) stream(ctx context.Context) (contact bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := f.server.send(ctx, request{
		method: http.MethodGet,
		path:   []string{"executions", f.execution.String(), "events"},
		query:  url.Values{"logs": {f.logs}},
		header: http.Header{
			"Accept":        {"text/event-stream"},
			"Last-Event-Id": {strconv.FormatInt(f.after, 10)},
		},
	})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return true, errEnded
	}
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	frames := newFrameReader(resp.Body, func() { watchdog.Reset(silence) })
	for {
		next, err := frames.next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return true, fmt.Errorf("reading the stream: %w", err)
		}
		if err := f.take(next); err != nil {
			return true, err
		}
	}
}

// take handles one frame.
func (f *follower) take(next frame) error {
	switch {
	case next.event == "end":
		return errEnded
	case next.id == "":
		return nil // lagged and whatever else has no place in the history
	}
	var event client.Event
	if err := json.Unmarshal(next.data, &event); err != nil {
		return handlerError{errs.E(errs.Unavailable, "The server sent an event that cannot be read.").Because(err)}
	}
	if event.Seq <= f.after {
		return nil
	}
	if err := f.handle(event); err != nil {
		return handlerError{err}
	}
	f.after = event.Seq
	return nil
}

// chunk returns the bytes of a log event.
func chunk(event client.Event) (client.LogChunk, []byte, error) {
	var c client.LogChunk
	if err := json.Unmarshal(event.Data, &c); err != nil {
		return c, nil, errs.E(errs.Unavailable, "The server sent output that cannot be read.").Because(err)
	}
	if c.Text != "" {
		return c, []byte(c.Text), nil
	}
	return c, c.Base64, nil
}
