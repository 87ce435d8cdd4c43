package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"foundry/internal/errs"
)

func (a *app) summaryCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "summary ID",
		Short:   "Show what the nodes of an execution have summed up",
		Long:    "Show the summaries that commands have written to FOUNDRY_SUMMARY, as one Markdown text. The execution is named by its id or as WORKFLOW#NUMBER.",
		Example: "foundry summary report#7",
		Args:    takes("ID"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.showSummary(cmd.Context(), args[0]) },
	}
}

func (a *app) showSummary(ctx context.Context, name string) error {
	s, id, err := a.connectTo(ctx, name)
	if err != nil {
		return err
	}
	defer s.close()
	text, err := s.summary(ctx, id)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"summary": text})
	}
	term, err := a.terminal()
	if err != nil {
		return err
	}
	if term.live() {
		text = strings.Map(printableLine, text)
	}
	if _, err := io.WriteString(a.Out, text); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// summary reads the summaries of an execution.
func (s *server) summary(ctx context.Context, id uuid.UUID) (string, error) {
	resp, err := s.send(ctx, request{method: http.MethodGet, path: []string{"executions", id.String(), "summary"}})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", errs.E(errs.Unavailable, "The summary broke off.").Because(err)
	}
	return string(text), nil
}

// printSummary shows the summaries below the result of an execution that was followed. A server that knows none has none.
func printSummary(ctx context.Context, term *terminal, s *server, id uuid.UUID) error {
	text, err := s.summary(ctx, id)
	if refused, ok := errors.AsType[*refusal](err); ok && refused.status == http.StatusNotFound {
		return nil
	}
	if err != nil || text == "" {
		return err
	}
	for line := range strings.Lines("\n" + strings.Map(printableLine, text)) {
		term.print([]byte(strings.TrimSuffix(line, "\n")))
	}
	return nil
}

// printableLine is printable for a text of several lines.
func printableLine(r rune) rune {
	if r == '\n' {
		return r
	}
	return printable(r)
}
