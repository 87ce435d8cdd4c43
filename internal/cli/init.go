package cli

import (
	_ "embed"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// firstWorkflow is what `foundry init` writes.
//
//go:embed init.yaml
var firstWorkflow []byte

// firstFile is where it writes unless told otherwise.
const firstFile = "workflow.yaml"

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "init [FILE]",
		Short:   "Write a first workflow with comments",
		Long:    "Write a first workflow with comments to FILE, or to " + firstFile + ". What is there already stays as it is.",
		Example: "foundry init hello.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("Usage: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			name := firstFile
			if len(args) == 1 {
				name = args[0]
			}
			return a.initialize(name)
		},
	}
}

func (a *app) initialize(name string) error {
	err := writeNew(name, firstWorkflow)
	if errors.Is(err, os.ErrExist) {
		return usage("%s exists already; name another file.", name)
	}
	if err != nil {
		return fmt.Errorf("writing the workflow: %w", err)
	}
	if a.json {
		return a.printJSON(struct {
			File string `json:"file"`
		}{name})
	}
	fmt.Fprintf(a.Out, "%s is written. Next, with `foundry dev` in another terminal:\n\n"+
		"  foundry workflow push %s\n  foundry run first --follow\n", name, name)
	return nil
}

// writeNew writes a file that must not exist yet.
func writeNew(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}
