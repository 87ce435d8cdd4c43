package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"foundry/internal/auth"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/stream"
)

// streamWait is how long a test waits for what must come.
const streamWait = 2 * time.Minute

// frame is one server-sent event.
type frame struct{ id, event, data string }

// sseReader reads a stream as a browser does.
type sseReader struct {
	response *http.Response
	lines    *bufio.Reader
	retry    string
	comments int
}

// stream opens a stream. Only its header has been read when it returns.
func (b *testBundle) stream(t testing.TB, path string, headers ...string) *sseReader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	if _, ok := t.(*testing.B); !ok {
		ctx, cancel = context.WithTimeout(t.Context(), streamWait)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+b.token)
	request.Header.Set("Accept", "text/event-stream")
	request.Header.Set("Accept-Encoding", "gzip")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := b.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		response.Body.Close()
	})
	return &sseReader{response: response, lines: bufio.NewReader(response.Body)}
}

// next returns the next event; io.EOF after the last.
func (r *sseReader) next() (f frame, err error) {
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return frame{}, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			f.id = value
		case "event":
			f.event = value
		case "data":
			f.data += value
		case "retry":
			r.retry = value
		case "":
			if value != "" {
				r.comments++
			} else if f.data != "" {
				return f, nil
			}
		default:
			return frame{}, fmt.Errorf("a line %q", line)
		}
	}
}

// until reads to the first event with the name, which is included.
func (r *sseReader) until(t *testing.T, name string) (frames []frame) {
	t.Helper()
	for {
		f, err := r.next()
		if err != nil {
			t.Fatalf("waiting for %q after %d frames: %v", name, len(frames), err)
		}
		frames = append(frames, f)
		if f.event == name {
			return frames
		}
	}
}

func ids(frames []frame) (list []string) {
	for _, f := range frames {
		list = append(list, f.id)
	}
	return list
}

// fact is an event or, with a chunk, output, as a worker would record it.
type fact struct {
	kind  event.Type
	run   *run
	chunk string
}

// record commits facts in one transaction under the execution's lock, and tells the hub unless it is nil.
func (b *testBundle) record(t testing.TB, hub *stream.Hub, id uuid.UUID, facts ...fact) (last int64) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(t.Context(), "SELECT last_seq FROM executions WHERE id = $1 FOR NO KEY UPDATE", id).Scan(&last); err != nil {
			return err
		}
		var batch pgx.Batch
		for _, f := range facts {
			last++
			var runID *uuid.UUID
			if f.run != nil {
				runID = &f.run.id
			}
			if f.kind == event.Log {
				batch.Queue("INSERT INTO execution_logs (day, execution_id, seq, node_run_id, stream, byte_offset, data) VALUES ($1, $2, $3, $4, 'stdout', 0, $5)",
					execution.Day(id), id, last, runID, []byte(f.chunk))
				continue
			}
			batch.Queue("INSERT INTO execution_events (day, execution_id, seq, type, node_run_id) VALUES ($1, $2, $3, $4, $5)",
				execution.Day(id), id, last, string(f.kind), runID)
			if f.kind.EndsExecution() {
				batch.Queue("UPDATE executions SET status = 'completed', worker_id = NULL, finished_at = now() WHERE id = $1", id)
			}
		}
		batch.Queue("UPDATE executions SET last_seq = $2 WHERE id = $1", id, last)
		return tx.SendBatch(t.Context(), &batch).Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	if hub != nil {
		hub.Nudge(id)
	}
	return last
}

func warnings(n int) []fact {
	facts := make([]fact, n)
	for i := range facts {
		facts[i].kind = event.Warning
	}
	return facts
}

