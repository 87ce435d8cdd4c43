package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"foundry/api/client"
)

// rerunFlags are what `foundry rerun` is told.
type rerunFlags struct {
	order           client.Rerun
	version         string
	fresh, reuse    bool
	preview, follow bool
}

func (a *app) rerunCommand() *cobra.Command {
	var f rerunFlags
	cmd := &cobra.Command{
		Use:   "rerun ID",
		Short: "Run again what failed, or from a node on",
		Long: "Queue an execution that goes on from what an earlier one (id or WORKFLOW#NUMBER), which has ended, has done.\n\n" +
			"What is run again is what did not complete or, with --from, a node, and all that needs it; other nodes keep their\n" +
			"outputs. It goes on in the sandbox of the earlier execution, with its files, where that is kept (see `keep` of a\n" +
			"workflow), else in a fresh one. --preview shows what would happen and does nothing.",
		Example: "foundry rerun report#7 --from crunch --follow",
		Args:    takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rerun(cmd.Context(), args[0], f)
		},
	}
	cmd.Flags().StringVar(&f.order.From, "from", "", "the node to run from; what did not complete unless given")
	cmd.Flags().StringVar(&f.version, "version", "same", "of the workflow: same or latest")
	cmd.Flags().BoolVar(&f.reuse, "reuse", false, "only in the same sandbox")
	cmd.Flags().BoolVar(&f.fresh, "fresh", false, "in a fresh sandbox, even if the other is kept")
	cmd.Flags().BoolVar(&f.preview, "preview", false, "show what would happen")
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "show the output until the execution ends, as `foundry run` does")
	return cmd
}

func (a *app) rerun(ctx context.Context, name string, f rerunFlags) error {
	switch {
	case f.fresh && f.reuse:
		return usage("--fresh and --reuse exclude each other.")
	case f.preview && f.follow:
		return usage("--preview starts nothing that --follow could show.")
	case f.version != string(client.Same) && f.version != string(client.Latest):
		return usage("--version is same or latest, not %q.", f.version)
	case f.fresh:
		f.order.Sandbox = client.RerunSandboxFresh
	case f.reuse:
		f.order.Sandbox = client.RerunSandboxReuse
	}
	f.order.Version = client.RerunVersion(f.version)
	s, id, err := a.connectTo(ctx, name)
	if err != nil {
		return err
	}
	defer s.close()
	r := request{method: http.MethodPost, path: []string{"executions", id.String(), "rerun"}, body: f.order}
	if f.preview {
		r.path = append(r.path, "preview")
		return a.previewRerun(ctx, s, r)
	}
	var queued client.RerunQueued
	answer, err := s.call(ctx, r, &queued)
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(answer)
	} else {
		fmt.Fprintf(a.Out, "%s is queued: %s\n%s\n", title(queued.Workflow, queued.Number), queued.ID, sandboxSentence(queued.Sandbox))
	}
	if err != nil || !f.follow {
		return err
	}
	return a.followRun(ctx, s, client.ExecutionQueued{ID: queued.ID, Number: queued.Number, Workflow: queued.Workflow})
}

func (a *app) previewRerun(ctx context.Context, s *server, r request) error {
	var preview client.RerunPreview
	answer, err := s.call(ctx, r, &preview)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	rows := [][]string{{"NODE", "PLAN"}}
	for _, n := range preview.Nodes {
		rows = append(rows, []string{n.Key, string(n.Plan)})
	}
	table(a.Out, rows)
	fmt.Fprintf(a.Out, "Version %d. %s\n", preview.Version, sandboxSentence(preview.Sandbox))
	return nil
}

func sandboxSentence(plan client.SandboxPlan) string {
	if plan.ID != nil {
		return "It goes on in the sandbox " + plan.ID.String() + ", with its files."
	}
	return plan.Reason + " A fresh one has none of the files that were left there."
}
