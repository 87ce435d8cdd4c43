package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"foundry/api/client"
)

// title is how people call an execution.
func title(workflow string, number int64) string {
	return workflow + "#" + strconv.FormatInt(number, 10)
}

// getExecution reads one execution.
func (s *server) getExecution(ctx context.Context, id uuid.UUID) (client.Execution, error) {
	var e client.Execution
	_, err := s.call(ctx, request{method: http.MethodGet, path: []string{"executions", id.String()}}, &e)
	return e, err
}

// connectTo connects, and finds the execution that is named. The server is to be closed, unless there is an error.
func (a *app) connectTo(ctx context.Context, name string) (*server, uuid.UUID, error) {
	s, err := a.connect()
	if err != nil {
		return nil, uuid.Nil, err
	}
	id, err := s.resolve(ctx, name)
	if err != nil {
		s.close()
		return nil, uuid.Nil, err
	}
	return s, id, nil
}

// resolve returns the id of an execution that is named by its id or as WORKFLOW#NUMBER.
func (s *server) resolve(ctx context.Context, name string) (uuid.UUID, error) {
	if id, err := uuid.Parse(name); err == nil {
		return id, nil
	}
	workflow, digits, ok := strings.Cut(name, "#")
	number, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || workflow == "" {
		return uuid.Nil, usage("%q is neither the id of an execution nor of the form WORKFLOW#NUMBER.", name)
	}
	query := url.Values{"workflow": {workflow}, "limit": {strconv.Itoa(pageLimit)}}
	for {
		var page client.ExecutionPage
		if _, err := s.call(ctx, request{method: http.MethodGet, path: []string{"executions"}, query: query}, &page); err != nil {
			return uuid.Nil, err
		}
		for _, e := range page.Data {
			if e.Number == number {
				return e.ID, nil
			}
			if e.Number < number {
				return uuid.Nil, notThere(name)
			}
		}
		if page.NextCursor == nil {
			return uuid.Nil, notThere(name)
		}
		query.Set("cursor", *page.NextCursor)
	}
}

func notThere(name string) error {
	return &refusal{status: http.StatusNotFound, problem: client.Problem{Detail: fmt.Sprintf("There is no execution %s.", name)}}
}

func (a *app) executionsCommand() *cobra.Command {
	var workflow, parent string
	var statuses []string
	limit := 20
	cmd := &cobra.Command{
		Use:     "executions",
		Short:   "List executions, newest first",
		Example: "foundry executions -w report --status failed --status timed_out",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"limit": {strconv.Itoa(limit)}, "status": statuses}
			if workflow != "" {
				query.Set("workflow", workflow)
			}
			return a.listExecutions(cmd.Context(), query, parent)
		},
	}
	cmd.Flags().StringVarP(&workflow, "workflow", "w", "", "only of this workflow (id or slug)")
	cmd.Flags().StringVar(&parent, "parent", "", "only those that nodes of this execution run (id or WORKFLOW#NUMBER)")
	cmd.Flags().StringSliceVar(&statuses, "status", nil, "only with this status; may be repeated")
	cmd.Flags().IntVarP(&limit, "limit", "n", limit, "at most this many, up to 200")
	return cmd
}

// listExecutions lists a page. parent may be empty.
func (a *app) listExecutions(ctx context.Context, query url.Values, parent string) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	if parent != "" {
		id, err := s.resolve(ctx, parent)
		if err != nil {
			return err
		}
		query.Set("parent", id.String())
	}
	var page client.ExecutionPage
	answer, err := s.call(ctx, request{method: http.MethodGet, path: []string{"executions"}, query: query}, &page)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	rows := [][]string{{"EXECUTION", "STATUS", "QUEUED", "TOOK", "ID"}}
	for _, e := range page.Data {
		took := ""
		if e.StartedAt != nil && e.FinishedAt != nil {
			took = seconds(e.FinishedAt.Sub(*e.StartedAt))
		}
		status := string(e.Status)
		if e.Blocked {
			status += ", blocked"
		}
		rows = append(rows, []string{
			title(e.Workflow, e.Number), status, e.QueuedAt.Local().Format(time.DateTime), took, e.ID.String(),
		})
	}
	table(a.Out, rows)
	return nil
}

func (a *app) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "Ask for the end of an execution",
		Long: "Ask for the end of an execution, named by its id or as WORKFLOW#NUMBER.\n\n" +
			"Running commands get SIGTERM and, ten seconds later, SIGKILL; then the nodes run that are to run on cancel.\n" +
			"A second cancel skips those.",
		Example: "foundry cancel hello#7",
		Args:    takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.cancel(cmd.Context(), args[0])
		},
	}
}

func (a *app) cancel(ctx context.Context, name string) error {
	s, id, err := a.connectTo(ctx, name)
	if err != nil {
		return err
	}
	defer s.close()
	var e client.Execution
	answer, err := s.call(ctx, request{method: http.MethodPost, path: []string{"executions", id.String(), "cancel"}}, &e)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	if e.Status == client.ExecutionStatusCanceled {
		fmt.Fprintf(a.Out, "%s is canceled.\n", title(e.Workflow, e.Number))
		return nil
	}
	fmt.Fprintf(a.Out, "%s is asked to end.\n", title(e.Workflow, e.Number))
	return nil
}
