package httpapi

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/pgtest"
	"foundry/internal/stream"
)

// TestNotice holds for how long a server that leaves still accepts connections.
func TestNotice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		watched bool
		timeout time.Duration
		want    time.Duration
	}{
		"somebody watches":       {true, 20 * time.Second, time.Second},
		"there is no time":       {true, 2 * time.Second, 500 * time.Millisecond},
		"nobody has ever looked": {false, 20 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hub, err := stream.New(stream.Config{Events: event.NewStore(nil), Executions: execution.NewStore(nil)})
				if err != nil {
					t.Fatal(err)
				}
				s := &Server{config: Config{DrainTimeout: c.timeout}, hub: hub, log: zerolog.Nop()}
				s.leaving.watched.Store(c.watched)
				start := time.Now()
				server := &http.Server{ReadHeaderTimeout: headerTimeout}
				listener := &pipeListener{done: make(chan struct{})}
				var accepted time.Duration
				served := make(chan error, 1)
				go func() {
					err := server.Serve(listener)
					accepted = time.Since(start)
					served <- err
				}()
				synctest.Wait()
				if err := s.drain(t.Context(), server); err != nil {
					t.Error(err)
				}
				if err := <-served; !errors.Is(err, http.ErrServerClosed) {
					t.Errorf("Serve() = %v", err)
				}
				if accepted != c.want || s.Drained().Notice != c.want {
					t.Errorf("connections were accepted for %s, and %+v is told; want %s", accepted, s.Drained(), c.want)
				}
			})
		})
	}
}

// TestLeavingServer asks a server that has been told to leave and still accepts connections.
func TestLeavingServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "demo")
	id := b.started(t, "demo")
	if r := get[openapi.Readiness](t, b, "/readyz"); !r.Ready || !b.server.leaving.watched.Load() {
		t.Fatalf("before: %+v", r)
	}
	s := b.stream(t, executionPath(id, "/events"))
	s.until(t, string(event.ExecutionQueued))
	b.server.leaving.on.Store(true)

	a := b.call(t, http.MethodGet, "/readyz", nil)
	r := decode[openapi.Readiness](t, a, http.StatusServiceUnavailable)
	if r.Ready || len(r.Checks) != 1 || r.Checks[0].Ok || r.Checks[0].Detail != "The control plane is leaving." || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("/readyz says %+v, %v", r, a.header)
	}
	if a := b.call(t, http.MethodGet, "/healthz", nil); a.status != http.StatusOK {
		t.Errorf("/healthz answers %d", a.status)
	}
	body := strings.Repeat("x", 1<<20) // more than is read of a request that was answered
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		for _, path := range []string{apiPrefix + "/workflows/demo/executions", apiPrefix + "/nothing/here", "/login"} {
			a := b.call(t, method, path, body)
			wantProblem(t, a, http.StatusServiceUnavailable, "draining")
			if a.header.Get("Retry-After") != "1" || a.header.Get("Connection") != "close" {
				t.Errorf("%s %s: %v", method, path, a.header)
			}
		}
	}
	a = b.call(t, http.MethodGet, executionPath(id, ""), nil)
	decode[openapi.Execution](t, a, http.StatusOK)
	if a.header.Get("Connection") != "close" {
		t.Errorf("a read keeps its connection: %v", a.header)
	}
	for _, one := range []*sseReader{s, b.stream(t, executionPath(id, "/events"))} { // old and new ones go on
		b.record(t, b.server.hub, id, warnings(1)...)
		one.until(t, string(event.Warning))
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*)::int FROM executions"); n != 1 {
		t.Errorf("%d executions", n)
	}
	s.response.Body.Close()
	b.stop()
	if d := b.server.Drained(); d.Refused != 12 || d.Cut != 0 || d.Requests < 1 {
		t.Errorf("it has ended as %+v", d)
	}
	for line := range strings.Lines(b.log.String()) {
		if strings.Contains(line, "request failed") {
			t.Errorf("an orderly refusal is an error in the log: %s", line)
		}
	}
}

