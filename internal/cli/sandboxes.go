package cli

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"foundry/api/client"
)

func (a *app) sandboxesCommand() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "Show sandboxes that exist, newest first",
		Args:  takes(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.listSandboxes(cmd.Context()) },
	}
	stop := &cobra.Command{
		Use:   "stop ID",
		Short: "Stop the sandbox of an execution that waits",
		Long: "Stop the sandbox of an execution that waits. Its files stay, and it is started again when the execution goes on. It happens\n" +
			"by itself after ten minutes; kept sandboxes are stopped at once.",
		Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeSandbox(cmd.Context(), args[0], "stop")
		},
	}
	remove := &cobra.Command{
		Use:   "rm ID",
		Short: "Destroy a kept sandbox before its time",
		Long:  "Destroy a kept sandbox before its time, with all its files. That of an execution that has not ended is refused.",
		Args:  takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeSandbox(cmd.Context(), args[0], "destroy")
		},
	}
	return commands(&cobra.Command{Use: "sandboxes", Short: "See, stop and destroy sandboxes"}, list, stop, remove)
}

func (a *app) listSandboxes(ctx context.Context) error {
	all, err := whole[client.Sandbox](ctx, a, "sandboxes")
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(all)
	}
	rows := [][]string{{"ID", "STATE", "EXECUTION", "PROVIDER", "UP", "KEPT UNTIL"}}
	for _, b := range all.Data {
		until := "-"
		if b.KeepUntil != nil {
			until = b.KeepUntil.Local().Format(time.DateTime)
		}
		rows = append(rows, []string{
			b.ID.String(), string(b.State), title(b.Workflow, b.Number), b.Provider, (time.Duration(b.Seconds) * time.Second).String(), until,
		})
	}
	table(a.Out, rows)
	return nil
}

// changeSandbox asks for something that is done within seconds.
func (a *app) changeSandbox(ctx context.Context, id, action string) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	var b client.Sandbox
	answer, err := s.call(ctx, request{method: http.MethodPost, path: []string{"sandboxes", id, action}}, &b)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	fmt.Fprintf(a.Out, "Sandbox %s is %s.\n", b.ID, b.State)
	return nil
}
