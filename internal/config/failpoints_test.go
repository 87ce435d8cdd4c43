package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/errs"
	"foundry/internal/failpoint"
)

func TestFailpoints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environ map[string]string
		want    Failpoints
	}{
		"not set": {nil, Failpoints{}},
		"set": {
			map[string]string{"FOUNDRY_FAILPOINTS": "journal.commit.before=kill:0.5", "FOUNDRY_FAILPOINTS_SEED": "7"},
			Failpoints{Rules: FailpointRules{{Pattern: "journal.commit.before", Action: failpoint.Kill, Probability: 0.5}}, Seed: 7},
		},
	} {
		got, err := loadFailpoints(c.environ)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	for _, c := range []struct{ variable, value, want string }{
		{"FOUNDRY_FAILPOINTS", "a=explode", `FOUNDRY_FAILPOINTS must be rules such as journal.commit.before=kill:0.01; "a=explode": "explode" is none of kill, delay, fail and twice.`},
		{"FOUNDRY_FAILPOINTS_SEED", "-1", `FOUNDRY_FAILPOINTS_SEED cannot be read: strconv.ParseUint: parsing "-1": invalid syntax.`},
	} {
		_, err := loadFailpoints(map[string]string{c.variable: c.value})
		if err == nil || err.Error() != c.want || !errs.Is(err, errs.Validation) {
			t.Errorf("%s=%s: %v", c.variable, c.value, err)
		}
	}
}
