package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"foundry/internal/config"
	"foundry/internal/devstack"
)

func (a *app) doctorCommand() *cobra.Command {
	var adopt bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine an installation from this machine",
		Long: "Examine an installation from this machine, with this environment: whether the database answers and has this program's schema,\n" +
			"notifications arrive, the encryption keys are the right ones, sandboxes can be reached, the database is no copy of another one,\n" +
			"and has room for all connections. The database is the one of DATABASE_URL, else that of the `foundry dev` in this folder or\n" +
			"above it. The exit code is 1 when something is wrong.\n\n" +
			"A copy of a database, restored from a dump or made from a template, leaves all sandboxes alone, for they may be the original's.\n" +
			"When the original is not in use any more, --adopt makes the copy the home of the installation. Never adopt a copy beside an\n" +
			"original that is in use: each would destroy the other's sandboxes.",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), adopt) },
	}
	cmd.Flags().BoolVar(&adopt, "adopt", false, "make this database, a copy, the home of the installation")
	return cmd
}

func (a *app) doctor(ctx context.Context, adopt bool) error {
	database, _, err := installation()
	if err != nil {
		return err
	}
	c, err := config.Load[config.Dev]() // its DATABASE_URL may be absent
	if err != nil {
		return err
	}
	if adopt {
		adopted, err := devstack.Adopt(ctx, database)
		if err != nil {
			return err
		}
		if adopted {
			fmt.Fprintln(a.Err, "This database is the home of the installation from now on.")
		}
	}
	findings := devstack.Doctor{
		DatabaseURL: database, DirectURL: cmp.Or(string(c.Direct), database), Secrets: c.Secrets, Sandbox: c.Sandbox,
	}.Examine(ctx)
	well := true
	for _, f := range findings {
		well = well && f.OK
	}
	if a.json {
		err = a.printJSON(map[string]any{"ok": well, "checks": findings})
	} else {
		rows := make([][]string, 0, len(findings))
		for _, f := range findings {
			verdict := "ok"
			if !f.OK {
				verdict = "WRONG"
			}
			rows = append(rows, []string{verdict, f.Name, f.Detail})
		}
		table(a.Out, rows)
	}
	if err == nil && !well {
		return quiet{exitFailed}
	}
	return err
}
