package journal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNoTimers reads the package: between Submit and COMMIT nothing waits for time to pass. The two places that do
// are after a failed commit and after the end of Run's context. That a caller who is alone pays one commit and
// those who come while it is in flight share the next is what TestGroupCommit counts.
func TestNoTimers(t *testing.T) {
	t.Parallel()
	waits := []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Sleep", "Tick", "WithDeadline", "WithDeadlineCause", "WithTimeout", "WithTimeoutCause"}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), entry.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			function, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(function, func(node ast.Node) bool {
				selector, ok := node.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				from, ok := selector.X.(*ast.Ident)
				if ok && slices.Contains(waits, selector.Sel.Name) && (from.Name == "time" || from.Name == "context" && selector.Sel.Name != "AfterFunc") {
					found[function.Name.Name] = append(found[function.Name.Name], from.Name+"."+selector.Sel.Name)
				}
				return true
			})
		}
	}
	want := map[string][]string{"untilDone": {"time.After"}, "close": {"time.NewTimer"}}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
}
