package engine

import (
	"foundry/internal/workflow"
)

// compiled is a version's definition. Its files are read when a sandbox needs them.
type compiled struct {
	*workflow.Definition
	fault error // set in place of the definition when the stored text does not load
}

// broken stands in for a text that does not load.
func broken(fault error) *compiled {
	return &compiled{Definition: &workflow.Definition{}, fault: fault}
}
