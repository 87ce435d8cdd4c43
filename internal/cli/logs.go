package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"foundry/api/client"
	"foundry/internal/errs"
)

// logChoice is which output of an execution to write.
type logChoice struct {
	node    string
	index   int
	attempt int    // 0: the last there is, and with -f those after it
	stream  string // "": both
}

func (a *app) logsCommand() *cobra.Command {
	var choice logChoice
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Write the output of an execution",
		Long: "Write the output of an execution (id or WORKFLOW#NUMBER), byte for byte as it was recorded.\n\n" +
			"Without --node every node's output comes behind a header line. With -f it goes on until the execution has ended,\n" +
			"through any interruption of the connection; Ctrl-C stops the writing, not the execution. With --json, every line is\n" +
			"a log event of the API. When a node asks for a decision, a line on standard error says so.",
		Example: "foundry logs hello#7 --node tell -f",
		Args:    takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.logs(cmd.Context(), args[0], choice, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the execution has ended")
	cmd.Flags().StringVar(&choice.node, "node", "", "only of this node")
	cmd.Flags().IntVar(&choice.index, "index", 0, "of a node that fans out")
	cmd.Flags().IntVar(&choice.attempt, "attempt", 0, "of the node; the last unless given")
	cmd.Flags().StringVar(&choice.stream, "stream", "", "only stdout or stderr")
	return cmd
}

func (a *app) logs(ctx context.Context, name string, choice logChoice, follow bool) error {
	switch {
	case choice.node == "" && (choice.index != 0 || choice.attempt != 0):
		return usage("--index and --attempt need --node.")
	case choice.stream != "" && choice.stream != "stdout" && choice.stream != "stderr":
		return usage("--stream is stdout or stderr.")
	}
	s, id, err := a.connectTo(ctx, name)
	if err != nil {
		return err
	}
	defer s.close()
	if !follow && !a.json {
		return a.copyLogs(ctx, s, id, choice)
	}
	if choice.node != "" && choice.attempt == 0 {
		if choice.attempt, err = s.lastAttempt(ctx, id, choice); err != nil {
			return err
		}
		choice.attempt = -choice.attempt // and those after it
	}
	w := &logWriter{app: a, choice: choice, fans: map[string]bool{}}
	if follow {
		if !a.json {
			w.waiting = a.tellWaiting(ctx, s, id)
		}
		return (&follower{server: s, execution: id, logs: choice.parameter(), handle: w.add, lost: a.lost}).run(ctx)
	}
	return s.eachEvent(ctx, id, choice.parameter(), w.add)
}

// copyLogs writes what the API has as text.
func (a *app) copyLogs(ctx context.Context, s *server, id uuid.UUID, choice logChoice) error {
	query := url.Values{}
	if choice.node != "" {
		query.Set("node", choice.node)
		query.Set("index", strconv.Itoa(choice.index))
	}
	if choice.attempt != 0 {
		query.Set("attempt", strconv.Itoa(choice.attempt))
	}
	if choice.stream != "" {
		query.Set("stream", choice.stream)
	}
	resp, err := s.send(ctx, request{method: http.MethodGet, path: []string{"executions", id.String(), "logs"}, query: query})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(a.Out, resp.Body); err != nil {
		return errs.E(errs.Unavailable, "The output broke off.").Because(err)
	}
	return nil
}

// parameter is the choice as the API's parameter for event streams.
func (c logChoice) parameter() string {
	if c.node == "" {
		return "all"
	}
	return c.node + ":" + strconv.Itoa(c.index)
}

func (c logChoice) wants(r run, stream client.LogStream) bool {
	if c.stream != "" && c.stream != string(stream) {
		return false
	}
	return c.node == "" || (r.node == c.node && r.index == c.index && (r.attempt == c.attempt || (c.attempt < 0 && r.attempt >= -c.attempt)))
}

// lastAttempt is the number of the node's newest attempt, 1 when there is none yet.
func (s *server) lastAttempt(ctx context.Context, id uuid.UUID, choice logChoice) (int, error) {
	var nodes client.NodeRuns
	if _, err := s.call(ctx, request{method: http.MethodGet, path: []string{"executions", id.String(), "nodes"}}, &nodes); err != nil {
		return 0, err
	}
	last := 1
	for _, n := range nodes.Data {
		if n.Key == choice.node && n.Index == choice.index {
			last = max(last, n.Attempt)
		}
	}
	return last, nil
}

// eachEvent calls handle for every event that there is now.
func (s *server) eachEvent(ctx context.Context, id uuid.UUID, logs string, handle func(client.Event) error) error {
	query := url.Values{"logs": {logs}}
	for {
		var page client.EventPage
		if _, err := s.call(ctx, request{method: http.MethodGet, path: []string{"executions", id.String(), "events"}, query: query}, &page); err != nil {
			return err
		}
		for _, event := range page.Data {
			if err := handle(event); err != nil {
				return err
			}
		}
		if page.NextCursor == nil {
			return nil
		}
		query.Set("after", strconv.FormatInt(*page.NextCursor, 10))
	}
}

// logWriter writes the log events among others, as bytes or as JSON.
type logWriter struct {
	app     *app
	choice  logChoice
	last    run             // whose output was written last
	fans    map[string]bool // nodes that fan out
	written bool
	waiting func(client.Event) error // nil, or told of nodes that begin to wait
}

func (w *logWriter) add(event client.Event) error {
	if event.Type == "node.started" {
		return w.start(event)
	}
	if event.Type == "node.waiting" && w.waiting != nil {
		return w.waiting(event)
	}
	if event.Type != "log" || event.Node == nil {
		return nil
	}
	c, text, err := chunk(event)
	if err != nil {
		return err
	}
	r := runOf(event)
	if !w.choice.wants(r, c.Stream) {
		return nil
	}
	if w.app.json {
		return w.app.printJSON(event)
	}
	if w.choice.node == "" && r != w.last {
		text = append(w.header(r), text...)
	}
	w.last, w.written = r, true
	if _, err := w.app.Out.Write(text); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// start takes in which nodes fan out.
func (w *logWriter) start(event client.Event) error {
	var data fanData
	if err := json.Unmarshal(event.Data, &data); err != nil {
		return fmt.Errorf("reading event %d: %w", event.Seq, err)
	}
	if data.Of > 0 && event.Node != nil {
		w.fans[*event.Node] = true
	}
	return nil
}

// header is the line that the API puts before the output of each node run.
func (w *logWriter) header(r run) []byte {
	label := r.label()
	if w.fans[r.node] {
		label = indexed(r.node, r.index)
	}
	if r.attempt > 1 {
		label += fmt.Sprintf(" (attempt %d)", r.attempt)
	}
	before := ""
	if w.written {
		before = "\n"
	}
	return fmt.Appendf(nil, "%s==> %s <==\n", before, label)
}