// TestChangeInFlightIsFinished ends a server while a change waits for a row.
func TestChangeInFlightIsFinished(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "demo")
	id := b.started(t, "demo")
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), "SELECT FROM executions WHERE id = $1 FOR UPDATE", id); err != nil {
		t.Fatal(err)
	}
	answers := make(chan answer, 1)
	go func() {
		defer close(answers) // also when the call has failed the test
		answers <- b.call(t, http.MethodPost, executionPath(id, "/cancel"), nil)
	}()
	waitUntil(t, func() bool {
		return pgtest.Get[int](t, b.pool, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
	})
	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	<-b.refuses
	select {
	case a := <-answers:
		t.Fatalf("the change was answered while its row was locked: %d %s", a.status, a.body)
	case <-stopped:
		t.Fatal("the server did not wait for the change")
	default:
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := <-answers; a.status/100 != 2 || a.header.Get("Connection") != "close" {
		t.Errorf("the change got %d %v: %s", a.status, a.header, a.body)
	}
	<-stopped
	if d := b.server.Drained(); d.Requests != 1 || d.Cut != 0 || d.Refused != 0 || d.Finish <= 0 || d.Began.IsZero() {
		t.Errorf("it has ended as %+v", d)
	}
	if !pgtest.Get[bool](t, b.pool, "SELECT cancel_requested_at IS NOT NULL OR status = 'canceled' FROM executions WHERE id = $1", id) {
		t.Error("the change has no effect")
	}
}

// TestDrainSendsStreamsAway ends a server with one of each kind of stream, which go on at another one.
func TestDrainSendsStreamsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := b.another(t)
	b.workflow(t, "demo")
	id := b.started(t, "demo")
	r := b.nodeRun(t, id, "greet", 0, 1)
	last := b.record(t, b.server.hub, id, fact{kind: event.Log, run: r, chunk: "first\n"})

	events, list := b.stream(t, executionPath(id, "/events")), b.stream(t, apiPrefix+"/events")
	seen := ids(events.until(t, string(event.Log)))
	list.until(t, "ready")
	text := b.stream(t, executionPath(id, "/logs?follow=true&node=greet"), "Accept", "text/plain")
	first := make([]byte, len("first\n"))
	if _, err := io.ReadFull(text.lines, first); err != nil {
		t.Fatal(err)
	}
	waited := make(chan answer, 1)
	go func() {
		defer close(waited) // also when the call has failed the test
		waited <- b.call(t, http.MethodPost, apiPrefix+"/workflows/demo/executions?wait=300s", map[string]any{})
	}()
	waitUntil(t, func() bool { return pgtest.Get[int](t, b.pool, "SELECT count(*)::int FROM executions") == 2 })

	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	for _, s := range []*sseReader{events, list} {
		var err error
		for err == nil { // the list may have the second execution first
			_, err = s.next()
		}
		if !errors.Is(err, io.EOF) || s.retry != "250" {
			t.Errorf("%s: %v, retry %q", s.response.Request.URL, err, s.retry)
		}
	}
	if rest, err := io.ReadAll(text.lines); !errors.Is(err, io.ErrUnexpectedEOF) || len(rest) > 0 {
		t.Errorf("a text that is not whole ends as if it were: %q, %v", rest, err)
	}
	if e := decode[openapi.Execution](t, <-waited, http.StatusAccepted); e.Status != openapi.ExecutionStatus(execution.Queued) {
		t.Errorf("a wait that was ended tells %+v", e)
	}
	<-stopped
	if d := b.server.Drained(); d.Requests != 4 || d.Streams != 4 || d.Cut != 0 {
		t.Errorf("it has ended as %+v", d)
	}

	b.record(t, nil, id, append(warnings(2), fact{kind: event.ExecutionCompleted})...)
	again := ids(other.stream(t, executionPath(id, "/events"), "Last-Event-ID", seen[len(seen)-1]).until(t, "end"))
	if want := []string{"3", "4", "5", ""}; last != 2 || !slices.Equal(again, want) {
		t.Errorf("after %v at one server come %v at the other, want %v", seen, again, want)
	}
}

// TestStreamsAskedForTooLate asks a server whose streams have ended. An EventSource never comes back after another status than 200.
func TestStreamsAskedForTooLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "demo")
	id := b.started(t, "demo")
	b.server.hub.End()
	for _, path := range []string{executionPath(id, "/events"), apiPrefix + "/events"} {
		s := b.stream(t, path)
		if f, err := s.next(); s.response.StatusCode != http.StatusOK || !errors.Is(err, io.EOF) || s.retry != "250" {
			t.Errorf("%s answers %d: %+v, %v, retry %q", path, s.response.StatusCode, f, err, s.retry)
		}
	}
	wantProblem(t, b.call(t, http.MethodGet, executionPath(id, "/logs?follow=true"), nil), http.StatusServiceUnavailable, "draining")
	wantProblem(t, b.call(t, http.MethodGet, executionPath(uuid.New(), "/events"), nil, "Accept", "text/event-stream"), http.StatusNotFound, "not_found")
}
