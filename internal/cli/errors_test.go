package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"foundry/api/client"
	"foundry/internal/errs"
)

func TestReport(t *testing.T) {
	t.Parallel()
	refuse := func(status int) error {
		return fmt.Errorf("asking: %w", &refusal{status: status, problem: client.Problem{Detail: "It does not work.", RequestID: "r-1"}})
	}
	invalid := &refusal{status: http.StatusUnprocessableEntity, problem: client.Problem{
		Detail: "The inputs are refused.", Errors: []client.ProblemError{{Pointer: "/inputs/n", Detail: "Is missing."}},
	}}
	repeated := &refusal{status: http.StatusBadRequest, problem: client.Problem{
		Detail: "The body is not what this address reads (/priority): Must be from -10 to 10.",
		Errors: []client.ProblemError{{Pointer: "/priority", Detail: "Must be from -10 to 10."}},
	}}
	tests := []struct {
		name        string
		err         error
		interrupted bool
		code        int
		text        string
	}{
		{"nothing", nil, false, 0, ""},
		{"what has been shown", quiet{1}, false, 1, ""},
		{"usage", usage("Do %s.", "this"), false, 2, "foundry: Do this.\n"},
		{"not found", refuse(404), false, 1, "foundry: It does not work.\n"},
		{"a fault of the server", refuse(500), false, 1, "foundry: It does not work.\n  The server's log has more under request r-1.\n"},
		{"no credentials", refuse(401), false, 4, "foundry: It does not work.\n  Set FOUNDRY_TOKEN to a valid token, or use `foundry login`; `foundry admin token` makes one.\n"},
		{"not allowed", refuse(403), false, 4, "foundry: It does not work.\n"},
		{"details", invalid, false, 1, "foundry: The inputs are refused.\n  /inputs/n: Is missing.\n"},
		{"a detail that the sentence has", repeated, false, 1, "foundry: The body is not what this address reads (/priority): Must be from -10 to 10.\n"},
		{"no problem document", &refusal{status: 502}, false, 1, "foundry: The server answered 502 Bad Gateway.\n"},
		{"our errors", errs.E(errs.Conflict, "Taken.").Because(errors.New("why")), false, 1, "foundry: Taken.\n  why\n"},
		{"other errors", errors.New("boom"), false, 1, "foundry: boom\n"},
		{"Ctrl-C", context.Canceled, true, 130, "foundry: interrupted\n"},
		{"a cancel that nobody asked for", context.Canceled, false, 1, "foundry: context canceled\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			code := report(&out, tt.err, tt.interrupted)
			if code != tt.code || out.String() != tt.text {
				t.Errorf("exit code %d with %q, want %d with %q", code, out.String(), tt.code, tt.text)
			}
		})
	}
}

func TestFlagErrors(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"run first --folow":        "foundry: `foundry run`: unknown flag --folow. Did you mean --follow?\n",
		"run first --qqqqqq":       "foundry: `foundry run`: unknown flag --qqqqqq. See `foundry run --help`.\n",
		"run first -x":             "foundry: `foundry run`: unknown flag -x. See `foundry run --help`.\n",
		"run first -fx":            "foundry: `foundry run`: unknown flag -x. See `foundry run --help`.\n",
		"worker --supervise":       "foundry: `foundry worker`: unknown flag --supervise. See `foundry worker --help`.\n",
		"secrets list --worklow x": "foundry: `foundry secrets list`: unknown flag --worklow. Did you mean --workflow?\n",
		"run first -i":             "foundry: `foundry run`: flag needs an argument: 'i' in -i. See `foundry run --help`.\n",
		"run first --priority two": "foundry: `foundry run`: \"two\" is not a value for --priority (int). See `foundry run --help`.\n",
	} {
		var out, err bytes.Buffer
		code := Run(t.Context(), strings.Fields(args), IO{In: strings.NewReader(""), Out: &out, Err: &err})
		if code != exitUsage || out.Len() > 0 || err.String() != want {
			t.Errorf("foundry %s: exit code %d, %q, want %q", args, code, err.String(), want)
		}
	}
}
