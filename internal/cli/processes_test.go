package cli

import (
	"testing"

	"foundry/internal/config"
)

// TestServeTakesItsConfigurationFromTheEnvironment is not parallel: it sets the environment.
func TestServeTakesItsConfigurationFromTheEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"DATABASE_URL": "postgres://db/foundry", "DATABASE_URL_DIRECT": "postgres://direct/foundry", "FOUNDRY_ENVIRONMENT": "staging",
		"FOUNDRY_PUBLIC_URL": "https://foundry.example", "FOUNDRY_REVEAL": "off", "FOUNDRY_DRAIN_TIMEOUT": "3s",
		"FOUNDRY_STATE_DIR": "/state",
	} {
		t.Setenv(name, value)
	}
	c, err := config.Load[config.Serve]()
	if err != nil {
		t.Fatal(err)
	}
	got := controlPlane(c)
	if got.Environment != "staging" || got.PublicURL != "https://foundry.example" || !got.RevealOff || got.Drain != c.Drain.Timeout || got.Sandbox.StateDir != "/state" ||
		got.DatabaseURL != "postgres://db/foundry" || got.DirectURL != "postgres://direct/foundry" {
		t.Errorf("the control plane is %+v", got)
	}
	t.Setenv("FOUNDRY_ENVIRONMENT", "")
	if c, err = config.Load[config.Serve](); err != nil || controlPlane(c).Environment != "production" {
		t.Errorf("without a name it is %q (%v)", controlPlane(c).Environment, err)
	}
}
