package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"foundry/api/client"
)

func (a *app) tokensCommand() *cobra.Command {
	var scopes []string
	var role string
	days := 90
	create := &cobra.Command{
		Use:     "create NAME",
		Short:   "Make an API token and print it: nobody can read it again",
		Example: "foundry tokens create ci --scope executions:write --expires-days 30",
		Args:    takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if days < 1 {
				return usage("--expires-days is 1 or more.")
			}
			return a.createToken(cmd.Context(), client.NewToken{
				Name: args[0], Scopes: scopesOf(scopes), Role: client.Role(role), ExpiresInDays: days,
			})
		},
	}
	create.Flags().StringSliceVar(&scopes, "scope", []string{"*"}, "what it may do, such as executions:write; may be repeated")
	create.Flags().StringVar(&role, "role", "", "owner, admin, editor or viewer; your own unless given, and never above it")
	create.Flags().IntVar(&days, "expires-days", days, "how long it is valid")
	list := &cobra.Command{
		Use:   "list",
		Short: "Show API tokens, without their secrets",
		Args:  takes(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.listTokens(cmd.Context()) },
	}
	remove := &cobra.Command{
		Use:   "rm ID",
		Short: "Revoke an API token",
		Args:  takes("ID"),
		RunE:  func(cmd *cobra.Command, args []string) error { return a.removeToken(cmd.Context(), args[0]) },
	}
	return commands(&cobra.Command{Use: "tokens", Short: "Make, see and revoke API tokens"}, create, list, remove)
}

func scopesOf(names []string) []client.Scope {
	scopes := make([]client.Scope, 0, len(names))
	for _, name := range names {
		scopes = append(scopes, client.Scope(name))
	}
	return scopes
}

func (a *app) createToken(ctx context.Context, n client.NewToken) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	var made client.TokenCreated
	answer, err := s.call(ctx, request{method: http.MethodPost, path: []string{"tokens"}, body: n}, &made)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	fmt.Fprintln(a.Out, made.Token)
	return nil
}

func (a *app) listTokens(ctx context.Context) error {
	all, err := whole[client.Token](ctx, a, "tokens")
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(all)
	}
	table := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tROLE\tSCOPES\tUSER\tEXPIRES\tLAST USED")
	for _, t := range all.Data {
		user := "-"
		if t.User != nil {
			user = t.User.Email
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.Name, t.Role, strings.Join(t.Scopes, ","), user,
			day(t.ExpiresAt, "never"), day(t.LastUsedAt, "-"))
	}
	return table.Flush()
}

func (a *app) removeToken(ctx context.Context, id string) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.call(ctx, request{method: http.MethodDelete, path: []string{"tokens", id}}, nil); err != nil {
		return err
	}
	if !a.json {
		fmt.Fprintf(a.Out, "Token %s is revoked.\n", id)
	}
	return nil
}

func day(t *time.Time, absent string) string {
	if t == nil {
		return absent
	}
	return t.UTC().Format(time.DateOnly)
}
