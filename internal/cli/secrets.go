package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"foundry/api/client"
	"foundry/internal/secret"
)

// secretsCommand is `secrets`.
func (a *app) secretsCommand() *cobra.Command {
	var workflow string
	parent := &cobra.Command{Use: "secrets", Short: "Look after the secrets of a workflow"}
	var noMask, dryRun bool
	set := &cobra.Command{
		Use:   "set KEY -w WORKFLOW",
		Short: "Store the next version of a secret",
		Long: "Store the next version of a secret. Its value is asked for on a terminal, without showing it, and otherwise read from\n" +
			"standard input to its end, without the last line break. It is never an argument, since those can be seen by others.",
		Example: "printf %s \"$PASSWORD\" | foundry secrets set DATABASE_PASSWORD -w report",
		Args:    takes("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setSecret(cmd.Context(), workflow, args[0], !noMask)
		},
	}
	set.Flags().BoolVar(&noMask, "no-mask", false, "show the value in logs and outputs")
	list := &cobra.Command{
		Use:   "list -w WORKFLOW",
		Short: "Show secrets, without their values",
		Args:  takes(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.listSecrets(cmd.Context(), workflow) },
	}
	rm := &cobra.Command{
		Use:   "rm KEY -w WORKFLOW",
		Short: "Take a secret away from executions to come",
		Args:  takes("KEY"),
		RunE:  func(cmd *cobra.Command, args []string) error { return a.removeSecret(cmd.Context(), workflow, args[0]) },
	}
	load := &cobra.Command{
		Use:   "import FILE -w WORKFLOW",
		Short: "Store secrets from a .env file; - is standard input",
		Long: "Store secrets from the lines KEY=value of a .env file; - is standard input. Every line that says something is answered with what\n" +
			"became of it. Lines that are not valid are left out, and the exit code is then 1.",
		Example: "foundry secrets import .env -w report --dry-run",
		Args:    takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.importSecrets(cmd.Context(), workflow, args[0], dryRun)
		},
	}
	load.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would happen")
	reveal := a.revealCommand(&workflow)
	for _, cmd := range []*cobra.Command{set, list, rm, load, reveal} {
		cmd.Flags().StringVarP(&workflow, "workflow", "w", "", "the workflow (id or slug)")
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if workflow == "" {
				return usage("Name the workflow with -w WORKFLOW.")
			}
			return run(cmd, args)
		}
	}
	return commands(parent, set, list, rm, load, reveal, a.rekeyCommand())
}

// revealCommand is `secrets reveal`; workflow is what its flag sets.
func (a *app) revealCommand(workflow *string) *cobra.Command {
	return &cobra.Command{
		Use:   "reveal KEY -w WORKFLOW",
		Short: "Write the value of a secret",
		Long: "Write the value of a secret, and a line break, to standard output. It goes on the audit record first. A server may have this\n" +
			"turned off (FOUNDRY_REVEAL).",
		Example: "foundry secrets reveal DATABASE_URL -w report",
		Args:    takes("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.revealSecret(cmd.Context(), *workflow, args[0])
		},
	}
}

func (a *app) setSecret(ctx context.Context, workflow, key string, mask bool) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	value, err := a.readValue(key)
	if err != nil {
		return err
	}
	if mask && value != "" && len(value) < secret.MinMaskedLen {
		return usage("A value of less than %d bytes would mask ordinary text; with --no-mask it is stored, and shown where it is printed.", secret.MinMaskedLen)
	}
	var stored client.SecretStored
	answer, err := s.call(ctx, request{
		method: http.MethodPut, path: secretPath(workflow, key), body: client.SecretValue{Value: value, Mask: &mask},
	}, &stored)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	fmt.Fprintf(a.Out, "%s version %d is stored.\n", stored.Key, stored.Version)
	return nil
}

