package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"foundry/api/client"
	"foundry/internal/errs"
	"foundry/internal/spelling"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitCredentials = 4
	exitInterrupted = 130 // 128 + SIGINT, as in a shell
)

// usageError is a mistake in how a command was called.
type usageError struct{ message string }

func usage(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

func (e *usageError) Error() string { return e.message }

// refusal is an answer of the server that is not the one asked for.
type refusal struct {
	status  int
	problem client.Problem // Detail is empty when the answer was no problem document
}

func (e *refusal) Error() string {
	if e.problem.Detail == "" {
		return fmt.Sprintf("The server answered %d %s.", e.status, http.StatusText(e.status))
	}
	return e.problem.Detail
}

// quiet is a failure that has already been shown.
type quiet struct{ code int }

func (e quiet) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// flagError says what is wrong with a flag, and which one may have been meant.
func flagError(cmd *cobra.Command, err error) error {
	help := fmt.Sprintf("See `%s --help`.", cmd.CommandPath())
	if value, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return usage("`%s`: %q is not a value for --%s (%s). %s", cmd.CommandPath(), value.GetValue(), value.GetFlag().Name, value.GetFlag().Value.Type(), help)
	}
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return usage("`%s`: %s. %s", cmd.CommandPath(), err, help)
	}
	if unknown.GetSpecifiedShortnames() != "" {
		return usage("`%s`: unknown flag -%s. %s", cmd.CommandPath(), unknown.GetSpecifiedName(), help)
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := spelling.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		help = fmt.Sprintf("Did you mean --%s?", near)
	}
	return usage("`%s`: unknown flag --%s. %s", cmd.CommandPath(), unknown.GetSpecifiedName(), help)
}

// report writes what a person should read of err to w, and returns the exit code. The
// interrupt tells whether the command's context was ended by a signal.
func report(w io.Writer, err error, interrupted bool) int {
	if err == nil {
		return exitOK
	}
	if done, ok := errors.AsType[quiet](err); ok {
		return done.code
	}
	if wrong, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(w, "foundry: %s\n", wrong.message)
		return exitUsage
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		return reportRefusal(w, refused)
	}
	if interrupted && errors.Is(err, context.Canceled) {
		fmt.Fprintln(w, "foundry: interrupted")
		return exitInterrupted
	}
	if known, ok := errors.AsType[*errs.Error](err); ok {
		fmt.Fprintf(w, "foundry: %s\n", known.Message)
		if cause := known.Unwrap(); cause != nil {
			fmt.Fprintf(w, "  %s\n", cause)
		}
		return exitFailed
	}
	fmt.Fprintf(w, "foundry: %s\n", err)
	return exitFailed
}

func reportRefusal(w io.Writer, e *refusal) int {
	fmt.Fprintf(w, "foundry: %s\n", e.Error())
	for _, detail := range e.problem.Errors {
		if len(e.problem.Errors) == 1 && strings.Contains(e.Error(), detail.Detail) {
			continue // the sentence says it already
		}
		fmt.Fprintf(w, "  %s: %s\n", detail.Pointer, detail.Detail)
	}
	if e.status >= http.StatusInternalServerError && e.problem.RequestID != "" {
		fmt.Fprintf(w, "  The server's log has more under request %s.\n", e.problem.RequestID)
	}
	switch e.status {
	case http.StatusUnauthorized:
		fmt.Fprintln(w, "  Set FOUNDRY_TOKEN to a valid token, or use `foundry login`; `foundry admin token` makes one.")
		return exitCredentials
	case http.StatusForbidden:
		return exitCredentials
	}
	return exitFailed
}
