package cli

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"foundry/api/client"
	"foundry/examples"
	"foundry/internal/auth"
	"foundry/internal/config"
	"foundry/internal/devstack"
	"foundry/internal/workflow"
)

const (
	devAddr    = "127.0.0.1:8080"
	devExample = "hello.yaml"
	devUser    = "dev@localhost"
)

func (a *app) devCommand() *cobra.Command {
	addr, once := devAddr, false
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Bring up everything on this machine and run an example",
		Long: "Bring up everything on this machine: PostgreSQL (the one of DATABASE_URL, an installed one, or a fetched one), the\n" +
			"control plane and a worker. Then store the example hello.yaml, run it, show it, and stay until Ctrl-C.\n" +
			"Everything is kept in .foundry in this folder.",
		Example: "foundry dev --addr 127.0.0.1:0 --once",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := a.dev(cmd.Context(), addr, once)
			if once {
				return err
			}
			return unlessStopped(cmd.Context(), err)
		},
	}
	cmd.Flags().StringVar(&addr, "addr", addr, "listen on HOST:PORT; port 0 picks a free one")
	cmd.Flags().BoolVar(&once, "once", false, "exit when the example has run: 0 if it completed, else 1")
	return cmd
}

func (a *app) dev(ctx context.Context, addr string, once bool) error {
	folder, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("finding the working directory: %w", err)
	}
	term, err := a.terminal()
	if err != nil {
		return err
	}
	term.printf("Foundry starts. Everything is kept in %s/%s.", folder, devstack.Dir)
	env, err := config.Load[config.Dev]()
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	return devstack.Run(ctx, devstack.Config{
		Folder: folder, Addr: addr, Env: env, Version: version().Version,
		Program: program, WorkerArgs: []string{"worker", "--supervised"},
		Stage: func(name, detail string, took time.Duration) {
			term.printf("  %-9s %s %s", name, detail, term.paint(dim, "("+seconds(took)+")"))
		},
		Notice: func(line string) { term.printf("  %s", term.paint(dim, line)) },
	}, func(ctx context.Context, s devstack.Stack) error {
		return a.useDev(ctx, s, term, once)
	})
}

// useDev runs the example on an installation that is up.
func (a *app) useDev(ctx context.Context, stack devstack.Stack, term *terminal, once bool) error {
	s, err := newServer(stack.URL, stack.Token)
	if err != nil {
		return err
	}
	defer s.close()
	queued, err := s.runExample(ctx)
	if err != nil {
		return err
	}
	term.printf("")
	term.printf("%s is queued: %s", title(queued.Workflow, queued.Number), queued.ID)
	err = a.showEvents(ctx, s, queued.ID)
	if err == nil {
		err = a.showResult(ctx, s, queued.ID)
	}
	if once {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		report(a.Err, err, false)
	}
	a.printNext(stack, term)
	if err := printSignIn(ctx, stack, term); err != nil {
		report(a.Err, err, false)
	}
	<-ctx.Done()
	term.printf("Foundry stops; commands that run go on.")
	return nil
}

// runExample stores the example if its text is new, and queues it.
func (s *server) runExample(ctx context.Context) (client.ExecutionQueued, error) {
	source, err := fs.ReadFile(examples.Files, devExample)
	if err != nil {
		return client.ExecutionQueued{}, fmt.Errorf("reading the example: %w", err)
	}
	t := &text{name: devExample, source: source}
	t.definition, t.diagnostics = workflow.Compile(source)
	if t.definition == nil {
		return client.ExecutionQueued{}, fmt.Errorf("compiling the example: %w", t.diagnostics)
	}
	slug := workflow.SlugFromName(t.definition.Name)
	stored, err := s.latestSource(ctx, slug)
	if err != nil {
		return client.ExecutionQueued{}, err
	}
	if stored != string(source) {
		if _, _, err := s.push(ctx, t, slug); err != nil {
			return client.ExecutionQueued{}, err
		}
	}
	queued, _, err := s.start(ctx, slug, nil, client.NewExecution{})
	return queued, err
}

// latestSource is the newest text of a workflow, "" when there is none.
func (s *server) latestSource(ctx context.Context, slug string) (string, error) {
	var w client.Workflow
	_, err := s.call(ctx, request{method: http.MethodGet, path: []string{"workflows", slug}}, &w)
	if isStatus(err, http.StatusNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var v client.Version
	_, err = s.call(ctx, request{method: http.MethodGet, path: []string{"workflows", slug, "versions", strconv.Itoa(w.Version)}}, &v)
	return v.Source, err
}

// printNext says what a newcomer may try.
func (a *app) printNext(stack devstack.Stack, term *terminal) {
	term.printf("")
	term.printf("Foundry runs at %s. In another terminal, in this folder, try:", stack.URL)
	for _, line := range [][2]string{
		{"foundry run hello -i who=you --follow", "run it again"},
		{"foundry executions", "see what has run"},
		{"foundry init", "write a first workflow of your own"},
		{"foundry validate FILE", "check it"},
		{"foundry workflow push FILE", "and store it"},
	} {
		term.printf("  %-40s %s", line[0], term.paint(dim, line[1]))
	}
	term.printf("Ctrl-C stops everything here.")
}

// printSignIn shows a link for the first person. Whoever can read this terminal could make one on the database as well.
func printSignIn(ctx context.Context, stack devstack.Stack, term *terminal) error {
	link, err := devstack.NewSignInLink(ctx, stack.DatabaseURL, stack.URL, auth.EnsureUser{Email: devUser, Name: "Developer"})
	if err != nil {
		return err
	}
	term.printf("")
	term.printf("To sign in in a browser, open this link. It is good once, for 10 minutes:")
	term.printf("  %s", link)
	return nil
}
