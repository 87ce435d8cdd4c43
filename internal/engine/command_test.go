package engine

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/graph"
	"foundry/internal/shim"
	"foundry/internal/workflow"
)

// TestLostOutputIsTold has a command end whose output the sandbox could not store.
func TestLostOutputIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		exit shim.Exit
		told bool
	}{
		"stored":      {shim.Exit{Reason: shim.Exited}, false},
		"lost":        {shim.Exit{Reason: shim.Exited, Error: "storing output: no space left on device"}, true},
		"not started": {shim.Exit{Reason: shim.StartFailed, Error: "no such file"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := uuid.New()
			r := masking()
			r.def = &compiled{Definition: &workflow.Definition{Nodes: []workflow.Node{{Key: "a"}}}}
			r.nodes, r.states = make([]node, 1), make([]graph.Status, 1)
			r.active = map[uuid.UUID]*instance{id: r.instance(0, 0)}
			r.exited(id, &c.exit)
			told := false
			for _, record := range r.entry.Records {
				told = told || strings.Contains(string(record.Data), "output_lost") && record.NodeRunID == id
			}
			if told != c.told {
				t.Errorf("told: %v in %d records", told, len(r.entry.Records))
			}
		})
	}
}
