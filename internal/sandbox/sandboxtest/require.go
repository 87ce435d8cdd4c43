package sandboxtest

import (
	"os"
	"slices"
	"strings"
)

// Required reports whether FOUNDRY_REQUIRE, a list separated by commas, has the word: where
// it does, a test that cannot run fails instead of being skipped.
func Required(word string) bool {
	list := os.Getenv("FOUNDRY_REQUIRE")
	return slices.Contains(strings.Split(list, ","), word)
}
