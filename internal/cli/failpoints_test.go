package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"foundry/internal/errs"
	"foundry/internal/failpoint"
)

func TestFailpointsOfTheEnvironment(t *testing.T) {
	for rules, want := range map[string]struct {
		active bool
		refuse string // a part of the error of a command that does not start
	}{
		"": {}, "a.b.before=fail": {active: true}, "a.b.before": {refuse: "FOUNDRY_FAILPOINTS must be rules"},
	} {
		t.Run(rules, func(t *testing.T) {
			t.Setenv("FOUNDRY_FAILPOINTS", rules)
			ran := false
			cmd := failing(&cobra.Command{Use: "x", RunE: func(cmd *cobra.Command, _ []string) error {
				ran = true
				if got := failpoint.Active(cmd.Context()); got != want.active {
					t.Errorf("active: %v", got)
				}
				if err := failpoint.Hit(cmd.Context(), "a.b.before").Err; errs.Is(err, errs.Unavailable) != want.active {
					t.Errorf("the point answers %v", err)
				}
				return nil
			}})
			cmd.SetArgs(nil)
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			err := cmd.ExecuteContext(t.Context())
			if ran == (want.refuse != "") || want.refuse != "" && (err == nil || !strings.Contains(err.Error(), want.refuse)) {
				t.Errorf("ran: %v, %v", ran, err)
			}
		})
	}
}
