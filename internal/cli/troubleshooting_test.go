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

// TestPagesQuoteTheProgram looks for every message that a page quotes in the sources, or in what a command without a database says.
//
//nolint:paralleltest // it sets the environment
func TestPagesQuoteTheProgram(t *testing.T) {
	said := literals(t, "../../cmd", "../../internal")
	for _, name := range []string{"DATABASE_URL", "DATABASE_URL_DIRECT"} {
		t.Setenv(name, "")
	}
	var provoked bytes.Buffer
	Run(t.Context(), []string{"migrate"}, IO{In: strings.NewReader(""), Out: &provoked, Err: &provoked})
	said += provoked.String()
	for page, least := range map[string]int{"troubleshooting.md": 30, "operations.md": 60} {
		quoted := quotedMessages(readPage(t, page))
		if len(quoted) < least {
			t.Errorf("docs/%s quotes %d messages; the headings and list items that are all in code font are they", page, len(quoted))
		}
		for _, message := range quoted {
			// Some are parts of lines in the sources, and begin with a capital letter where people see them.
			if !strings.Contains(said, message) && !strings.Contains(said, strings.ToLower(message[:1])+message[1:]) {
				t.Errorf("docs/%s quotes %q, which the program does not say", page, message)
			}
		}
	}
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// quotedMessages are the headings and list items that are all in code font. What varies in them is an ellipsis; one at the end stands for the
// rest.
func quotedMessages(page string) []string {
	var quoted []string
	for _, match := range regexp.MustCompile("(?m)^(?:###| *\\*) (?:`+ ?)([^`].*?|`.*?)(?: ?`+)$").FindAllStringSubmatch(page, -1) {
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
	eachNode(t, folders, func(n ast.Node) bool {
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
	return all.String()
}

// eachNode walks the syntax of the Go sources below the folders, tests excepted, as ast.Inspect does.
func eachNode(t *testing.T, folders []string, visit func(ast.Node) bool) {
	t.Helper()
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, visit)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
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
