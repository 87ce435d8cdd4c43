package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"foundry/internal/config"
	"foundry/internal/devstack"
	"foundry/internal/errs"
)

func (a *app) adminCommand() *cobra.Command {
	name, expiry := "cli", time.Duration(0)
	token := &cobra.Command{
		Use:   "token",
		Short: "Make an API token, straight on the database",
		Long: "Make an API token and print it: nobody can read it again. It takes the place of any other with the same name. The\n" +
			"database is the one of DATABASE_URL, else that of the `foundry dev` in this folder or above it.",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.token(cmd.Context(), name, expiry)
		},
	}
	token.Flags().StringVar(&name, "name", name, "what the token is for")
	token.Flags().DurationVar(&expiry, "expires", 0, "how long it is valid, such as 720h; for ever unless given")
	return commands(&cobra.Command{Use: "admin", Short: "Look after an installation"}, token)
}

func (a *app) token(ctx context.Context, name string, expiry time.Duration) error {
	c, err := config.Load[config.Dev]() // its DATABASE_URL may be absent
	if err != nil {
		return err
	}
	database := string(c.URL)
	if database == "" {
		dev, err := nearestDev()
		if errors.Is(err, os.ErrNotExist) {
			return errs.E(errs.Validation, "DATABASE_URL is not set, and no `foundry dev` runs here.")
		}
		if err != nil {
			return err
		}
		database = dev.DatabaseURL
	}
	token, err := devstack.NewToken(ctx, database, name, expiry)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"name": name, "token": token.Reveal()})
	}
	fmt.Fprintln(a.Out, token.Reveal())
	return nil
}
