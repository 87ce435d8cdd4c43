package cli

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestTroubleshootingQuotesTheProgram looks for every quoted message in the sources, or in what a command without a database says.
//
//nolint:paralleltest // it sets the environment
func TestTroubleshootingQuotesTheProgram(t *testing.T) {
	text, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := quotedMessages(string(text))
	if len(quoted) < 30 {
		t.Fatalf("docs/troubleshooting.md quotes %d messages; the headings in code font are they", len(quoted))
	}
	said := literals(t, "../../cmd", "../../internal")
	for _, name := range []string{"DATABASE_URL", "DATABASE_URL_DIRECT"} {
		t.Setenv(name, "")
	}
	var provoked bytes.Buffer
	Run(t.Context(), []string{"migrate"}, IO{In: strings.NewReader(""), Out: &provoked, Err: &provoked})
	said += provoked.String()
	for _, message := range quoted {
		// Some are parts of lines in the sources, and begin with a capital letter where people see them.
		if !strings.Contains(said, message) && !strings.Contains(said, strings.ToLower(message[:1])+message[1:]) {
			t.Errorf("docs/troubleshooting.md quotes %q, which the program does not say", message)
		}
	}
}

// quotedMessages are the headings in code font. What varies in them is an ellipsis; one at the end stands for the rest.
func quotedMessages(page string) []string {
	var quoted []string
	for _, match := range regexp.MustCompile("(?m)^### (?:`+ ?)([^`].*?|`.*?)(?: ?`+)$").FindAllStringSubmatch(page, -1) {
		quoted = append(quoted, strings.TrimSpace(strings.TrimSuffix(match[1], "…")))
	}
	return quoted
}

// literals are the texts in the Go sources below the folders, one a line, with an ellipsis for each verb of fmt. Texts that are
// added up count as one, with an ellipsis for whatever else is added.
func literals(t *testing.T, folders ...string) string {
	t.Helper()
	verbs := regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z]`)
	var all strings.Builder
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				expr, ok := n.(ast.Expr)
				if !ok {
					return true
				}
				text, found := added(expr)
				if found {
					all.WriteString(verbs.ReplaceAllStringFunc(text, ellipsis) + "\n")
				}
				return !found
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

func ellipsis(verb string) string {
	if verb == "%q" {
		return `"…"`
	}
	return "…"
}

// added is the text of a literal, or of a sum with one in it.
func added(e ast.Expr) (text string, found bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		left, inLeft := added(e.X)
		right, inRight := added(e.Y)
		if e.Op != token.ADD || !inLeft && !inRight {
			return "", false
		}
		if !inLeft {
			left = "…"
		}
		if !inRight {
			right = "…"
		}
		return left + right, true
	}
	return "", false
}
