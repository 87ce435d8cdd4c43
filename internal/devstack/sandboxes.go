package devstack

import (
	"context"
	"fmt"
	"os"

	"github.com/rs/zerolog"

	"foundry/internal/config"
	"foundry/internal/sandbox/local"
)

// sandboxes are what a process can reach of them.
type sandboxes struct {
	*local.Provider
	// place says from where the sandboxes can be reached: this machine, with this state folder. Processes with the same place reach the
	// same sandboxes, and leave those of other places alone.
	place string
}

// openSandboxes prepares the provider that the environment names.
func openSandboxes(ctx context.Context, c config.Sandbox, log zerolog.Logger) (sandboxes, error) {
	host, err := os.Hostname()
	if err != nil {
		return sandboxes{}, fmt.Errorf("finding the name of this machine: %w", err)
	}
	provider, err := local.New(ctx, local.Config{StateDir: c.StateDir, Level: local.Level(c.Local), Log: log})
	if err != nil {
		return sandboxes{}, err
	}
	return sandboxes{provider, host + "/" + provider.ID()}, nil
}
