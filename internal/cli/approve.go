package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"foundry/api/client"
	"foundry/internal/errs"
)

// decision is what a person says to an approval.
type decision struct {
	verb    string // approve or reject, as the API has it
	done    string // the same as what has been done
	node    string // "": the only one that waits
	index   int
	comment string
}

func (a *app) approveCommand() *cobra.Command {
	return a.decideCommand(decision{verb: "approve", done: "approved"}, "The execution goes on.")
}

func (a *app) rejectCommand() *cobra.Command {
	return a.decideCommand(decision{verb: "reject", done: "rejected"}, "The node fails, and the execution with it unless its text says otherwise.")
}

func (a *app) decideCommand(d decision, effect string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   d.verb + " ID",
		Short: strings.ToUpper(d.verb[:1]) + d.verb[1:] + " what a node asks",
		Long: strings.ToUpper(d.verb[:1]) + d.verb[1:] + " what a node of an execution (id or WORKFLOW#NUMBER) asks. " + effect + "\n\n" +
			"The node may be left out where only one asks. The first decision counts.",
		Example: "foundry " + d.verb + " release#7 --node sign-off --comment \"as discussed\"",
		Args:    takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.decide(cmd.Context(), args[0], d)
		},
	}
	cmd.Flags().StringVar(&d.node, "node", "", "which asks")
	cmd.Flags().IntVar(&d.index, "index", 0, "of a node that fans out")
	cmd.Flags().StringVar(&d.comment, "comment", "", "what there is to say about it; shown with the execution, so no place for a secret")
	return cmd
}

func (a *app) decide(ctx context.Context, name string, d decision) error {
	if d.node == "" && d.index != 0 {
		return usage("--index needs --node.")
	}
	s, id, err := a.connectTo(ctx, name)
	if err != nil {
		return err
	}
	defer s.close()
	if d.node == "" {
		if d.node, d.index, err = s.onlyAsking(ctx, id, name); err != nil {
			return err
		}
	}
	r := request{method: http.MethodPost, path: []string{"executions", id.String(), "nodes", d.node, d.verb}, body: client.Decide{Comment: d.comment}}
	if d.index != 0 {
		r.query = url.Values{"index": {strconv.Itoa(d.index)}}
	}
	var run client.NodeRun
	answer, err := s.call(ctx, r, &run)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	fmt.Fprintf(a.Out, "%s is %s.\n", labelOf(run.Key, run.Index), d.done)
	return nil
}

// onlyAsking returns the one node of an execution that asks for a decision.
func (s *server) onlyAsking(ctx context.Context, id uuid.UUID, name string) (node string, index int, err error) {
	asking, err := s.asking(ctx, id)
	if err != nil {
		return "", 0, err
	}
	switch len(asking) {
	case 0:
		return "", 0, errs.E(errs.Conflict, "No node of %s asks for a decision.", name)
	case 1:
		return asking[0].Key, asking[0].Index, nil
	}
	choices := make([]string, 0, len(asking))
	for _, run := range asking {
		choice := "--node " + run.Key
		if run.Index != 0 {
			choice += " --index " + strconv.Itoa(run.Index)
		}
		choices = append(choices, choice)
	}
	return "", 0, usage("%d nodes ask for a decision; say which: %s.", len(asking), strings.Join(choices, ", "))
}

// asking returns the node runs of an execution that ask for a decision.
func (s *server) asking(ctx context.Context, id uuid.UUID) (asking []client.NodeRun, err error) {
	var nodes client.NodeRuns
	if _, err := s.call(ctx, request{method: http.MethodGet, path: []string{"executions", id.String(), "nodes"}}, &nodes); err != nil {
		return nil, err
	}
	for _, run := range nodes.Data {
		if run.Status == client.NodeStatusWaiting && run.Prompt != nil {
			asking = append(asking, run)
		}
	}
	return asking, nil
}
