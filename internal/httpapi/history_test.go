package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
)

func TestListNodes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	id := b.started(t, "hello")
	if n := get[openapi.NodeRuns](t, b, executionPath(id, "/nodes")); len(n.Data) != 0 {
		t.Errorf("nodes before any started: %+v", n.Data)
	}
	b.nodeRun(t, id, "greet", 0, 1)
	second := b.nodeRun(t, id, "greet", 0, 2)
	b.exec(t, `UPDATE node_runs SET status = 'failed', exit_code = 3, finished_at = now(), error = '{"code": "exit_code", "message": "Exit status 3."}'
		WHERE execution_id = $1 AND attempt = 1`, id)
	b.exec(t, `UPDATE node_runs SET status = 'completed', exit_code = 0, finished_at = now(), outputs = '{"n": "1"}', summary = '# Done' WHERE id = $1`, second.id)
	runs := get[openapi.NodeRuns](t, b, executionPath(id, "/nodes")).Data
	if len(runs) != 2 {
		t.Fatalf("%d node runs, want 2", len(runs))
	}
	first := runs[0]
	if first.Key != "greet" || first.Index != 0 || first.Attempt != 1 || first.Status != "failed" || first.ExitCode == nil || *first.ExitCode != 3 ||
		first.Error == nil || first.Error.Code != "exit_code" || string(first.Outputs) != "null" {
		t.Errorf("the first attempt is %+v", first)
	}
	if last := runs[1]; last.ID != second.id || last.Attempt != 2 || string(last.Outputs) != `{"n":"1"}` && string(last.Outputs) != `{"n": "1"}` ||
		last.Summary != "# Done" || last.Error != nil {
		t.Errorf("the second attempt is %+v", last)
	}
}

// history makes an execution with events and odd log chunks.
func history(t *testing.T, b *testBundle) uuid.UUID {
	t.Helper()
	b.workflow(t, "hello")
	id := b.started(t, "hello")
	b.event(t, id, nil, event.ExecutionClaimed, map[string]any{"claim": 1})
	greet := b.nodeRun(t, id, "greet", 0, 1)
	b.event(t, id, greet, event.NodeStarted, map[string]any{"a": "<&>"})
	greet.log(t, event.Stdout, "plain <b>text</b>\r\n")
	greet.log(t, event.Stderr, "\xff\xfe\x00binary")
	greet.log(t, event.Stdout, "NUL \x00 is text\n")
	after := b.nodeRun(t, id, "after", 0, 1)
	b.event(t, id, after, event.NodeStarted, map[string]any{})
	after.log(t, event.Stdout, "after")
	return id
}

func TestListEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := history(t, b)
	page := get[openapi.EventPage](t, b, executionPath(id, "/events"))
	var kinds []string
	for i, e := range page.Data {
		kinds = append(kinds, e.Type)
		if e.Seq != int64(i+1) {
			t.Errorf("event %d has sequence %d", i, e.Seq)
		}
		if e.Time.IsZero() || len(e.Data) == 0 {
			t.Errorf("event %+v", e)
		}
	}
	if got := strings.Join(kinds, " "); got != "execution.queued execution.claimed node.started log log log node.started log" {
		t.Errorf("events %s", got)
	}
	if page.NextCursor != nil {
		t.Errorf("the last page has cursor %d", *page.NextCursor)
	}
	if e := page.Data[0]; e.Node != nil || e.Index != nil || e.Attempt != nil {
		t.Errorf("an event of the execution names a node: %+v", e)
	}
	if e := page.Data[2]; e.Node == nil || *e.Node != "greet" || e.Index == nil || *e.Index != 0 || *e.Attempt != 1 {
		t.Errorf("an event of a node is %+v", e)
	}

	t.Run("log chunks keep every byte", func(t *testing.T) {
		t.Parallel()
		wantChunk(t, page.Data[3], openapi.LogChunk{Stream: "stdout", Offset: 0, Text: "plain <b>text</b>\r\n"})
		wantChunk(t, page.Data[4], openapi.LogChunk{Stream: "stderr", Offset: 0, Base64: []byte("\xff\xfe\x00binary")})
		wantChunk(t, page.Data[5], openapi.LogChunk{Stream: "stdout", Offset: 19, Text: "NUL \x00 is text\n"})
		raw := b.call(t, http.MethodGet, executionPath(id, "/events"), nil).body
		if !bytes.Contains(raw, []byte("<b>")) || !bytes.Contains(raw, []byte(base64.StdEncoding.EncodeToString([]byte("\xff\xfe\x00binary")))) {
			t.Errorf("the page is %s", raw)
		}
	})
	t.Run("pages follow one another", func(t *testing.T) {
		t.Parallel()
		for limit := 1; limit <= 9; limit++ {
			var seen []int64
			for after := int64(0); ; {
				p := get[openapi.EventPage](t, b, executionPath(id, fmt.Sprintf("/events?limit=%d&after=%d", limit, after)))
				for _, e := range p.Data {
					seen = append(seen, e.Seq)
				}
				if p.NextCursor == nil {
					break
				}
				after = *p.NextCursor
			}
			if fmt.Sprint(seen) != "[1 2 3 4 5 6 7 8]" {
				t.Errorf("with pages of %d: %v", limit, seen)
			}
		}
		if p := get[openapi.EventPage](t, b, executionPath(id, "/events?after=100")); len(p.Data) != 0 || p.NextCursor != nil {
			t.Errorf("after the end: %+v", p)
		}
	})
	t.Run("logs are chosen", func(t *testing.T) {
		t.Parallel()
		for choice, want := range map[string]string{
			"all": "[1 2 3 4 5 6 7 8]", "none": "[1 2 3 7]", "greet": "[1 2 3 4 5 6 7]", "after": "[1 2 3 7 8]",
			"after:0": "[1 2 3 7 8]", "after:1": "[1 2 3 7]", "after:0:1": "[1 2 3 7 8]", "after:0:2": "[1 2 3 7]", "nobody": "[1 2 3 7]",
		} {
			var seen []int64
			for _, e := range get[openapi.EventPage](t, b, executionPath(id, "/events?logs="+choice)).Data {
				seen = append(seen, e.Seq)
			}
			if fmt.Sprint(seen) != want {
				t.Errorf("logs=%s gave %v, want %s", choice, seen, want)
			}
		}
	})
}

