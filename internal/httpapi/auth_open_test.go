package httpapi

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	"foundry/internal/auth"
)

// TestStreamsEndWithTheirCredentials holds that what stays open does not outlive the right to it.
func TestStreamsEndWithTheirCredentials(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	id := b.queued(t, "one")
	for name, path := range map[string]string{
		"of summaries": apiPrefix + "/events", "of an execution": executionPath(id, "/events"), "of a text": executionPath(id, "/logs") + "?follow=true",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ada := b.person(t, name[len("of "):len("of ")+1]+"da@example.com", auth.Editor)
			token := b.makeToken(t, ada, map[string]any{"name": "ci", "scopes": []string{"*"}})
			byToken := b.stream(t, path, "Authorization", "Bearer "+token.Token)
			bySession := b.stream(t, path, "Authorization", "", "Cookie", ada.cookie)
			others := b.stream(t, apiPrefix+"/events")
			others.until(t, "ready")
			for _, open := range []*sseReader{byToken, bySession} {
				if open.response.StatusCode != http.StatusOK {
					t.Fatalf("the stream is answered %d", open.response.StatusCode)
				}
			}

			if a := b.as(t, ada.cookie, http.MethodDelete, apiPrefix+"/tokens/"+token.ID.String(), nil); a.status != http.StatusNoContent {
				t.Fatalf("revoking: %d %s", a.status, a.body)
			}
			wantOver(t, byToken)
			if n := b.server.open.with(ada.cookie[len(sessionCookie)+1:]); n != 1 {
				t.Errorf("%d streams of the session are open, want 1: it was not revoked", n)
			}
			if a := b.as(t, ada.cookie, http.MethodPost, apiPrefix+"/auth/logout", nil); a.status != http.StatusNoContent {
				t.Fatalf("signing out: %d %s", a.status, a.body)
			}
			wantOver(t, bySession)
			if b.server.open.with("Bearer "+b.token) == 0 {
				t.Error("the streams of others have ended too")
			}
		})
	}
}

// with counts what is open with credentials.
func (o *openRequests) with(credentials string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for one := range o.all {
		if one.credentials == credentials {
			n++
		}
	}
	return n
}

// wantOver reads to the end of a stream, which must come.
func wantOver(t *testing.T, r *sseReader) {
	t.Helper()
	if _, err := io.Copy(io.Discard, r.lines); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream went on: %v", err)
	}
}

// TestOpenRequestsAreForgotten holds that nothing is kept of streams that have ended.
func TestOpenRequestsAreForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.stream(t, apiPrefix+"/events")
	r.until(t, "ready")
	if n := b.server.open.with("Bearer " + b.token); n != 1 {
		t.Errorf("%d are open, want 1", n)
	}
	r.response.Body.Close()
	waitUntil(t, func() bool { return b.server.open.with("Bearer "+b.token) == 0 })
}

// TestEachCredentialIsLookedUpOnce holds that a look costs one query for each that is open, however many streams it has.
func TestEachCredentialIsLookedUpOnce(t *testing.T) {
	t.Parallel()
	sent := &roundTrips{}
	b := setup(t).another(t, sent.trace(t)) // which nobody runs, so that nobody else looks
	ada := b.person(t, "ada@example.com", auth.Editor)
	for range 3 {
		b.stream(t, apiPrefix+"/events", "Authorization", "", "Cookie", ada.cookie).until(t, "ready")
	}
	sent.clear()
	b.server.recheckOnce(t.Context())
	if got := sent.list(); !slices.Equal(got, []string{"SessionByHash"}) {
		t.Errorf("looking at three streams of one session sends %q", got)
	}
}