// readValue asks for a value on a terminal, and else reads standard input without its last line break.
func (a *app) readValue(key string) (string, error) {
	if file, ok := a.In.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprintf(a.Err, "Value of %s: ", key)
		value, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(a.Err)
		if err != nil {
			return "", fmt.Errorf("reading the value: %w", err)
		}
		return string(value), nil
	}
	value, err := readAtMost(a.In, secret.MaxValue+len("\r\n"))
	if err != nil {
		return "", err
	}
	value = bytes.TrimSuffix(value, []byte("\n"))
	return string(bytes.TrimSuffix(value, []byte("\r"))), nil
}

// readAtMost reads to the end. What is longer than limit bytes is refused.
func readAtMost(from io.Reader, limit int) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	if len(text) > limit {
		return nil, usage("That is longer than the %d bytes that can be read.", limit)
	}
	return text, nil
}

func (a *app) listSecrets(ctx context.Context, workflow string) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	var secrets client.Secrets
	answer, err := s.call(ctx, request{method: http.MethodGet, path: []string{"workflows", workflow, "secrets"}}, &secrets)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	rows := [][]string{{"KEY", "VERSION", "UPDATED", "BY", "LAST USED"}}
	for _, x := range secrets.Data {
		used := "never"
		if x.LastUsedAt != nil {
			used = x.LastUsedAt.Local().Format(time.DateTime)
		}
		rows = append(rows, []string{x.Key, fmt.Sprint(x.Version), x.UpdatedAt.Local().Format(time.DateTime), x.UpdatedBy, used})
	}
	table(a.Out, rows)
	return nil
}

func (a *app) removeSecret(ctx context.Context, workflow, key string) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	resp, err := s.send(ctx, request{method: http.MethodDelete, path: secretPath(workflow, key)})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if a.json {
		return a.printJSON(map[string]string{"key": key})
	}
	fmt.Fprintf(a.Out, "%s is removed.\n", key)
	return nil
}

func (a *app) revealSecret(ctx context.Context, workflow, key string) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	var revealed client.SecretRevealed
	answer, err := s.call(ctx, request{method: http.MethodPost, path: append(secretPath(workflow, key), "reveal")}, &revealed)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	fmt.Fprintln(a.Out, revealed.Value)
	return nil
}

// maxImport is the longest text that a JSON body of 1 MiB holds when half of it must be escaped.
const maxImport = 512 << 10

func (a *app) importSecrets(ctx context.Context, workflow, name string, dryRun bool) error {
	text, err := a.readImport(name)
	if err != nil {
		return err
	}
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	query := url.Values{}
	if dryRun {
		query.Set("dry_run", "true")
	}
	var imported client.SecretImported
	answer, err := s.call(ctx, request{
		method: http.MethodPost, path: secretPath(workflow, "import"), query: query, body: client.SecretImport{Text: string(text)},
	}, &imported)
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(answer)
	} else {
		printImported(a.Out, imported)
	}
	for _, row := range imported.Data {
		if row.Result == client.Invalid && err == nil {
			err = quiet{exitFailed}
		}
	}
	return err
}

func (a *app) readImport(name string) ([]byte, error) {
	if name == "-" {
		return readAtMost(a.In, maxImport)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, usage("%s cannot be read: it is missing, or its rights do not allow it.", name)
	}
	defer file.Close()
	return readAtMost(file, maxImport)
}

// printImported writes a line for each line of the text that says something.
func printImported(out io.Writer, imported client.SecretImported) {
	for _, row := range imported.Data {
		words := map[client.SecretImportRowResult]string{client.New: "New", client.Replaces: "Replaces", client.Invalid: "Invalid"}
		line := fmt.Sprintf("line %d: %s", row.Line, words[row.Result])
		if row.Key != nil {
			line += " " + *row.Key
		}
		if row.Reason != nil {
			line += ": " + *row.Reason
		}
		fmt.Fprintln(out, line)
	}
	if imported.DryRun {
		fmt.Fprintln(out, "Nothing was stored: this was a dry run.")
	}
}

func secretPath(workflow, key string) []string {
	return []string{"workflows", workflow, "secrets", key}
}
