package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
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

// find returns the sinks that hold a text: as it is, or as a JSON document writes it.
func (s *sinks) find(text string) []string {
	quoted, err := json.Marshal(text)
	if err != nil {
		s.i.t.Fatal(err)
	}
	var found []string
	for name, content := range s.content {
		if bytes.Contains(content, []byte(text)) || bytes.Contains(content, quoted[1:len(quoted)-1]) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// mustFind proves the search: what was planted in a sink is found there. The marker went through the workflow, the command line and a secret's
// name; of what the processes themselves write, something that they always write stands for it.
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
	planted := map[string]string{
		"serve output": "control plane starts", "worker output": "worker starts",
		"serve metrics": "foundry_", "worker metrics": "foundry_worker_held",
	}
	for _, name := range []string{
		"GET execution", "GET nodes", "GET events", "event stream", "GET logs", "GET logs of print", "GET lists", "the terminal that follows", "command lines",
		"database planted_text", "database planted_jsonb", "database planted_bytea", "database execution_data", "database node_runs",
		"database secrets", "database audit_log",
	} {
		planted[name] = marker
	}
	for name, text := range planted {
		if !slices.Contains(s.find(text), name) {
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
	s.add("serve output", s.i.serve.out.Bytes(), s.i.serve.err.Bytes())
	s.add("worker output", s.i.worker.out.Bytes(), s.i.worker.err.Bytes())
	s.add("serve metrics", s.get(s.i.url+"/metrics", ""))
	if workerPort != 0 {
		s.add("worker metrics", s.get(fmt.Sprintf("http://127.0.0.1:%d/metrics", workerPort), ""))
	}
}

func (s *sinks) get(url, accept string) []byte {
	s.i.t.Helper()
	req, err := http.NewRequestWithContext(s.i.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		s.i.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.i.token)
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.i.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.i.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		s.i.t.Errorf("GET %s: %d %s", url, resp.StatusCode, tail(string(text)))
	}
	return text
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

// dump reads every row of every table: as text, and the bytes of bytea columns as they are.
func (s *sinks) dump() map[string][]byte {
	t := s.i.t
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, s.i.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	collect := func(sql string) [][]byte {
		rows, err := conn.Query(ctx, sql)
		if err != nil {
			t.Fatal(err)
		}
		values, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return values
	}
	content := map[string][]byte{}
	for _, table := range collect(`SELECT convert_to(format('%I.%I', table_schema, table_name), 'UTF8') FROM information_schema.tables
		WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'`) {
		name := "database " + strings.TrimPrefix(string(table), "public.")
		content[name] = bytes.Join(collect(fmt.Sprintf("SELECT convert_to(r::text, 'UTF8') FROM %s AS r", table)), []byte{'\n'})
	}
	for _, column := range collect(`SELECT convert_to(format('SELECT %I FROM %I.%I WHERE %1$I IS NOT NULL', column_name, table_schema, table_name), 'UTF8')
		FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
		WHERE table_schema = 'public' AND data_type = 'bytea' AND table_type = 'BASE TABLE'`) {
		_, table, _ := strings.Cut(string(column), "public.")
		table, _, _ = strings.Cut(table, " ")
		content["database "+table] = append(content["database "+table], bytes.Join(collect(string(column)), nil)...)
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

func (s *sinks) stopWatching() {
	s.stop()
	s.watching.Wait()
	s.add("command lines", s.commands.Bytes())
}
