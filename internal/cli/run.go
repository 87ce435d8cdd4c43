package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"foundry/api/client"
	"foundry/internal/errs"
)

// explainAfter is how long an execution may stay queued before the reason is asked for.
const explainAfter = 2 * time.Second

func (a *app) runCommand() *cobra.Command {
	var given []string
	var follow bool
	var order client.NewExecution
	var priority int
	cmd := &cobra.Command{
		Use:   "run WORKFLOW",
		Short: "Queue an execution, and follow it with --follow",
		Long: "Queue an execution of a workflow (id or slug).\n\n" +
			"With --follow, its output and what happens to its nodes are shown until it ends; the exit code is then 0 if it\n" +
			"completed, else 1. Ctrl-C stops the showing, not the execution. With --json --follow, the first line is the queued\n" +
			"execution and every further line an event, as the API has them.",
		Example: "foundry run hello -i who=you --follow",
		Args:    takes("WORKFLOW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("priority") {
				order.Priority = &priority
			}
			return a.run(cmd.Context(), args[0], given, order, follow)
		},
	}
	cmd.Flags().StringArrayVarP(&given, "input", "i", nil, "an input as NAME=VALUE (JSON for objects and arrays); may be repeated")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "show the output until the execution ends")
	cmd.Flags().IntVar(&order.Version, "version", 0, "of the workflow; the latest unless given")
	cmd.Flags().IntVar(&priority, "priority", 0, "from -10 to 10, that of the workflow unless given; each step is worth five minutes of waiting")
	return cmd
}

func (a *app) run(ctx context.Context, name string, given []string, order client.NewExecution, follow bool) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	queued, answer, err := s.start(ctx, name, given, order)
	if err != nil {
		return withPushHint(err, name)
	}
	if a.json {
		if err := a.printJSON(answer); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.Out, "%s is queued: %s\n", title(queued.Workflow, queued.Number), queued.ID)
	}
	if !follow {
		return nil
	}
	return a.followRun(ctx, s, queued)
}

// start queues an execution.
func (s *server) start(ctx context.Context, name string, given []string, order client.NewExecution) (client.ExecutionQueued, json.RawMessage, error) {
	var queued client.ExecutionQueued
	if len(given) > 0 {
		declared, err := s.declaredInputs(ctx, name, order.Version)
		if err != nil {
			return queued, nil, err
		}
		if order.Inputs, err = inputs(given, declared); err != nil {
			return queued, nil, err
		}
	}
	answer, err := s.call(ctx, request{method: http.MethodPost, path: []string{"workflows", name, "executions"}, body: order}, &queued)
	return queued, answer, err
}

// withPushHint tells who runs what is not there how it gets there.
func withPushHint(err error, name string) error {
	if refused, ok := errors.AsType[*refusal](err); ok && refused.status == http.StatusNotFound {
		return errs.E(errs.NotFound, "There is no workflow %q here. Store one with `foundry workflow push FILE`.", name)
	}
	return err
}

// followRun shows an execution to its end. An execution that does not complete is quiet{1}.
func (a *app) followRun(ctx context.Context, s *server, queued client.ExecutionQueued) error {
	err := a.showEvents(ctx, s, queued.ID)
	if err == nil {
		err = a.showResult(ctx, s, queued.ID)
	}
	if err != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintf(a.Err, "Detached; %s goes on. Follow it with `foundry logs %s -f`, end it with `foundry cancel %s`.\n",
			title(queued.Workflow, queued.Number), queued.ID, queued.ID)
		return quiet{exitInterrupted}
	}
	return err
}

// showEvents shows what happens until the execution has ended.
func (a *app) showEvents(ctx context.Context, s *server, id uuid.UUID) error {
	f := &follower{server: s, execution: id, logs: "all", lost: a.lost}
	if a.json {
		f.handle = func(event client.Event) error { return a.printJSON(event) }
		return f.run(ctx)
	}
	term, err := a.terminal()
	if err != nil {
		return err
	}
	v := newView(term, id)
	begun, once := make(chan struct{}), sync.Once{}
	f.handle = func(event client.Event) error {
		if event.Type != "execution.queued" {
			once.Do(func() { close(begun) })
		}
		return v.add(event)
	}
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { explainQueued(ctx, s, id, begun, term) })
	if term.live() {
		beside.Go(func() { tickView(ctx, v) })
	}
	defer func() {
		cancel()
		beside.Wait()
		v.close()
	}()
	return f.run(ctx)
}

// lost says that the server is away.
func (a *app) lost(err error) {
	fmt.Fprintf(a.Err, "The connection is lost (%s); trying again.\n", sentence(err))
}

// sentence is what a person should read of an error, without the full stop.
func sentence(err error) string {
	text := "the stream broke"
	if known, ok := errors.AsType[*errs.Error](err); ok {
		text = known.Message
	} else if err != nil {
		text = err.Error()
	}
	return string(bytes.TrimSuffix([]byte(text), []byte(".")))
}

// explainQueued says why an execution does not begin, if it does not soon.
func explainQueued(ctx context.Context, s *server, id uuid.UUID, begun <-chan struct{}, term *terminal) {
	timer := time.NewTimer(explainAfter)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-begun:
		return
	case <-timer.C:
	}
	// Only a hint: when it cannot be had, the execution begins all the same.
	if e, err := s.getExecution(ctx, id); err == nil && e.WaitingFor != nil {
		term.printf("execution: %s", term.paint(yellow, "waiting: "+e.WaitingFor.Message))
	}
}

func tickView(ctx context.Context, v *view) {
	ticker := time.NewTicker(viewTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			v.tick()
		}
	}
}

// showResult shows how an execution has ended, and its outputs.
func (a *app) showResult(ctx context.Context, s *server, id uuid.UUID) error {
	e, err := s.getExecution(ctx, id)
	if err != nil {
		return err
	}
	completed := e.Status == client.ExecutionStatusCompleted
	if !a.json {
		term, err := a.terminal()
		if err != nil {
			return err
		}
		printResult(term, e)
		if err := printSummary(ctx, term, s, id); err != nil {
			return err
		}
	}
	if !completed {
		return quiet{exitFailed}
	}
	return nil
}

func printResult(term *terminal, e client.Execution) {
	c := green
	if e.Status != client.ExecutionStatusCompleted {
		c = red
	}
	line := title(e.Workflow, e.Number) + " " + term.paint(c, words(e.Status))
	if e.StartedAt != nil && e.FinishedAt != nil {
		line += " in " + seconds(e.FinishedAt.Sub(*e.StartedAt))
	}
	if e.Error != nil {
		line += ": " + e.Error.Message
	}
	term.print([]byte(line))
	for _, line := range outputLines(e.Outputs) {
		term.print([]byte("  " + line))
	}
}

// words is a status as people write it.
func words(status client.ExecutionStatus) string {
	if status == client.ExecutionStatusTimedOut {
		return "timed out"
	}
	return string(status)
}

// outputLines are "name: value", by name; texts stand without quotes.
func outputLines(raw json.RawMessage) []string {
	var outputs map[string]json.RawMessage
	if err := json.Unmarshal(raw, &outputs); err != nil {
		return nil
	}
	lines := make([]string, 0, len(outputs))
	for name, value := range outputs {
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			text = string(value)
		}
		lines = append(lines, name+": "+text)
	}
	slices.Sort(lines)
	return lines
}
