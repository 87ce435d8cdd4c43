package stream

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
)

func TestFrame(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 10, 0, 0, 123456000, time.FixedZone("", 3600))
	logEvent := func(chunk string) event.Event {
		return event.Event{Seq: 7, Time: at, Type: event.Log, Node: "a", Index: 0, Attempt: 2, Stream: event.Stderr, Offset: 3, Chunk: []byte(chunk)}
	}
	const logHead = "id: 7\nevent: log\ndata: " +
		`{"seq":7,"type":"log","time":"2026-11-20T09:00:00.123456Z","node":"a","index":0,"attempt":2,"data":{"stream":"stderr","offset":3,`
	for name, test := range map[string]struct {
		event event.Event
		want  string
	}{
		"of the execution": {
			event.Event{Seq: 1, Time: at, Type: event.ExecutionQueued, Data: json.RawMessage(`{"number": 4}`)},
			"id: 1\nevent: execution.queued\ndata: " + `{"seq":1,"type":"execution.queued","time":"2026-11-20T09:00:00.123456Z","data":{"number":4}}` + "\n\n",
		},
		"text":            {logEvent("<a> & b\n"), logHead + `"text":"<a> & b\n"}}` + "\n\n"},
		"NUL and returns": {logEvent("a\x00\r\nb\x1b[0m"), logHead + `"text":"a\u0000\r\nb\u001b[0m"}}` + "\n\n"},
		"not UTF-8":       {logEvent("a\xff\n"), logHead + `"base64":"Yf8K"}}` + "\n\n"},
		"half a rune":     {logEvent("\xe2\x82"), logHead + `"base64":"4oI="}}` + "\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := (&Entry{Event: test.event}).Frame()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Any bytes arrive, and a frame is always one line of data.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("plain"))
	f.Add([]byte("\n\n\r\rid: 3\n\n\x00\xff"))
	f.Add([]byte("\u2028\u2029\ufffd"))
	f.Fuzz(func(t *testing.T, chunk []byte) {
		e := &Entry{Event: event.Event{Seq: 1, Type: event.Log, Node: "a", Attempt: 1, Stream: event.Stdout, Chunk: chunk}}
		frame, err := e.Frame()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(frame), "\n")
		if len(lines) != 5 || strings.ContainsRune(string(frame), '\r') {
			t.Fatalf("frame %q", frame)
		}
		var object struct {
			Data struct {
				Text   string
				Base64 []byte
			}
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(lines[2], "data: ")), &object); err != nil {
			t.Fatal(err)
		}
		if got := append([]byte(object.Data.Text), object.Data.Base64...); !bytes.Equal(got, chunk) {
			t.Fatalf("%q became %q", chunk, got)
		}
	})
}

func TestParseLogs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Logs{
		"": {}, "all": {}, "none": {None: true}, "build": {Node: "build"}, "all:0": {Node: "all", Index: new(0)},
		"build:2": {Node: "build", Index: new(2)}, "build:2:3": {Node: "build", Index: new(2), Attempt: new(3)},
	} {
		got, err := ParseLogs(in)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("ParseLogs(%q): %v %s", in, err, diff)
		}
	}
	for _, in := range []string{":", ":1", "a:", "a:x", "a:-1", "a:0:", "a:0:0", "a:0:1:1", "a:0:x"} {
		if got, err := ParseLogs(in); !errs.Is(err, errs.Invalid) {
			t.Errorf("ParseLogs(%q) = %+v, %v", in, got, err)
		}
	}
}

func TestLogsFilter(t *testing.T) {
	t.Parallel()
	runs := []execution.NodeRun{
		{ID: uuid.New(), Key: "a", Index: 0, Attempt: 1},
		{ID: uuid.New(), Key: "a", Index: 0, Attempt: 2},
		{ID: uuid.New(), Key: "a", Index: 1, Attempt: 1},
		{ID: uuid.New(), Key: "b", Index: 0, Attempt: 1},
	}
	for name, test := range map[string]struct {
		logs Logs
		want []int // of runs
	}{
		"all":      {Logs{}, []int{0, 1, 2, 3}},
		"none":     {Logs{None: true}, nil},
		"a node":   {Logs{Node: "a"}, []int{0, 1, 2}},
		"an index": {Logs{Node: "a", Index: new(0)}, []int{0, 1}},
		"attempt":  {Logs{Node: "a", Index: new(0), Attempt: new(2)}, []int{1}},
		"unknown":  {Logs{Node: "c"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			filter := test.logs.Filter(runs)
			asked := func(id uuid.UUID) bool {
				for _, x := range filter.NodeRuns {
					if x == id {
						return true
					}
				}
				return !filter.None && len(filter.NodeRuns) == 0
			}
			want := make(map[int]bool)
			for _, i := range test.want {
				want[i] = true
			}
			for i, run := range runs {
				e := event.Event{Type: event.Log, Node: run.Key, Index: run.Index, Attempt: run.Attempt}
				if got := test.logs.wants(&e); got != want[i] {
					t.Errorf("live, run %d passes: %v", i, got)
				}
				if got := asked(run.ID); got != want[i] {
					t.Errorf("replayed, run %d passes: %v", i, got)
				}
				e.Type = event.NodeStarted
				if !test.logs.wants(&e) {
					t.Errorf("an event of run %d is left out", i)
				}
			}
		})
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	h := &Hub{metrics: newMetrics(nil), quota: newQuota(perPrincipal)}
	me, you := uuid.New(), uuid.New()
	var closers []func()
	for range perPrincipal {
		closed, err := h.Open(me, KindExecution)
		if err != nil {
			t.Fatal(err)
		}
		closers = append(closers, closed)
	}
	if _, err := h.Open(me, KindOrganization); !errs.Is(err, errs.TooMany) || !strings.Contains(err.Error(), "100") {
		t.Errorf("one too many: %v", err)
	}
	if _, err := h.Open(you, KindExecution); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	closers[0]()
	closers[0]() // counts once
	if _, err := h.Open(me, KindText); err != nil {
		t.Errorf("after one has closed: %v", err)
	}
	if _, err := h.Open(me, KindText); err == nil {
		t.Error("a close has counted twice")
	}
}
