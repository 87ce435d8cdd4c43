package cli

import (
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"foundry/internal/config"
	"foundry/internal/failpoint"
)

// failing has the failpoints of the environment hold for what a command runs. Without any it changes nothing.
func failing(cmd *cobra.Command) *cobra.Command {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := config.LoadFailpoints()
		if err != nil {
			return err
		}
		if len(f.Rules) > 0 {
			log := config.NewLogger(os.Stdout, config.LogLevel{Level: zerolog.WarnLevel})
			log.Warn().Uint64("seed", f.Seed).Int("rules", len(f.Rules)).
				Msg("FOUNDRY_FAILPOINTS is set: this process fails on purpose and is fit for nothing but tests of Foundry")
			plan := failpoint.NewPlan(f.Rules, f.Seed, func(name string, action failpoint.Action) {
				log.Warn().Str("failpoint", name).Str("action", string(action)).Msg("failpoint")
			})
			cmd.SetContext(failpoint.With(cmd.Context(), plan.Hook))
		}
		return run(cmd, args)
	}
	return cmd
}
