package workflow

import (
	_ "embed"
	"slices"
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (2020-12) of the text, for editors. It is written by hand;
// what it cannot say (names of other nodes, expressions), Compile says.
func Schema() []byte { return slices.Clone(schema) }
