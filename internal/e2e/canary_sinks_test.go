package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// sinks is everything that an installation has told, by where.
type sinks struct {
	i         *installation
	execution string
	content   map[string][]byte
	planted   string

	watching sync.WaitGroup
	stop     context.CancelFunc
	mu       sync.Mutex
	commands bytes.Buffer
}

func newSinks(i *installation) *sinks {
	return &sinks{i: i, content: map[string][]byte{}, stop: func() {}}
}

func (s *sinks) add(name string, parts ...[]byte) {
	s.content[name] = bytes.Join(append(parts, s.content[name]), []byte{'\n'})
}

// find returns the sinks that hold a text: as it is, or as a JSON document writes it, with the characters of HTML escaped or not.
func (s *sinks) find(text string) []string {
	written := [][]byte{[]byte(text)}
	for _, html := range []bool{true, false} {
		var quoted bytes.Buffer
		encoder := json.NewEncoder(&quoted)
		encoder.SetEscapeHTML(html)
		if err := encoder.Encode(text); err != nil {
			s.i.t.Fatal(err)
		}
		line := bytes.TrimSpace(quoted.Bytes())
		written = append(written, line[1:len(line)-1])
	}
	written = append(written, bytes.ReplaceAll(written[2], []byte(`\u2028`), []byte("\u2028"))) // as PostgreSQL does
	var found []string
	for name, content := range s.content {
		if slices.ContainsFunc(written, func(w []byte) bool { return bytes.Contains(content, w) }) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// refusals asks for what is refused, with secrets in it: the answers must not repeat them.
func (s *sinks) refusals(c canary) {
	s.i.t.Helper()
	for key, value := range c.values {
		for _, body := range []map[string]any{
			{"value": value, c.marker: value},
			{"value": value, "mask": value},
			{"value": []string{value}},
			{"valeu": value},
			{"value": strings.Repeat(value, 70_000/len(value))},
		} {
			status, answer := s.ask(http.MethodPut, s.i.url+"/api/v1/workflows/canary/secrets/"+key, body)
			if status/100 != 4 {
				s.i.t.Errorf("setting %s with what is not a secret: %d", key, status)
			}
			s.add("problems", answer)
		}
	}
}

// plant writes the marker where the processes write what they log, and has it in what they answer to whoever scrapes them.
func (s *sinks) plant(marker string) {
	t := s.i.t
	t.Helper()
	s.planted = marker
	for _, p := range []*proc{s.i.serve, s.i.worker} {
		for descriptor, written := range map[int]*written{1: &p.out, 2: &p.err} {
			file, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", p.cmd.Process.Pid, descriptor), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(file, "planted %s\n", marker); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error {
				if !bytes.Contains(written.Bytes(), []byte(marker)) {
					return fmt.Errorf("what is written to descriptor %d of foundry %s does not arrive", descriptor, p.name)
				}
				return nil
			})
		}
	}
}

// scrape reads metrics through a relay that adds what was planted.
func (s *sinks) scrape(url string) []byte {
	s.i.t.Helper()
	metrics := s.get(url, "")
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "%s# planted %s\n", metrics, s.planted) // the reader notices
	}))
	defer relay.Close()
	return s.get(relay.URL, "")
}

// mustFind proves the search: what was planted in a sink is found there. The marker went through the workflow, the command line and a secret's
// name, and was planted where the processes themselves write.
func (s *sinks) mustFind(marker string) {
	t := s.i.t
	t.Helper()
	for kind, value := range map[string]string{
		"text": "$1", "jsonb": "jsonb_build_object('deep', jsonb_build_array($1::text))", "bytea": "convert_to($1, 'UTF8')",
	} {
		s.exec(fmt.Sprintf("CREATE TABLE planted_%s AS SELECT %s::%s AS planted", kind, value, kind), marker)
	}
	for name, content := range s.dump() {
		s.content[name] = content
	}
	// Beside the marker, something that only the real one has.
	for name, text := range map[string]string{
		"serve stdout": "control plane starts", "worker stdout": "worker starts",
		"serve metrics": "foundry_http_request_duration", "worker metrics": "foundry_worker_held",
	} {
		if !slices.Contains(s.find(text), name) {
			t.Errorf("%q is not found in: %s", text, name)
		}
	}
	for _, name := range []string{
		"serve stdout", "serve stderr", "worker stdout", "worker stderr", "serve metrics", "worker metrics", "problems",
		"GET execution", "GET nodes", "GET events", "event stream", "GET logs", "GET logs of print", "GET lists", "the terminal that follows", "command lines",
		"database planted_text", "database planted_jsonb", "database planted_bytea", "database execution_data", "database node_runs",
		"database secrets", "database audit_log",
	} {
		if !slices.Contains(s.find(marker), name) {
			t.Errorf("what was planted is not found in: %s", name)
		}
	}
}

// exec runs a statement with a text in it. CREATE TABLE AS takes no parameters, so the text is put into the statement.
func (s *sinks) exec(sql, text string) {
	s.i.t.Helper()
	ctx := s.i.t.Context()
	conn, err := pgx.Connect(ctx, s.i.database)
	if err != nil {
		s.i.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol, text); err != nil {
		s.i.t.Fatalf("%s: %v", sql, err)
	}
}

