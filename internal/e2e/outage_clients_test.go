package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"foundry/api/client"
	"foundry/internal/lifecycle"
)

// retry is a client's pause after a connection that has ended.
const retry = 200 * time.Millisecond

// sent is one server-sent event.
type sent struct {
	id   int64 // 0: without
	name string
	data []byte
}

// readSent calls f for each event of a stream until it ends or f returns false.
func readSent(r io.Reader, f func(sent) bool) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var e sent
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "":
			if e.name != "" && !f(e) {
				return
			}
			e = sent{}
		case "id":
			e.id, _ = strconv.ParseInt(value, 10, 64)
		case "event":
			e.name = value
		case "data":
			e.data = []byte(value)
		}
	}
}

// follower follows an execution's events, and comes back with Last-Event-ID when its connection ends.
type follower struct {
	i     *installation
	path  string
	limit time.Duration // of each connection, for one that ends them itself; 0: none
	stop  context.CancelFunc
	wg    sync.WaitGroup
	idle  int // how many connections one after the other have come to their limit without any event

	mu          sync.Mutex
	events      []sent
	connections int
	refused     int
}

func (i *installation) follow(id string, limit time.Duration) *follower {
	return i.followPath("/executions/"+id+"/events", limit)
}

func (i *installation) followSummaries() *follower { return i.followPath("/events", 0) }

func (i *installation) followPath(path string, limit time.Duration) *follower {
	ctx, stop := context.WithCancel(i.t.Context())
	f := &follower{i: i, path: path, limit: limit}
	f.stop = func() { stop(); f.wg.Wait() }
	i.t.Cleanup(f.stop)
	f.wg.Go(func() {
		for !f.connect(ctx) && lifecycle.Sleep(ctx, retry) {
		}
	})
	return f
}

// connect reads one connection to its end, and reports whether it was the last.
func (f *follower) connect(ctx context.Context) (over bool) {
	if f.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.limit<<min(f.idle, 6)) // longer and longer: or a slow server would never get to tell anything
		defer cancel()
		before := f.last()
		defer func() {
			f.idle++
			if ctx.Err() == nil || f.last() > before {
				f.idle = 0
			}
		}()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.i.url+"/api/v1"+f.path, nil)
	if err != nil {
		f.i.t.Error(err)
		return true
	}
	req.Header.Set("Authorization", "Bearer "+f.i.token)
	req.Header.Set("Accept", "text/event-stream")
	if last := f.last(); last > 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatInt(last, 10))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false // this client has closed it, or the test is over
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNoContent:
		return true
	case http.StatusOK:
	default:
		text, _ := io.ReadAll(resp.Body) // what is missing fails the check
		if ctx.Err() == nil {
			checkUnavailable(f.i.t, "GET "+f.path, resp, text)
		}
		f.count(&f.refused)
		return false
	}
	f.count(&f.connections)
	readSent(resp.Body, func(e sent) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.events = append(f.events, e)
		over = e.name == "end"
		return !over
	})
	return over
}

func (f *follower) count(n *int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*n++
}

// last is the newest id.
func (f *follower) last() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range slices.Backward(f.events) {
		if e.id > 0 {
			return e.id
		}
	}
	return 0
}

func (f *follower) has(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.ContainsFunc(f.events, func(e sent) bool { return e.name == name }) {
		return fmt.Errorf("the stream of %s has not said %s", f.path, name)
	}
	return nil
}

// text is all output that was streamed.
func (f *follower) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, e := range f.events {
		if e.name != "log" {
			continue
		}
		var event struct{ Data client.LogChunk }
		if err := json.Unmarshal(e.data, &event); err != nil {
			f.i.t.Errorf("event %d: %v", e.id, err)
		}
		b.WriteString(event.Data.Text)
	}
	return b.String()
}

func (f *follower) waitFor(t *testing.T, text string) {
	t.Helper()
	eventually(t, func() error {
		if strings.Contains(f.text(), text) {
			return nil
		}
		return fmt.Errorf("the stream has not said %q", text)
	})
}

