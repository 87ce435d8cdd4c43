package cli

import (
	"context"
	"fmt"
	"net/http"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"foundry/api/client"
)

func (a *app) membersCommand() *cobra.Command {
	list := &cobra.Command{
		Use:     "list",
		Short:   "Show the members of the organization and their roles",
		Example: "foundry members list",
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listMembers(cmd.Context()) },
	}
	leave := &cobra.Command{
		Use:   "leave ORGANIZATION",
		Short: "Leave an organization, which revokes your tokens and sessions in it",
		Long: "Leave the organization with this slug, which must be the one that your token is of. Your tokens and sessions in it are revoked, the\n" +
			"token that this command uses among them. What you made stays. The last owner cannot leave.",
		Example: "foundry members leave acme",
		Args:    takes("ORGANIZATION"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.leave(cmd.Context(), args[0]) },
	}
	return commands(&cobra.Command{Use: "members", Short: "See who is in the organization, and leave it"}, list, leave)
}

func (a *app) listMembers(ctx context.Context) error {
	all, err := whole[client.Member](ctx, a, "members")
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(all)
	}
	table := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tEMAIL\tNAME\tROLE\tSINCE")
	for _, m := range all.Data {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", m.User.ID, m.User.Email, m.User.Name, m.Role, day(&m.CreatedAt, "-"))
	}
	return table.Flush()
}

// leave takes the person behind the token out of the organization.
func (a *app) leave(ctx context.Context, organization string) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	var me client.Me
	if _, err := s.call(ctx, request{method: http.MethodGet, path: []string{"me"}}, &me); err != nil {
		return err
	}
	if me.Organization.Slug != organization {
		return usage("The token is of the organization %q, not of %q.", me.Organization.Slug, organization)
	}
	if me.Token == nil || me.Token.UserID == nil {
		return usage("No person stands behind this token, so nobody can leave with it.")
	}
	if err := s.removeMember(ctx, *me.Token.UserID); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"left": organization})
	}
	fmt.Fprintf(a.Out, "You have left %s; your tokens and sessions in it are revoked.\n", organization)
	return nil
}

func (s *server) removeMember(ctx context.Context, id uuid.UUID) error {
	_, err := s.call(ctx, request{method: http.MethodDelete, path: []string{"members", id.String()}}, nil)
	return err
}
