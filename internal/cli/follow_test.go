package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/api/client"
)

// script is a server whose n-th stream is answered by its n-th function; further ones get 204.
type script struct {
	answers []func(w http.ResponseWriter, after int)

	mu     sync.Mutex
	afters []string // Last-Event-ID of each request
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := len(s.afters)
	s.afters = append(s.afters, r.Header.Get("Last-Event-ID"))
	s.mu.Unlock()
	if n >= len(s.answers) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	after, err := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	if err != nil {
		after = -1
	}
	s.answers[n](w, after)
}

func sendEvents(w http.ResponseWriter, from, to int) {
	for seq := from; seq <= to; seq++ {
		fmt.Fprintf(w, "id: %d\nevent: node.started\ndata: {\"seq\":%d,\"type\":\"node.started\",\"data\":{}}\n\n", seq, seq)
	}
}

func problem(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"status":%d,"detail":"No.","code":"no","request_id":"r"}`, status)
}

// follow runs a follower against the script and returns the sequences that it has handled.
func follow(t *testing.T, ctx context.Context, s *script, handle func(client.Event) error) (seqs []int64, lost int, err error) {
	t.Helper()
	web := httptest.NewServer(s)
	defer web.Close()
	api, err := newServer(web.URL, "fdy_test")
	if err != nil {
		t.Fatal(err)
	}
	defer api.close()
	f := &follower{
		server: api, execution: uuid.New(), logs: "all",
		handle: func(event client.Event) error {
			seqs = append(seqs, event.Seq)
			return handle(event)
		},
		lost: func(error) { lost++ },
	}
	return seqs, lost, f.run(ctx)
}

func accept(client.Event) error { return nil }

func TestFollowerResumesWhereItWas(t *testing.T) {
	t.Parallel()
	s := &script{answers: []func(http.ResponseWriter, int){
		func(w http.ResponseWriter, _ int) { sendEvents(w, 1, 3) }, // ends without end: the server stops
		func(w http.ResponseWriter, _ int) { problem(w, http.StatusServiceUnavailable) },
		func(w http.ResponseWriter, _ int) { // cut in the middle of a frame
			sendEvents(w, 4, 4)
			fmt.Fprint(w, "id: 5\ndata: {\"seq\":5,")
		},
		func(w http.ResponseWriter, _ int) { fmt.Fprint(w, "event: lagged\ndata: {}\n\n") },
		func(w http.ResponseWriter, after int) { // a server that repeats
			sendEvents(w, after-1, 6)
			fmt.Fprint(w, ": ping\n\nevent: end\ndata: {}\n\n")
		},
	}}
	seqs, lost, err := follow(t, t.Context(), s, accept)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1, 2, 3, 4, 5, 6}, seqs); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"0", "3", "3", "4", "4"}, s.afters); diff != "" {
		t.Errorf("Last-Event-ID (-want +got):\n%s", diff)
	}
	if lost != 1 {
		t.Errorf("told %d times of a lost connection, want once: for the 503", lost)
	}
}

func TestFollowerEndsOn204(t *testing.T) {
	t.Parallel()
	if _, _, err := follow(t, t.Context(), &script{}, accept); err != nil {
		t.Error(err)
	}
}

func TestFollowerDoesNotRetryWhatCannotGetBetter(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusGone} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			s := &script{answers: []func(http.ResponseWriter, int){func(w http.ResponseWriter, _ int) { problem(w, status) }}}
			_, _, err := follow(t, t.Context(), s, accept)
			if !isStatus(err, status) {
				t.Errorf("got %v, want a refusal with %d", err, status)
			}
			if len(s.afters) != 1 {
				t.Errorf("%d requests, want 1", len(s.afters))
			}
		})
	}
}

func TestFollowerStopsWithItsHandler(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	s := &script{answers: []func(http.ResponseWriter, int){func(w http.ResponseWriter, _ int) { sendEvents(w, 1, 9) }}}
	seqs, _, err := follow(t, t.Context(), s, func(client.Event) error { return full })
	if !errors.Is(err, full) || len(seqs) != 1 {
		t.Errorf("got %v after %d events, want the handler's error after one", err, len(seqs))
	}
}

func TestFollowerStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("Ctrl-C")
	s := &script{answers: []func(http.ResponseWriter, int){func(w http.ResponseWriter, _ int) { sendEvents(w, 1, 1) }}}
	_, _, err := follow(t, ctx, s, func(client.Event) error {
		cancel(cause)
		return nil
	})
	if !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the cause and context.Canceled", err)
	}
}
