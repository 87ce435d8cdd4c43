package config

import (
	"os"
	"reflect"

	"github.com/caarlos0/env/v11"

	"foundry/internal/errs"
	"foundry/internal/failpoint"
)

// Failpoints has calls and commits go wrong on purpose. It is for tests of Foundry alone.
type Failpoints struct {
	// Rules are as failpoint.Parse reads them. Empty: nothing goes wrong on purpose.
	Rules FailpointRules `env:"FOUNDRY_FAILPOINTS"`
	// Seed decides what rules with a probability draw.
	Seed uint64 `env:"FOUNDRY_FAILPOINTS_SEED"`
}

// FailpointRules are the rules of a failpoint.Plan.
type FailpointRules []failpoint.Rule

// UnmarshalText reads rules.
func (r *FailpointRules) UnmarshalText(text []byte) error {
	rules, err := failpoint.Parse(string(text))
	if err != nil {
		return wants("must be rules such as journal.commit.before=kill:0.01; " + err.Error())
	}
	*r = rules
	return nil
}

// LoadFailpoints reads FOUNDRY_FAILPOINTS and its seed. Its errors are those of Load.
func LoadFailpoints() (Failpoints, error) { return loadFailpoints(env.ToMap(os.Environ())) }

func loadFailpoints(environ map[string]string) (Failpoints, error) {
	var f Failpoints
	mistakes := describe(env.ParseWithOptions(&f, env.Options{Environment: environ}), variables(reflect.TypeFor[Failpoints]()))
	if len(mistakes) == 0 {
		return f, nil
	}
	err := errs.E(errs.Validation, "%s", mistakes[0].Detail)
	err.Details = mistakes
	return Failpoints{}, err
}