// another starts a second server on the same database, as a second replica or a restarted one would be. It does not watch the
// credentials of what is open.
func (b *testBundle) another(t *testing.T, edit ...func(*Config)) *testBundle {
	t.Helper()
	registry := prometheus.NewRegistry()
	hub, err := stream.New(stream.Config{
		Events: event.NewStore(b.pool), Executions: execution.NewStore(b.pool), Log: zerolog.Nop(), Registry: registry,
		CheckEvery: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	config := Config{
		Pool: b.pool, Queue: queue.NewStore(b.pool, postgres.NewNotifier(b.pool, zerolog.Nop())), Hub: hub, Log: zerolog.Nop(),
		Registry: registry, ProbeTimeout: time.Minute,
	}
	for _, f := range edit {
		f(&config)
	}
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	listening := httptest.NewServer(server.Handler())
	t.Cleanup(func() {
		cancel()
		running.Wait()
		b.client.CloseIdleConnections()
		listening.Close()
	})
	second := *b
	second.server, second.url = server, listening.URL
	return &second
}

func TestStreamExecution(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "demo")

	t.Run("replays, goes on live and ends", func(t *testing.T) {
		t.Parallel()
		id := b.started(t, "demo")
		b.record(t, nil, id, warnings(2)...)
		s := b.stream(t, executionPath(id, "/events"))
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no", "Content-Encoding": "",
		} {
			if got := s.response.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		for want := range 3 {
			if f, err := s.next(); err != nil || f.id != strconv.Itoa(want+1) {
				t.Fatalf("event %d: %+v, %v", want+1, f, err)
			}
		}
		if s.retry != "2000" || s.comments != 1 {
			t.Errorf("retry %q and %d comments before the first event", s.retry, s.comments)
		}
		b.record(t, b.server.hub, id, fact{kind: event.ExecutionCompleted})
		frames := s.until(t, "end")
		if diff := cmp.Diff([]string{"4", ""}, ids(frames)); diff != "" {
			t.Error(diff)
		}
		if _, err := s.next(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
		again := b.stream(t, executionPath(id, "/events"), "Last-Event-ID", "4")
		if again.response.StatusCode != http.StatusNoContent {
			t.Errorf("reconnecting after the end answers %d", again.response.StatusCode)
		}
	})

	t.Run("carries the objects of the pages", func(t *testing.T) {
		t.Parallel()
		id := b.started(t, "demo")
		r := b.nodeRun(t, id, "greet", 0, 1)
		odd := []string{"a\x00b\r\n\x1b[1m", "\xff\xfe", "\xe2\x82", "<&> \u2028", "id: 7\n\ndata: x\n\n"}
		facts := []fact{{kind: event.NodeStarted, run: r}}
		for _, chunk := range odd {
			facts = append(facts, fact{kind: event.Log, run: r, chunk: chunk})
		}
		b.record(t, nil, id, append(facts, fact{kind: event.ExecutionCompleted})...)
		frames := b.stream(t, executionPath(id, "/events")).until(t, "end")
		page := get[openapi.EventPage](t, b, executionPath(id, "/events"))
		if len(page.Data) != len(frames)-1 {
			t.Fatalf("%d events in the page, %d in the stream", len(page.Data), len(frames)-1)
		}
		for i, want := range page.Data {
			var got openapi.Event
			if err := json.Unmarshal([]byte(frames[i].data), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" || frames[i].event != got.Type || frames[i].id != strconv.FormatInt(got.Seq, 10) {
				t.Errorf("frame %+v: %s", frames[i], diff)
			}
		}
		for i, chunk := range odd {
			var e struct {
				Data struct {
					Text   *string
					Base64 []byte
				}
			}
			if err := json.Unmarshal([]byte(frames[2+i].data), &e); err != nil {
				t.Fatal(err)
			}
			got := string(e.Data.Base64)
			if e.Data.Text != nil {
				got = *e.Data.Text
			}
			if got != chunk {
				t.Errorf("%q became %q", chunk, got)
			}
		}
	})

	t.Run("resumes and filters", func(t *testing.T) {
		t.Parallel()
		id := b.started(t, "demo")
		greet, after := b.nodeRun(t, id, "greet", 0, 1), b.nodeRun(t, id, "after", 1, 1)
		b.record(t, nil, id, fact{kind: event.Log, run: greet, chunk: "g"}, fact{kind: event.Warning}, fact{kind: event.Log, run: after, chunk: "a"},
			fact{kind: event.ExecutionCompleted}) // 2 to 5
		for _, test := range []struct {
			query, lastEventID string
			want               []string
		}{
			{"", "", []string{"1", "2", "3", "4", "5"}},
			{"?after=2", "", []string{"3", "4", "5"}},
			{"?after=2", "4", []string{"5"}},
			{"?logs=all", "", []string{"1", "2", "3", "4", "5"}},
			{"?logs=none", "", []string{"1", "3", "5"}},
			{"?logs=greet", "", []string{"1", "2", "3", "5"}},
			{"?logs=after:1", "", []string{"1", "3", "4", "5"}},
			{"?logs=after:1:2", "", []string{"1", "3", "5"}},
			{"?logs=nobody", "3", []string{"5"}},
		} {
			var headers []string
			if test.lastEventID != "" {
				headers = []string{"Last-Event-ID", test.lastEventID}
			}
			got := ids(b.stream(t, executionPath(id, "/events"+test.query), headers...).until(t, "end"))
			if diff := cmp.Diff(append(test.want, ""), got); diff != "" {
				t.Errorf("%q %q: %s", test.query, test.lastEventID, diff)
			}
		}
	})

	t.Run("refuses what is wrong", func(t *testing.T) {
		t.Parallel()
		id := b.started(t, "demo")
		accept := []string{"Accept", "text/event-stream"}
		for _, bad := range []string{"x", "-1", "1.5"} {
			wantProblem(t, b.call(t, http.MethodGet, executionPath(id, "/events"), nil, append(accept, "Last-Event-ID", bad)...), http.StatusBadRequest, "invalid")
		}
		wantProblem(t, b.call(t, http.MethodGet, executionPath(id, "/events?logs=a:b"), nil, accept...), http.StatusBadRequest, "invalid")
		wantProblem(t, b.call(t, http.MethodGet, executionPath(uuid.New(), "/events"), nil, accept...), http.StatusNotFound, "not_found")
		_, foreign := b.organization(t, "rival")
		wantProblem(t, b.call(t, http.MethodGet, executionPath(id, "/events"), nil, append(accept, "Authorization", "Bearer "+foreign)...),
			http.StatusNotFound, "not_found")
	})
}

func TestStreamResumesElsewhere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "demo")
	id := b.started(t, "demo")
	second := b.another(t)
	first := b.stream(t, executionPath(id, "/events"))
	last := b.record(t, b.server.hub, id, warnings(100)...)
	var frames []frame
	for range 60 { // then the reader is cut off in the middle
		f, err := first.next()
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, f)
	}
	resumed := second.stream(t, executionPath(id, "/events"), "Last-Event-ID", frames[len(frames)-1].id)
	b.stop() // the first server goes for good; whoever read from it gets an orderly end
	for {
		if _, err := first.next(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the stream of a server that stops: %v", err)
			}
			break
		}
	}
	b.record(t, nil, id, append(warnings(5), fact{kind: event.ExecutionCompleted})...) // nobody tells the second server
	frames = append(frames, resumed.until(t, "end")...)
	var want []string
	for seq := range last + 6 {
		want = append(want, strconv.FormatInt(seq+1, 10))
	}
	if diff := cmp.Diff(append(want, ""), ids(frames)); diff != "" {
		t.Error(diff)
	}
}

