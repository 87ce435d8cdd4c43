package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"foundry/internal/event"
)

// follow begins to read a text.
func (b *testBundle) follow(t *testing.T, path string) io.Reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), streamWait)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+b.token)
	response, err := b.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		response.Body.Close()
	})
	if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || got != "text/plain; charset=utf-8" {
		t.Fatalf("status %d, %s", response.StatusCode, got)
	}
	return response.Body
}

// wantText reads as many bytes as wanted, which have to be those.
func wantText(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got[:n], err, want)
	}
}

// wantEnd fails unless the text ends here.
func wantEnd(t *testing.T, r io.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("the text goes on with %q, %v", rest, err)
	}
}

func TestFollowLogs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "demo")
	hub := b.server.hub

	t.Run("of a node until its run ends", func(t *testing.T) {
		t.Parallel()
		id := b.started(t, "demo")
		r, other := b.nodeRun(t, id, "greet", 0, 1), b.nodeRun(t, id, "after", 0, 1)
		b.record(t, nil, id, fact{event.Log, r, "one\x00\xff"}, fact{event.Log, other, "not this"})
		text := b.follow(t, executionPath(id, "/logs?node=greet&follow=true"))
		wantText(t, text, "one\x00\xff")
		b.record(t, hub, id, fact{event.Log, r, "two\r\n"}, fact{event.NodeCompleted, other, ""})
		wantText(t, text, "two\r\n")
		b.record(t, hub, id, fact{event.NodeFailed, r, ""}, fact{event.Log, other, "not this"})
		wantEnd(t, text)

		b.nodeRun(t, id, "greet", 0, 2)
		wantText(t, b.follow(t, executionPath(id, "/logs?node=greet&attempt=1&follow=true")), "one\x00\xfftwo\r\n")
	})

	t.Run("of a node that has yet to start", func(t *testing.T) {
		t.Parallel()
		id := b.started(t, "demo")
		text := b.follow(t, executionPath(id, "/logs?node=greet&index=1&follow=true"))
		first, second := b.nodeRun(t, id, "greet", 1, 1), b.nodeRun(t, id, "greet", 1, 2)
		zero := b.nodeRun(t, id, "greet", 0, 1)
		b.record(t, hub, id, fact{event.Log, zero, "not this"}, fact{event.NodeStarted, first, ""}, fact{event.Log, first, "a"},
			fact{event.Log, second, "not this"}, fact{event.Log, first, "b"}, fact{event.NodeTimedOut, first, ""})
		wantText(t, text, "ab")
		wantEnd(t, text)
	})

	t.Run("of a whole execution", func(t *testing.T) {
		t.Parallel()
		id := b.started(t, "demo")
		greet, after := b.nodeRun(t, id, "greet", 0, 1), b.nodeRun(t, id, "after", 0, 1)
		text := b.follow(t, executionPath(id, "/logs?follow=true"))
		b.record(t, hub, id, fact{event.Log, greet, "g1\n"}, fact{event.Log, greet, "g2\n"}, fact{event.Log, after, "a1\n"})
		wantText(t, text, "==> greet <==\ng1\ng2\n\n==> after <==\na1\n")
		retry := b.nodeRun(t, id, "greet", 0, 2)
		b.record(t, hub, id, fact{event.NodeFailed, greet, ""}, fact{event.Log, retry, "g3\n"})
		wantText(t, text, "\n==> greet (attempt 2) <==\ng3\n")
		b.record(t, hub, id, fact{kind: event.ExecutionCompleted})
		wantEnd(t, text)
	})

	t.Run("of one stream", func(t *testing.T) {
		t.Parallel()
		id := b.started(t, "demo")
		r := b.nodeRun(t, id, "greet", 0, 1)
		r.log(t, event.Stderr, "error\n")
		b.record(t, nil, id, fact{event.Log, r, "out\n"}, fact{event.NodeCompleted, r, ""})
		text := b.follow(t, executionPath(id, "/logs?node=greet&stream=stderr&follow=true"))
		wantText(t, text, "error\n")
		wantEnd(t, text)
	})

	t.Run("refuses what is wrong", func(t *testing.T) {
		t.Parallel()
		id := b.started(t, "demo")
		wantProblem(t, b.call(t, http.MethodGet, executionPath(id, "/logs?follow=true&index=1"), nil), http.StatusBadRequest, "invalid")
		_, foreign := b.organization(t, "rival")
		wantProblem(t, b.call(t, http.MethodGet, executionPath(id, "/logs?follow=true"), nil, "Authorization", "Bearer "+foreign),
			http.StatusNotFound, "not_found")
	})
}

// A text that the server has to cut does not look whole.
func TestFollowLogsIsCut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "demo")
	id := b.started(t, "demo")
	r := b.nodeRun(t, id, "greet", 0, 1)
	b.record(t, nil, id, fact{event.Log, r, "one"})
	text := b.follow(t, executionPath(id, "/logs?node=greet&follow=true"))
	wantText(t, text, "one")
	b.stop()
	if rest, err := io.ReadAll(text); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a stopping server ends the text with %q, %v", rest, err)
	}
}
