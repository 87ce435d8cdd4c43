package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"foundry/internal/auth"
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
		Example: "foundry admin token --name ci --expires 720h",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.token(cmd.Context(), name, expiry)
		},
	}
	token.Flags().StringVar(&name, "name", name, "what the token is for")
	token.Flags().DurationVar(&expiry, "expires", 0, "how long it is valid, such as 720h; for ever unless given")
	return commands(&cobra.Command{Use: "admin", Short: "Look after an installation"}, token, a.adminUserCommand(), a.adminPurgeCommand())
}

func (a *app) token(ctx context.Context, name string, expiry time.Duration) error {
	database, _, err := installation()
	if err != nil {
		return err
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

// installation returns the database of DATABASE_URL, else that of the nearest `foundry dev`, and the address at which people reach the
// control plane: FOUNDRY_PUBLIC_URL, else that of the same `foundry dev`, else empty.
func installation() (database, address string, err error) {
	c, err := config.Load[config.Dev]() // its DATABASE_URL may be absent
	if err != nil {
		return "", "", err
	}
	database, address = string(c.URL), string(c.PublicURL)
	if database != "" {
		return database, address, nil
	}
	dev, err := nearestDev()
	if errors.Is(err, os.ErrNotExist) {
		return "", "", errs.E(errs.Validation, "DATABASE_URL is not set, and no `foundry dev` runs here.")
	}
	return dev.DatabaseURL, cmp.Or(address, dev.URL), err
}

func (a *app) adminUserCommand() *cobra.Command {
	var user auth.EnsureUser
	var role string
	cmd := &cobra.Command{
		Use:   "user EMAIL",
		Short: "Make a person, straight on the database, and a link to sign in",
		Long: "Make a person who may sign in, where there is none with the address, and print a link that lets them in once, within 10\n" +
			"minutes. For one who exists it prints a new link. A new member is an owner unless --role says otherwise; the role of an\n" +
			"old one changes only with --role. The link begins with FOUNDRY_PUBLIC_URL, else with the address of `foundry dev` here.",
		Example: "foundry admin user ada@example.com --name Ada --role owner",
		Args:    takes("EMAIL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			user.Email, user.Role = args[0], auth.Role(role)
			return a.adminUser(cmd.Context(), user)
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "owner, admin, editor or viewer")
	cmd.Flags().StringVar(&user.Name, "name", "", "name of a new person; the address unless given")
	cmd.Flags().BoolVar(&user.ForgetPassword, "forget-password", false, "let the person set a new password without the present one")
	return cmd
}

func (a *app) adminUser(ctx context.Context, user auth.EnsureUser) error {
	database, address, err := installation()
	if err != nil {
		return err
	}
	if address == "" {
		return usage("Set FOUNDRY_PUBLIC_URL to the address at which people reach Foundry: the link begins with it.")
	}
	link, err := devstack.NewSignInLink(ctx, database, address, user)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"email": user.Email, "link": link})
	}
	fmt.Fprintln(a.Out, link)
	return nil
}
