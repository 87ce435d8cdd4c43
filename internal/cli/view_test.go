package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/api/client"
)

// history builds events, each half a second after the one before.
type history struct{ events []client.Event }

func (h *history) add(kind, node string, attempt int, data any) *history {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err) // test data
	}
	event := client.Event{
		Seq: int64(len(h.events) + 1), Type: kind, Data: raw,
		Time: time.Date(2026, 11, 21, 12, 0, 0, len(h.events)*int(500*time.Millisecond), time.UTC),
	}
	if node != "" {
		event.Node, event.Index, event.Attempt = &node, new(int), &attempt
	}
	h.events = append(h.events, event)
	return h
}

func (h *history) log(stream client.LogStream, text string) *history {
	return h.add("log", "fetch", 1, client.LogChunk{Stream: stream, Text: text})
}

type none struct{}

func failure(message string) map[string]any {
	return map[string]any{"error": client.Failure{Code: "exit_code", Message: message}}
}

func TestViewOfPlainLines(t *testing.T) {
	t.Parallel()
	h := new(history).
		add("execution.queued", "", 0, none{}).
		add("execution.claimed", "", 0, none{}).
		add("execution.started", "", 0, none{}).
		add("sandbox.creating", "", 0, none{}).
		add("sandbox.waiting", "", 0, map[string]any{"reason": "no room"}).
		add("sandbox.ready", "", 0, map[string]any{"isolation": "bwrap"}).
		add("node.started", "fetch", 1, none{}).
		log("stdout", "one\ntw").
		log("stderr", "warn\n").
		log("stdout", "o\nrest").
		add("node.completed", "fetch", 1, none{}).
		add("node.started", "flaky", 1, none{}).
		add("node.failed", "flaky", 1, failure("It exited with code 75.")).
		add("node.retrying", "flaky", 1, map[string]any{"delay_ms": 1500}).
		add("node.started", "flaky", 2, none{}).
		add("node.timed_out", "flaky", 2, none{}).
		add("node.skipped", "after", 1, map[string]any{"reason": "flaky did not complete"}).
		add("execution.cancel_requested", "", 0, none{}).
		add("warning", "", 0, map[string]any{"message": "Something is odd."}).
		add("execution.failed", "", 0, none{})
	want := []string{
		"sandbox: waiting: no room",
		"sandbox: ready: bwrap",
		"fetch: started",
		"fetch | one",
		"fetch | warn",
		"fetch | two",
		"fetch | rest",
		"fetch: completed in 2.0 s",
		"flaky: started",
		"flaky: failed in 0.5 s: It exited with code 75.",
		"flaky: tried again in 1.5 s",
		"flaky: started, attempt 2",
		"flaky: timed out in 0.5 s",
		"after: skipped: flaky did not complete",
		"execution: cancel requested",
		"warning: Something is odd.",
	}
	var out bytes.Buffer
	v := newView(newTerminal(&out, false), uuid.Nil)
	for _, event := range h.events {
		if err := v.add(event); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if len(v.partial) != 0 || len(v.running) != 0 {
		t.Errorf("the view still holds %d buffers and %d running nodes", len(v.partial), len(v.running))
	}
}

func TestViewKeepsOddBytesWhereNoTerminalIs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	v := newView(newTerminal(&out, false), uuid.Nil)
	h := new(history).add("log", "fetch", 1, client.LogChunk{Stream: "stdout", Base64: []byte("a\x00\xff\r\x1b[2Jb\n")})
	if err := v.add(h.events[0]); err != nil {
		t.Fatal(err)
	}
	if want := "fetch | a\x00\xff\r\x1b[2Jb\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestViewOnATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	term := &terminal{out: &out, size: func() (int, int) { return 40, 10 }}
	v := newView(term, uuid.Nil)
	h := new(history).
		add("node.started", "fetch", 1, none{}).
		log("stdout", "a\x1b[2Jb\n").
		add("node.completed", "fetch", 1, none{})
	for _, event := range h.events {
		if err := v.add(event); err != nil {
			t.Fatal(err)
		}
	}
	v.close()
	const running, erase = "  fetch  running  0.0 s\n", "\x1b[1A\x1b[J"
	want := "fetch: started\n" + running +
		erase + "fetch | a[2Jb\n" + running +
		erase + "fetch: completed in 1.0 s\n" + running +
		erase
	if got := out.String(); got != want {
		t.Errorf("screen:\n%q\nwant:\n%q", got, want)
	}
}

func TestTerminalNeverDrawsMoreThanItCanErase(t *testing.T) {
	t.Parallel()
	term := &terminal{out: new(bytes.Buffer), size: func() (int, int) { return 10, 6 }}
	term.show([]string{"12345678901234", "b", "c", "d"})
	if diff := cmp.Diff([]string{"123456789", "b", "… and 2 m"}, term.below); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	table(&out, [][]string{{"A", "LONG", "C"}, {"ümläut", "x", ""}})
	if want := "A       LONG  C\nümläut  x\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