// collect reads all sinks. Without a worker's port, its metrics are left out.
func (s *sinks) collect(execution string, workerPort int) {
	s.i.t.Helper()
	s.execution = execution
	for name, content := range s.dump() {
		s.content[name] = content
	}
	base := s.i.url + "/api/v1/executions/" + execution
	s.add("GET execution", s.get(base, ""))
	s.add("GET nodes", s.get(base+"/nodes", ""))
	s.add("GET events", s.pages(base+"/events?limit=1000"))
	s.add("event stream", s.get(base+"/events", "text/event-stream"))
	s.add("GET logs", s.get(base+"/logs", ""))
	for _, run := range s.i.nodes(execution) {
		if resp := s.get(base+"/logs?node="+run.Key, ""); run.Key == "print" {
			s.add("GET logs of print", resp)
		}
	}
	workflow := s.i.execution(execution).Workflow
	for _, path := range []string{"/executions", "/workflows", "/workflows/" + workflow, "/workflows/" + workflow + "/secrets", "/audit"} {
		s.add("GET lists", s.get(s.i.url+"/api/v1"+path, ""))
	}
	s.add("serve stdout", s.i.serve.out.Bytes())
	s.add("serve stderr", s.i.serve.err.Bytes())
	s.add("worker stdout", s.i.worker.out.Bytes())
	s.add("worker stderr", s.i.worker.err.Bytes())
	s.add("serve metrics", s.scrape(s.i.url+"/metrics"))
	if workerPort != 0 {
		s.add("worker metrics", s.scrape(fmt.Sprintf("http://127.0.0.1:%d/metrics", workerPort)))
	}
}

func (s *sinks) get(url, accept string) []byte {
	s.i.t.Helper()
	status, text := s.send(http.MethodGet, url, http.NoBody, "Accept", accept)
	if status != http.StatusOK {
		s.i.t.Errorf("GET %s: %d %s", url, status, tail(string(text)))
	}
	return text
}

// ask sends a JSON body.
func (s *sinks) ask(method, url string, body any) (status int, answer []byte) {
	s.i.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.i.t.Fatal(err)
	}
	return s.send(method, url, bytes.NewReader(text), "Content-Type", "application/json")
}

// send sends a request with one header beside the token.
func (s *sinks) send(method, url string, body io.Reader, header, value string) (status int, answer []byte) {
	s.i.t.Helper()
	req, err := http.NewRequestWithContext(s.i.t.Context(), method, url, body)
	if err != nil {
		s.i.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.i.token)
	req.Header.Set(header, value)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.i.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.i.t.Fatal(err)
	}
	return resp.StatusCode, text
}

// pages reads a list of events to its end.
func (s *sinks) pages(url string) []byte {
	var all []byte
	for after := ""; ; {
		page := s.get(url+after, "")
		all = append(all, page...)
		next := decode[struct {
			Data []struct {
				Seq int64 `json:"seq"`
			} `json:"data"`
		}](s.i.t, page).Data
		if len(next) == 0 {
			return all
		}
		after = fmt.Sprintf("&after=%d", next[len(next)-1].Seq)
	}
}

// dump reads every column of every table: bytes as they are, the rest as text. (A row as text doubles its quotes and backslashes.)
func (s *sinks) dump() map[string][]byte {
	t := s.i.t
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, s.i.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `SELECT table_name, format(
			CASE data_type WHEN 'bytea' THEN 'SELECT %1$I FROM %2$I WHERE %1$I IS NOT NULL' ELSE 'SELECT convert_to(%1$I::text, ''UTF8'') FROM %2$I WHERE %1$I IS NOT NULL' END,
			column_name, table_name)
		FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
		WHERE table_schema = 'public' AND table_type = 'BASE TABLE'`)
	if err != nil {
		t.Fatal(err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Table, Query string }])
	if err != nil {
		t.Fatal(err)
	}
	content := map[string][]byte{}
	for _, column := range columns {
		rows, err := conn.Query(ctx, column.Query)
		if err != nil {
			t.Fatalf("%s: %v", column.Query, err)
		}
		values, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil {
			t.Fatalf("%s: %v", column.Query, err)
		}
		name := "database " + column.Table
		content[name] = bytes.Join(append(values, content[name]), []byte{'\n'})
	}
	if len(content) < 15 {
		t.Errorf("the database has only %d tables", len(content))
	}
	return content
}

// watchCommands samples the command lines of all processes until stopWatching.
func (s *sinks) watchCommands() {
	ctx, stop := context.WithCancel(s.i.t.Context())
	s.stop = stop
	s.watching.Go(func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			lines, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is sound
			for _, name := range lines {
				line, err := os.ReadFile(name)
				if err != nil || len(line) == 0 {
					continue // it has ended
				}
				s.mu.Lock()
				if !bytes.Contains(s.commands.Bytes(), line) {
					s.commands.Write(append(line, '\n'))
				}
				s.mu.Unlock()
			}
		}
	})
}

// nameSecret stores a secret, by a command that ends when its command line has been seen: a sample misses what is there for a moment only.
func (s *sinks) nameSecret(key string) {
	t := s.i.t
	t.Helper()
	stdin, value, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer value.Close()
	p := spawn(t, s.i.dir, s.i.client(), func(cmd *exec.Cmd) { cmd.Stdin = stdin }, "secrets", "-w", "canary", "set", key)
	stdin.Close()
	eventually(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !bytes.Contains(s.commands.Bytes(), []byte(key)) {
			return fmt.Errorf("the command that stores %s is not seen", key)
		}
		return nil
	})
	fmt.Fprint(value, rand.Text())
	value.Close()
	if code := p.wait(); code != 0 {
		t.Fatalf("storing %s ends with %d: %s", key, code, p.err.String())
	}
}

func (s *sinks) stopWatching() {
	s.stop()
	s.watching.Wait()
	s.add("command lines", s.commands.Bytes())
}