func wantChunk(t *testing.T, e openapi.Event, want openapi.LogChunk) {
	t.Helper()
	var got openapi.LogChunk
	if err := json.Unmarshal(e.Data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Stream != want.Stream || got.Offset != want.Offset || got.Text != want.Text || !bytes.Equal(got.Base64, want.Base64) {
		t.Errorf("chunk %s, want %+v", e.Data, want)
	}
}

func TestLargeEventPagesEndEarly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	id := b.started(t, "hello")
	r := b.nodeRun(t, id, "greet", 0, 1)
	chunk := strings.Repeat("x", event.MaxChunk)
	const chunks = 150 // 9.4 MiB
	for range chunks {
		r.log(t, event.Stdout, chunk)
	}
	seen, pages := 0, 0
	for after := int64(0); ; pages++ {
		a := b.call(t, http.MethodGet, executionPath(id, fmt.Sprintf("/events?after=%d", after)), nil)
		if len(a.body) > 9<<20 {
			t.Fatalf("a page of %d bytes", len(a.body))
		}
		p := decode[openapi.EventPage](t, a, http.StatusOK)
		seen += len(p.Data)
		if p.NextCursor == nil {
			break
		}
		after = *p.NextCursor
	}
	if seen != chunks+1 || pages == 0 {
		t.Errorf("%d events in %d pages", seen, pages+1)
	}
}

func TestLogsAreExact(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := history(t, b)
	second := b.nodeRun(t, id, "greet", 0, 2)
	second.log(t, event.Stdout, "again\n")
	b.nodeRun(t, id, "quiet", 0, 1)
	other := b.nodeRun(t, id, "fan", 1, 1)
	other.log(t, event.Stderr, "one")
	const first = "plain <b>text</b>\r\n\xff\xfe\x00binaryNUL \x00 is text\n"
	for query, want := range map[string]string{
		"?node=greet":                           "again\n",
		"?node=greet&attempt=1":                 first,
		"?node=greet&attempt=1&stream=stdout":   "plain <b>text</b>\r\nNUL \x00 is text\n",
		"?node=greet&attempt=1&stream=stderr":   "\xff\xfe\x00binary",
		"?node=greet&attempt=2&stream=stderr":   "",
		"?node=quiet":                           "",
		"?node=fan&index=1":                     "one",
		"?node=after&index=0&attempt=1":         "after",
		"?follow=false&node=after":              "after",
		"":                                      "==> greet <==\n" + first + "\n==> after <==\nafter\n==> greet (attempt 2) <==\nagain\n\n==> quiet <==\n\n==> fan[1] <==\none",
		"?stream=stderr":                        "==> greet <==\n\xff\xfe\x00binary\n==> after <==\n\n==> greet (attempt 2) <==\n\n==> quiet <==\n\n==> fan[1] <==\none",
		"?node=greet&attempt=1&stream=stdout&x": "",
	} {
		a := b.call(t, http.MethodGet, executionPath(id, "/logs"+query), nil)
		if strings.HasSuffix(query, "&x") {
			wantProblem(t, a, http.StatusBadRequest, "invalid")
			continue
		}
		if a.status != http.StatusOK || string(a.body) != want {
			t.Errorf("%s gave %d %q, want %q", query, a.status, a.body, want)
		}
		if a.header.Get("Content-Type") != "text/plain; charset=utf-8" || a.header.Get("Accept-Ranges") != "bytes" ||
			a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Content-Length") != fmt.Sprint(len(want)) {
			t.Errorf("%s has headers %v", query, a.header)
		}
	}
	for _, query := range []string{"?node=nobody", "?node=greet&attempt=3", "?node=greet&index=1", "?node=fan"} {
		wantProblem(t, b.call(t, http.MethodGet, executionPath(id, "/logs"+query), nil), http.StatusNotFound, "not_found")
	}
	if a := b.call(t, http.MethodGet, executionPath(b.queued(t, "hello"), "/logs"), nil); a.status != http.StatusOK || len(a.body) != 0 {
		t.Errorf("an execution without nodes gave %d %q", a.status, a.body)
	}
}

func TestLogRanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	id := b.started(t, "hello")
	for _, key := range []string{"greet", "after"} {
		r := b.nodeRun(t, id, key, 0, 1)
		for i := range 70 { // more than one read of the store
			r.log(t, []event.Stream{event.Stdout, event.Stderr}[i%3%2], fmt.Sprintf("%s line %d\n", key, i))
		}
	}
	for _, query := range []string{"?node=greet", "?node=greet&stream=stderr", ""} {
		path := executionPath(id, "/logs"+query)
		whole := string(b.call(t, http.MethodGet, path, nil).body)
		size := len(whole)
		type part struct{ from, to int } // to is exclusive
		ranges := map[string]part{
			"bytes=0-0": {0, 1}, "bytes=0-": {0, size}, "bytes=5-9": {5, 10}, "bytes=-1": {size - 1, size}, "bytes=-99999999": {0, size},
			fmt.Sprintf("bytes=%d-", size-1): {size - 1, size}, fmt.Sprintf("bytes=10-%d", size+100): {10, size}, "BYTES=3-4": {3, 5},
		}
		for from := 0; from < size; from += 97 {
			ranges[fmt.Sprintf("bytes=%d-%d", from, min(from+400, size)-1)] = part{from, min(from+400, size)}
		}
		for header, want := range ranges {
			a := b.call(t, http.MethodGet, path, nil, "Range", header)
			if a.status != http.StatusPartialContent || string(a.body) != whole[want.from:want.to] {
				t.Errorf("%s %s: %d %q, want %q", query, header, a.status, a.body, whole[want.from:want.to])
			}
			if got, want := a.header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", want.from, want.to-1, size); got != want {
				t.Errorf("%s %s: Content-Range %q, want %q", query, header, got, want)
			}
		}
		for _, header := range []string{"lines=1-2", "bytes=2-1", "bytes=a-b", "bytes=1-2,4-5", "bytes", "bytes=-", "bytes=+1-2", "bytes=--5", "bytes=99999999999999999999-"} {
			if a := b.call(t, http.MethodGet, path, nil, "Range", header); a.status != http.StatusOK || string(a.body) != whole {
				t.Errorf("%s %s: %d with %d bytes, want the whole text", query, header, a.status, len(a.body))
			}
		}
		for _, header := range []string{fmt.Sprintf("bytes=%d-", size), "bytes=999999999-", "bytes=-0"} {
			a := b.call(t, http.MethodGet, path, nil, "Range", header)
			wantProblem(t, a, http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable")
			if got, want := a.header.Get("Content-Range"), fmt.Sprintf("bytes */%d", size); got != want {
				t.Errorf("%s: Content-Range %q, want %q", header, got, want)
			}
		}
	}
}

func TestLogTextKeepsItsSizeWhileItGrows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	id := b.started(t, "hello")
	r := b.nodeRun(t, id, "greet", 0, 1)
	r.log(t, event.Stdout, "known\n")
	// A chunk that is stored after the sizes were read.
	b.exec(t, `INSERT INTO execution_logs (day, execution_id, seq, node_run_id, stream, byte_offset, data) VALUES ($1, $2, $3, $4, 'stdout', 6, 'newer')`,
		execution.Day(id), id, b.nextSeq(t, id), r.id)
	if a := b.call(t, http.MethodGet, executionPath(id, "/logs?node=greet"), nil); string(a.body) != "known\n" {
		t.Errorf("the text is %q", a.body)
	}
}

func TestBrokenLogTextBreaksTheConnection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	id := b.started(t, "hello")
	r := b.nodeRun(t, id, "greet", 0, 1)
	r.log(t, event.Stdout, "some\n")
	b.exec(t, "UPDATE node_runs SET stdout_bytes = 500000 WHERE id = $1", r.id) // promises more than there is
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+executionPath(id, "/logs?node=greet"), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+b.token)
	response, err := b.client.Do(request)
	if err != nil {
		return // cut before the headers were flushed: as good
	}
	defer response.Body.Close()
	if n, err := new(bytes.Buffer).ReadFrom(response.Body); err == nil {
		t.Errorf("%d bytes look like the whole text", n)
	}
}
