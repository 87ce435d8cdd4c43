package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"foundry/internal/config"
	"foundry/internal/devstack"
	"foundry/internal/secret"
)

func (a *app) keygenCommand() *cobra.Command {
	id := "key1"
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make an encryption key for FOUNDRY_ENCRYPTION_KEYS",
		Long: "Make an encryption key and print it as id:base64, which is what FOUNDRY_ENCRYPTION_KEYS holds. It is stored nowhere: without\n" +
			"it, the secrets that it encrypts are lost. To replace a key, add the new one at the end of the list everywhere, then move it to\n" +
			"the front everywhere, then run `foundry secrets rekey`, and take the old one away.",
		Example: "foundry keygen --id 2027-01",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			key := secret.NewKey(id)
			if _, err := secret.ParseKeyring(key); err != nil {
				return usage("%q is not an id: letters, digits, - and _, at most 32.", id)
			}
			if a.json {
				return a.printJSON(map[string]string{"id": id, "key": key})
			}
			fmt.Fprintln(a.Out, key)
			return nil
		},
	}
	cmd.Flags().StringVar(&id, "id", id, "the name of the key")
	return cmd
}

// rekeyCommand is `secrets rekey`.
func (a *app) rekeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rekey",
		Short: "Bring all secrets to the first encryption key, straight on the database",
		Long: "Bring every stored value to the first key of FOUNDRY_ENCRYPTION_KEYS, on the database of DATABASE_URL. Everything goes on\n" +
			"running meanwhile; when it is interrupted, run it again. The other keys of the list must be able to read what is stored.",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load[config.Rekey]()
			if err != nil {
				return err
			}
			changed, unreadable, err := devstack.Rekey(cmd.Context(), c, func(changed int) {
				if !a.json {
					fmt.Fprintf(a.Err, "%d changed\n", changed)
				}
			})
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(map[string]int{"changed": changed, "unreadable": unreadable})
			} else {
				_, err = fmt.Fprintf(a.Out, "%d values were brought to the first key.\n", changed)
			}
			if err == nil && unreadable > 0 {
				fmt.Fprintf(a.Err, "foundry: %d values are encrypted with keys that FOUNDRY_ENCRYPTION_KEYS does not have.\n", unreadable)
				return quiet{exitFailed}
			}
			return err
		},
	}
}
