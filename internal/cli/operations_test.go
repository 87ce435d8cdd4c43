package cli

import (
	"go/ast"
	"go/token"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"foundry/internal/config"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/reconcile"
	"foundry/internal/workflow"
)

// codeSpans are what a page has in code font on one line, fences excepted.
func codeSpans(page string) []string {
	var spans []string
	for _, match := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(page, -1) {
		spans = append(spans, match[1])
	}
	return spans
}

// named are the parts of a page's code spans that match, each once.
func named(page, pattern string) []string {
	var names []string
	for _, span := range codeSpans(page) {
		names = append(names, regexp.MustCompile(pattern).FindAllString(span, -1)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestOperationsNamesEveryMetric: those that the page has exist, and those that exist are on it.
func TestOperationsNamesEveryMetric(t *testing.T) {
	t.Parallel()
	page, all := named(readPage(t, "operations.md"), `\bfoundry_[a-z_]+`), metrics(t)
	if len(all) < 25 {
		t.Fatalf("only %d metrics were found in the sources", len(all))
	}
	for _, name := range page {
		if !slices.Contains(all, name) {
			t.Errorf("docs/operations.md names the metric %s, which does not exist", name)
		}
	}
	for _, name := range all {
		if !slices.Contains(page, name) {
			t.Errorf("docs/operations.md does not name the metric %s", name)
		}
	}
}

// metrics are the names that the sources give to metrics: the field Name of options, and what descriptions begin with.
func metrics(t *testing.T) []string {
	t.Helper()
	var names []string
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(text, "foundry_") {
				names = append(names, text)
			}
		}
	}
	eachNode(t, []string{"../../internal"}, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Name" {
				add(n.Value)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "NewDesc" && len(n.Args) > 0 {
				add(n.Args[0])
			}
		}
		return true
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// TestOperationsNamesVariables: those that the page has exist, with the defaults that it says, and all of serve and worker are on it.
func TestOperationsNamesVariables(t *testing.T) {
	t.Parallel()
	page := readPage(t, "operations.md")
	all := environment()
	declared(reflect.TypeFor[config.Failpoints](), "`serve` and `worker`", all)
	commands := []string{"FOUNDRY_ATTEMPT"} // what commands see
	for _, name := range named(page, `\b(?:FOUNDRY|DATABASE)_[A-Z_]+`) {
		if all[name] == nil && !slices.Contains(commands, name) {
			t.Errorf("docs/operations.md names the variable %s, which does not exist", name)
		}
	}
	rows := map[string]string{}
	for _, match := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|(?: `([^`]*)`)? \\|").FindAllStringSubmatch(page, -1) {
		rows[match[1]] = match[2]
	}
	for name, preset := range rows {
		if v := all[name]; v == nil || !slices.Contains(v.defaults, preset) {
			t.Errorf("docs/operations.md says that %s is %q unless set", name, preset)
		}
	}
	processes := map[string]*variable{}
	declared(reflect.TypeFor[config.Serve](), "", processes)
	declared(reflect.TypeFor[config.Worker](), "", processes)
	for name := range processes {
		if _, ok := rows[name]; !ok {
			t.Errorf("the table in docs/operations.md does not have %s", name)
		}
	}
	readme := readPage(t, "../README.md")
	for name := range environment() {
		if name != "NO_COLOR" && !strings.Contains(readme, "`"+name+"`") {
			t.Errorf("README.md does not name %s", name)
		}
	}
}

// TestOperationsTellsTheTimes compares the table of times with the constants that others may see.
func TestOperationsTellsTheTimes(t *testing.T) {
	t.Parallel()
	page := readPage(t, "operations.md")
	_, table, _ := strings.Cut(page, "### Times")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, c := range []struct {
		what   string
		length time.Duration
		row    string
	}{
		{"queue.DefaultLease", queue.DefaultLease, "| a worker's lease | 30 s |"},
		{"a third of queue.DefaultLease", queue.DefaultLease / 3, "| its renewal | every third of the lease: 10 s |"},
		{"two thirds of queue.DefaultLease", queue.DefaultLease * 2 / 3, "two thirds of it: 20 s |"},
		{"reconcile.Every", reconcile.Every, "| sandboxes are reconciled | every 15 s;"},
		{"reconcile.StopAfter", reconcile.StopAfter, "stopped, destroyed | after 10 min,"},
		{"reconcile.ExpireAfter", reconcile.ExpireAfter, ", after 7 days |"},
		{"workflow.DefaultQueueTimeout", workflow.DefaultQueueTimeout, "| 24 h, 24 h |"},
		{"workflow.DefaultTimeout", workflow.DefaultTimeout, ", 24 h |"},
	} {
		said := regexp.MustCompile(`(\d+) (s|min|h|days)`).FindStringSubmatch(c.row)
		unit := map[string]time.Duration{"s": time.Second, "min": time.Minute, "h": time.Hour, "days": 24 * time.Hour}[said[2]]
		if n, err := strconv.Atoi(said[1]); err != nil || time.Duration(n)*unit != c.length || !strings.Contains(table, c.row) {
			t.Errorf("%s is %s; the table of times in docs/operations.md should have %q and agree", c.what, c.length, c.row)
		}
	}
}

// TestOperationsNamesEvents: what looks like the type of an event is one.
func TestOperationsNamesEvents(t *testing.T) {
	t.Parallel()
	said := "\n" + literals(t, "../event")
	names := named(readPage(t, "operations.md"), `^(?:execution|sandbox|node)\.[a-z_]+$`)
	if len(names) < 10 {
		t.Errorf("only %d events were found in docs/operations.md", len(names))
	}
	for _, name := range names {
		if !strings.Contains(said, "\n"+name+"\n") {
			t.Errorf("docs/operations.md names the event %s, which does not exist", name)
		}
	}
}

// TestOperationsQueriesRun has Postgres read the queries of the page.
func TestOperationsQueriesRun(t *testing.T) {
	t.Parallel()
	queries := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(readPage(t, "operations.md"), -1)
	if len(queries) == 0 {
		t.Fatal("docs/operations.md has no query")
	}
	pool := pgtest.Open(t, pgtest.Database(t), postgres.Options{})
	for _, query := range queries {
		if _, err := pool.Exec(t.Context(), query[1]); err != nil {
			t.Errorf("%v in\n%s", err, query[1])
		}
	}
}

// TestPagesLinkToWhatIsThere checks the links of the pages to each other and to their parts.
func TestPagesLinkToWhatIsThere(t *testing.T) {
	t.Parallel()
	pages := map[string]string{}
	for _, name := range []string{"api.md", "ci.md", "cli.md", "operations.md", "secrets.md", "troubleshooting.md", "workflows.md"} {
		pages[name] = readPage(t, name)
	}
	links := regexp.MustCompile(`\]\(([a-z]+\.md)?(?:#([^)]*))?\)`)
	for name, page := range pages {
		for _, match := range links.FindAllStringSubmatch(page, -1) {
			target, part := pages[name], match[2]
			if match[1] != "" {
				target = pages[match[1]]
			}
			if target == "" || part != "" && !slices.Contains(anchors(target), part) {
				t.Errorf("docs/%s links to %s, which is not there", name, match[0])
			}
		}
	}
}

// anchors are the names of a page's parts, as renderers of Markdown make them.
func anchors(page string) []string {
	var names []string
	for _, match := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^a-z0-9_ -]`).ReplaceAllString(strings.ToLower(match[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
