package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"foundry/api/client"
	"foundry/internal/errs"
)

// loginFile is where `foundry login` keeps what it was told, in the user's folder for configuration.
const loginFile = "foundry/login.json"

// login is a server and a token of it.
type login struct {
	URL   string `json:"url"`
	Token string `json:"token"`
}

func (a *app) loginCommand() *cobra.Command {
	var as account
	cmd := &cobra.Command{
		Use:   "login URL",
		Short: "Remember a server and an API token",
		Long: "Ask for an API token, or read it from the standard input, check it with the server, and keep both in a file that only you\n" +
			"can read. Commands use them where neither FOUNDRY_URL nor a `foundry dev` says otherwise.\n\n" +
			"With --email, ask for the password of that account instead, and make a token with it, which `foundry tokens list` shows and\n" +
			"`foundry tokens rm` revokes. It is good for 90 days. The password is not kept.",
		Example: "foundry login https://foundry.example.com --email ada@example.com",
		Args:    takes("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.login(cmd.Context(), args[0], as)
		},
	}
	cmd.Flags().StringVar(&as.email, "email", "", "sign in as this person, with a password")
	cmd.Flags().StringVar(&as.organization, "organization", "", "the slug of the organization, for a person of several; with --email")
	return cmd
}

func (a *app) login(ctx context.Context, address string, as account) error {
	file, err := loginPath()
	if err != nil {
		return err
	}
	s, err := newServer(address, "")
	if err != nil {
		return err
	}
	defer s.close()
	if s.token, err = a.tokenFor(ctx, s, as); err != nil {
		return err
	}
	var me client.Me
	answer, err := s.call(ctx, request{method: http.MethodGet, path: []string{"me"}}, &me)
	if err != nil {
		return err
	}
	if err := writeLogin(file, login{URL: s.base.String(), Token: s.token}); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	fmt.Fprintf(a.Out, "Commands now reach %s as %s, %s of %s.\n", s.base, me.Name, me.Role, me.Organization.Slug)
	return nil
}

// readSecret reads one line, without its end, which a terminal does not show. It is never an argument: those are seen by everybody on the machine.
func (a *app) readSecret(prompt string) (string, error) {
	var line string
	if file, ok := a.In.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprint(a.Err, prompt)
		text, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(a.Err)
		if err != nil {
			return "", fmt.Errorf("reading from the terminal: %w", err)
		}
		line = string(text)
	} else {
		var err error
		line, err = bufio.NewReader(io.LimitReader(a.In, 64<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading the standard input: %w", err)
		}
	}
	line = strings.TrimRight(line, "\r\n")
	if strings.TrimSpace(line) == "" {
		return "", usage("Nothing was given. Type it when asked, or send it to the standard input.")
	}
	return line, nil
}

// connectLogin returns the server of `foundry login`, with another token unless that is empty.
func connectLogin(token string) (*server, error) {
	file, err := loginPath()
	if err != nil {
		return nil, err
	}
	known, err := readLogin(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, usage("No server is known here. Start one with `foundry dev`, use `foundry login`, or set FOUNDRY_URL and FOUNDRY_TOKEN.")
	}
	if err != nil {
		return nil, err
	}
	return newServer(known.URL, cmp.Or(token, known.Token))
}

func loginPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", errs.E(errs.Validation, "This user has no folder for configuration; set FOUNDRY_URL and FOUNDRY_TOKEN instead.").Because(err)
	}
	return filepath.Join(dir, filepath.FromSlash(loginFile)), nil
}

// readLogin is os.ErrNotExist when nobody has logged in.
func readLogin(file string) (login, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return login{}, fmt.Errorf("reading what `foundry login` kept: %w", err)
	}
	var l login
	if err := json.Unmarshal(text, &l); err != nil || l.URL == "" {
		return login{}, errs.E(errs.Invalid, "%s cannot be read; `foundry login` writes it anew.", file).Because(err)
	}
	return l, nil
}

// writeLogin replaces the file at once: whoever reads sees the old one or the new one.
func writeLogin(file string, l login) error {
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encoding the login: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("keeping the login: %w", err)
	}
	aside, err := os.CreateTemp(filepath.Dir(file), ".login.*") // 0600
	if err != nil {
		return fmt.Errorf("keeping the login: %w", err)
	}
	defer os.Remove(aside.Name())
	_, err = aside.Write(append(text, '\n'))
	if err := errors.Join(err, aside.Close()); err != nil {
		return fmt.Errorf("keeping the login: %w", err)
	}
	if err := os.Rename(aside.Name(), file); err != nil {
		return fmt.Errorf("keeping the login: %w", err)
	}
	return nil
}
