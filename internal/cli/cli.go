package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"foundry/internal/config"
	"foundry/internal/devstack"
	"foundry/internal/lifecycle"
	"foundry/internal/spelling"
)

// IO is what a command reads and writes. Out is looked at: on a terminal, output is for people.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run carries out the command that args name (without the program's) and returns the exit code.
func Run(ctx context.Context, args []string, streams IO) int {
	root := newRoot(&app{IO: streams}) //nolint:contextcheck // cobra hands the context to the commands
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	_, interrupted := errors.AsType[lifecycle.SignalError](context.Cause(ctx))
	return report(streams.Err, err, interrupted)
}

// app is what the commands share.
type app struct {
	IO
	json bool
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "foundry",
		Short: "Run workflows in disposable sandboxes",
		Long: "Foundry runs workflows in disposable sandboxes.\n\n" +
			"Start with `foundry dev`, which brings up everything on this machine and runs an example.\n" +
			"Other commands find that server by themselves when they are run in the same folder or below it;\n" +
			"elsewhere, use `foundry login`, or set FOUNDRY_URL and FOUNDRY_TOKEN.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	commands(root,
		a.devCommand(), failing(a.serveCommand()), failing(a.workerCommand()), a.migrateCommand(), a.doctorCommand(),
		a.initCommand(), a.workflowCommand(), a.validateCommand(),
		a.runCommand(), a.logsCommand(), a.executionsCommand(), a.artifactsCommand(), a.summaryCommand(), a.approveCommand(), a.rejectCommand(), a.cancelCommand(), a.rerunCommand(),
		a.secretsCommand(), a.sandboxesCommand(),
		a.keygenCommand(), a.loginCommand(), a.tokensCommand(), a.membersCommand(), a.adminCommand(), a.versionCommand(),
	)
	return root
}

// commands adds subcommands to a command that does nothing itself.
func commands(parent *cobra.Command, children ...*cobra.Command) *cobra.Command {
	parent.AddCommand(children...)
	parent.Args = cobra.ArbitraryArgs
	parent.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		names := make([]string, 0, len(children))
		for _, child := range children {
			names = append(names, child.Name())
		}
		hint := fmt.Sprintf("`%s --help` lists the commands.", cmd.CommandPath())
		if near := spelling.Nearest(args[0], names); near != "" {
			hint = fmt.Sprintf("Did you mean %q?", near)
		}
		return usage("There is no command %q. %s", strings.Join(append([]string{cmd.CommandPath()}, args[0]), " "), hint)
	}
	return parent
}

// takes is a check of the number of arguments: one for each name.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usage("Usage: %s", cmd.UseLine())
	}
}

// connect returns the server that the environment names, else the one of the nearest
// .foundry/dev.json, from the working directory upwards, else the one of `foundry login`.
func (a *app) connect() (*server, error) {
	c, err := config.Load[config.Client]()
	if err != nil {
		return nil, err
	}
	if c.URL != "" {
		return newServer(string(c.URL), string(c.Token))
	}
	dev, err := nearestDev()
	if errors.Is(err, os.ErrNotExist) {
		return connectLogin(string(c.Token))
	}
	if err != nil {
		return nil, err
	}
	return newServer(dev.URL, cmp.Or(string(c.Token), dev.Token))
}

// nearestDev reads the nearest .foundry/dev.json. os.ErrNotExist when there is none.
func nearestDev() (devstack.State, error) {
	dir, err := os.Getwd()
	if err != nil {
		return devstack.State{}, fmt.Errorf("finding the working directory: %w", err)
	}
	for {
		state, err := devstack.ReadState(filepath.Join(dir, devstack.Dir))
		if !errors.Is(err, os.ErrNotExist) {
			return state, err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return devstack.State{}, os.ErrNotExist
		}
		dir = parent
	}
}

// terminal returns where people read.
func (a *app) terminal() (*terminal, error) {
	c, err := config.Load[config.Client]()
	if err != nil {
		return nil, err
	}
	return newTerminal(a.Out, c.NoColor != ""), nil
}

// printJSON writes what a server has answered, on one line.
func (a *app) printJSON(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding the output: %w", err)
	}
	if _, err := fmt.Fprintf(a.Out, "%s\n", text); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}