// A reader that takes nothing is told that it has lagged or, if its connection was full for 10 s, cut. Either way
// it resumes by its last id, and nobody else has waited for it.
func TestStreamOfASlowReader(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "demo")
	id := b.started(t, "demo")
	r := b.nodeRun(t, id, "greet", 0, 1)
	slow, fast := b.stream(t, executionPath(id, "/events")), b.stream(t, executionPath(id, "/events"))
	first, err := slow.next() // so that it is live: one that replays does not lag, however late it is
	if err != nil {
		t.Fatal(err)
	}
	chunk := strings.Repeat("x", event.MaxChunk)
	const rounds, perRound = 20, 10 // 12.5 MiB: more than sockets and the ring hold
	for range rounds {
		facts := make([]fact, perRound)
		for i := range facts {
			facts[i] = fact{event.Log, r, chunk}
		}
		last := strconv.FormatInt(b.record(t, b.server.hub, id, facts...), 10)
		for f := (frame{}); f.id != last; {
			var err error
			if f, err = fast.next(); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.record(t, b.server.hub, id, fact{kind: event.ExecutionCompleted})
	fast.until(t, "end")

	seen := []string{first.id}
	for {
		f, err := slow.next()
		if f.event == "lagged" || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil || f.event == "end" {
			t.Fatalf("the slow reader got %q, %v", f.event, err)
		}
		seen = append(seen, f.id)
	}
	seen = append(seen, ids(b.stream(t, executionPath(id, "/events"), "Last-Event-ID", seen[len(seen)-1]).until(t, "end"))...)
	var want []string
	for seq := range rounds*perRound + 2 {
		want = append(want, strconv.Itoa(seq+1))
	}
	if diff := cmp.Diff(append(want, ""), seen); diff != "" {
		t.Error(diff)
	}
}

// deadlineRecorder is a recorder with the deadline of a connection.
type deadlineRecorder struct{ *httptest.ResponseRecorder }

func (deadlineRecorder) SetWriteDeadline(time.Time) error { return nil }

func TestStreamSaysThatItLags(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "demo")
	id := b.started(t, "demo")
	hub := b.server.hub
	slow, err := hub.Watch(t.Context(), id, 1, stream.Logs{})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	recorder := deadlineRecorder{httptest.NewRecorder()}
	out, err := startSSE(recorder)
	if err != nil {
		t.Fatal(err)
	}
	recorder.Body.Reset()
	if _, err := b.server.relay(t.Context(), slow, out); err != nil {
		t.Fatal(err)
	}
	fast := b.stream(t, executionPath(id, "/events"))
	for range 5 {
		last := strconv.FormatInt(b.record(t, hub, id, warnings(300)...), 10)
		for f := (frame{}); f.id != last; {
			if f, err = fast.next(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := b.server.relay(t.Context(), slow, out); !errors.Is(err, io.EOF) {
		t.Errorf("relay() = %v, want io.EOF", err)
	}
	if got := recorder.Body.String(); got != "event: lagged\ndata: {}\n\n" {
		t.Errorf("it was told %q", got)
	}
}

func TestStreamsPerPrincipal(t *testing.T) {
	t.Parallel()
	b := setup(t).another(t)
	b.workflow(t, "demo")
	id := b.started(t, "demo")
	streams := make([]*sseReader, 100)
	for i := range streams {
		streams[i] = b.stream(t, executionPath(id, "/events"))
		if _, err := streams[i].next(); err != nil {
			t.Fatal(err)
		}
	}
	p := wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/events", nil, "Accept", "text/event-stream"), http.StatusTooManyRequests, "too_many")
	if !strings.Contains(p.Detail, "100 streams") {
		t.Errorf("the limit is not named: %q", p.Detail)
	}
	other, err := auth.NewStore(b.pool).Create(t.Context(), b.orgID, "other", 0)
	if err != nil {
		t.Fatal(err)
	}
	someoneElse := *b
	someoneElse.token = other.Reveal()
	someoneElse.stream(t, executionPath(id, "/events")).until(t, "execution.queued")
	if metrics := string(b.call(t, http.MethodGet, "/metrics", nil).body); !strings.Contains(metrics, `foundry_streams_open{kind="execution"} 101`) {
		t.Error("the metrics do not show 101 open streams")
	}
	b.record(t, b.server.hub, id, fact{kind: event.ExecutionCompleted})
	for _, s := range streams {
		s.until(t, "end")
	}
	if metrics := string(b.call(t, http.MethodGet, "/metrics", nil).body); strings.Contains(metrics, "foundry_stream_delay_seconds_count 0") {
		t.Error("the metrics show no delay from commit to stream")
	}
}

func TestStreamSummaries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "demo")
	_, foreignToken := b.organization(t, "rival")
	foreign := *b
	foreign.token = foreignToken
	ours, theirs := b.stream(t, apiPrefix+"/events"), foreign.stream(t, apiPrefix+"/events")
	for _, s := range []*sseReader{ours, theirs} {
		if f, err := s.next(); err != nil || f != (frame{event: "ready", data: "{}"}) {
			t.Fatalf("first %+v, %v", f, err)
		}
	}
	id := b.queued(t, "demo")
	b.server.hub.Nudge(id)
	f, err := ours.next()
	if err != nil {
		t.Fatal(err)
	}
	var summary openapi.SummaryFrame
	decoder := json.NewDecoder(strings.NewReader(f.data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&summary); err != nil {
		t.Fatal(err)
	}
	if f.event != "execution.summary" || f.id != "" || summary.ID != id || summary.Version != 1 || summary.Execution.Status != "queued" {
		t.Errorf("frame %+v", f)
	}
	last := b.record(t, b.server.hub, id, append(warnings(3), fact{kind: event.ExecutionCompleted})...)
	if f, err = ours.next(); err != nil || !strings.Contains(f.data, fmt.Sprintf(`"version":%d,`, last)) {
		t.Errorf("the newest is %+v, %v; want version %d", f, err, last)
	}
	b.server.hub.OnReset()
	if f, err := ours.next(); err != nil || f != (frame{event: "reset", data: "{}"}) {
		t.Errorf("then %+v, %v", f, err)
	}
	if f, err := theirs.next(); err != nil || f.event != "reset" {
		t.Errorf("another organization got %+v, %v", f, err)
	}
	b.stop()
	if _, err := ours.next(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream of a server that stops: %v", err)
	}
}