// check waits for the end and checks that every event came once, in order.
func (f *follower) check(t *testing.T, name string) {
	t.Helper()
	eventually(t, func() error { return f.over() })
	f.stop()
	next := int64(1)
	for _, e := range f.events {
		if e.id == 0 {
			continue // end
		}
		if e.id != next {
			t.Errorf("%s: event %d comes where %d is next", name, e.id, next)
			return
		}
		next++
	}
	t.Logf("%s: %d events over %d connections, refused %d times", name, next-1, f.connections, f.refused)
}

// over returns nil when the last event has come.
func (f *follower) over() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.events); n > 0 && (f.events[n-1].name == "end" || f.events[n-1].name == "execution.completed") {
		return nil
	}
	return errors.New("the stream has not ended")
}

// visits are requests of one client after the other, while the database comes and goes.
type visits struct {
	i    *installation
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	queued   []string       // executions that were accepted
	answered map[string]int // by method, status and code
	since    map[string]int // the same, since the last look
}

// visit begins to ask: reads of an execution and of a list, and new executions.
func (i *installation) visit(id string) *visits {
	ctx, stop := context.WithCancel(i.t.Context())
	v := &visits{i: i, answered: map[string]int{}, since: map[string]int{}}
	v.stop = func() { stop(); v.wg.Wait() }
	i.t.Cleanup(v.stop)
	for _, r := range []struct{ method, path string }{
		{http.MethodGet, "/executions/" + id},
		{http.MethodGet, "/executions"},
		{http.MethodGet, "/executions/" + id + "/logs"},
		{http.MethodPost, "/workflows/brief/executions"},
	} {
		v.wg.Go(func() {
			for v.once(ctx, r.method, r.path) && lifecycle.Sleep(ctx, retry) {
			}
		})
	}
	return v
}

func (v *visits) once(ctx context.Context, method, path string) bool {
	t := v.i.t
	body := io.Reader(http.NoBody)
	if method == http.MethodPost {
		body = strings.NewReader("{}")
	}
	req, err := http.NewRequestWithContext(ctx, method, v.i.url+"/api/v1"+path, body)
	if err != nil {
		t.Error(err)
		return false
	}
	req.Header.Set("Authorization", "Bearer "+v.i.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("%s %s: %v", method, path, err)
		}
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		checkUnavailable(t, method+" "+path, resp, text)
	}
	v.note(method, resp.StatusCode, text)
	return true
}

func (v *visits) note(method string, status int, text []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := fmt.Sprintf("%s %d", method, status)
	v.answered[key]++
	v.since[key]++
	if status == http.StatusAccepted {
		var queued client.ExecutionQueued
		if err := json.NewDecoder(bytes.NewReader(text)).Decode(&queued); err != nil {
			v.i.t.Error(err)
			return
		}
		v.queued = append(v.queued, queued.ID.String())
	}
}

// refuses waits until reads and writes are refused; succeeds waits until they succeed again.
func (v *visits) refuses(t *testing.T)  { t.Helper(); v.see(t, "GET 503", "POST 503") }
func (v *visits) succeeds(t *testing.T) { t.Helper(); v.see(t, "GET 200", "POST 202") }

func (v *visits) see(t *testing.T, want ...string) {
	t.Helper()
	v.mu.Lock()
	clear(v.since)
	v.mu.Unlock()
	eventually(t, func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, key := range want {
			if v.since[key] == 0 {
				return fmt.Errorf("no %s among %v", key, v.since)
			}
		}
		return nil
	})
}

// check checks that nothing was lost: whatever was accepted comes to its end.
func (v *visits) check(t *testing.T, i *installation) {
	t.Helper()
	v.stop()
	t.Logf("answers: %v", v.answered)
	for _, id := range v.queued {
		if e := i.ended(id); e.Status != client.ExecutionStatusCompleted {
			t.Errorf("execution %s, which was accepted, is %s: %+v", id, e.Status, e.Error)
		}
	}
}
