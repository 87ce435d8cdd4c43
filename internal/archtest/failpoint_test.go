package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestCommitsHaveFailpoints wants every commit of the packages that decide where an execution is between two failpoints, so that the chaos
// tests can have a process die right before it and right after.
func TestCommitsHaveFailpoints(t *testing.T) {
	t.Parallel()
	writes := writingStatements(t, filepath.Join("..", "..", "db", "queries"))
	packages := loadPackages(t)
	for _, name := range []string{"artifact", "engine", "journal", "queue", "reconcile"} {
		p := packages[modulePath+"/internal/"+name]
		if p == nil {
			t.Fatalf("there is no package %s: this test guards nothing", name)
		}
		for _, fault := range bareCommits(p, writes) {
			t.Error(fault)
		}
	}
}

// TestProvidersAreFenced wants whatever engines and reconcilers do to sandboxes to go through sandbox.Fence, which asks for the right to do it and
// has the failpoints.
func TestProvidersAreFenced(t *testing.T) {
	t.Parallel()
	packages := loadPackages(t)
	fenced := 0
	for importPath, p := range packages {
		found, faults := unfenced(p)
		fenced += found
		for _, fault := range faults {
			t.Errorf("%s: %s", importPath, fault)
		}
	}
	if fenced == 0 {
		t.Error("no provider is fenced: this test guards nothing")
	}
	for _, fault := range fenceGaps(packages[modulePath+"/internal/sandbox"]) {
		t.Error(fault)
	}
}

// writingStatements are the names of queries that change something.
func writingStatements(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no queries in %s: %v", dir, err)
	}
	writes := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		addWrites(writes, string(text))
	}
	return writes
}

var (
	queryName = regexp.MustCompile(`(?m)^-- name: (\w+) `)
	comment   = regexp.MustCompile(`(?m)--.*$`)
	writing   = regexp.MustCompile(`(?i)\b(INSERT INTO|DELETE FROM|UPDATE \w+ (\w+ )?SET)\b`)
)

func addWrites(writes map[string]bool, text string) {
	names := queryName.FindAllStringSubmatchIndex(text, -1)
	for i, at := range names {
		end := len(text)
		if i+1 < len(names) {
			end = names[i+1][0]
		}
		if writing.MatchString(comment.ReplaceAllString(text[at[1]:end], "")) {
			writes[text[at[2]:at[3]]] = true
		}
	}
}

// bareCommits finds what commits outside of failpoint.Around and failpoint.Call, and operations of theirs that are not named for the package:
// a call of tx.Commit, pgx.BeginFunc or BeginTxFunc without read-only access, and a writing query on a pool, which is one that is
// reached as x.q, or as dbsqlc.New(x.pool), also by a variable.
func bareCommits(p *sourcePackage, writes map[string]bool) []string {
	var faults []string
	say := func(node ast.Node, format string, args ...any) {
		faults = append(faults, p.fset.Position(node.Pos()).String()+": "+fmt.Sprintf(format, args...))
	}
	for _, file := range p.files {
		pools := poolQueries(file)
		var inside []ast.Node // calls of failpoint around the node that is looked at
		ast.PreorderStack(file, nil, func(node ast.Node, stack []ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			inside = slices.DeleteFunc(slices.Clone(stack), func(n ast.Node) bool { return !isFailpoint(n) })
			if operation := operationOf(call); operation != "" && !strings.HasPrefix(operation, p.name+".") {
				say(call, "the failpoint %q does not begin with %q", operation, p.name+".")
			}
			if what := commits(call, pools, writes); what != "" && len(inside) == 0 {
				say(call, "%s has no failpoints around it", what)
			}
			return true
		})
	}
	slices.Sort(faults)
	return faults
}

// commits names what a call commits, "" if nothing.
func commits(call *ast.CallExpr, pools map[string]bool, writes map[string]bool) string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	receiver, method := source(selector.X), selector.Sel.Name
	switch {
	case method == "Commit" && (receiver == "tx" || strings.HasSuffix(receiver, ".tx")):
		return receiver + ".Commit"
	case receiver == "pgx" && (method == "BeginFunc" || method == "BeginTxFunc") && !readOnly(call):
		return "pgx." + method
	case writes[method] && (strings.HasSuffix(receiver, ".q") || poolCall(selector.X) || pools[receiver]):
		return receiver + "." + method
	}
	return ""
}

func readOnly(call *ast.CallExpr) bool {
	return slices.ContainsFunc(call.Args, func(arg ast.Expr) bool { return strings.Contains(source(arg), "pgx.ReadOnly") })
}

// poolQueries are the variables of a file that are queries on a pool. A name that elsewhere in the file stands for a transaction's is
// taken for both.
func poolQueries(file *ast.File) map[string]bool {
	names := map[string]bool{}
	ast.Inspect(file, func(node ast.Node) bool {
		assign, ok := node.(*ast.AssignStmt)
		if !ok || len(assign.Lhs) != len(assign.Rhs) {
			return true
		}
		for i, value := range assign.Rhs {
			if name, ok := assign.Lhs[i].(*ast.Ident); ok && (poolCall(value) || strings.HasSuffix(source(value), ".q")) {
				names[name.Name] = true
			}
		}
		return true
	})
	return names
}

// poolCall reports whether an expression is dbsqlc.New of a pool.
func poolCall(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	return ok && source(call.Fun) == "dbsqlc.New" && len(call.Args) == 1 && strings.HasSuffix(strings.ToLower(source(call.Args[0])), "pool")
}

func isFailpoint(node ast.Node) bool {
	call, ok := node.(*ast.CallExpr)
	return ok && operationOf(call) != ""
}

// operationOf is the operation of a call of failpoint.Around or failpoint.Call, "" if it is none.
func operationOf(call *ast.CallExpr) string {
	if name := source(call.Fun); name != "failpoint.Around" && name != "failpoint.Call" || len(call.Args) != 3 {
		return ""
	}
	literal, ok := call.Args[1].(*ast.BasicLit)
	if !ok {
		return "?"
	}
	operation, err := strconv.Unquote(literal.Value)
	if err != nil || operation == "" {
		return "?"
	}
	return operation
}

// unfenced finds providers that are given to an engine or a reconciler without a fence, and calls past it. found counts those with one.
func unfenced(p *sourcePackage) (found int, faults []string) {
	if p.name == "sandbox" || strings.HasPrefix(p.path, modulePath+"/internal/sandbox/") {
		return 0, nil
	}
	takers := []string{"engine.Config", "reconcile.Config"}
	for _, file := range p.files {
		ast.Inspect(file, func(node ast.Node) bool {
			literal, ok := node.(*ast.CompositeLit)
			if !ok || literal.Type == nil || !slices.Contains(takers, source(literal.Type)) {
				return true
			}
			for _, element := range literal.Elts {
				pair, ok := element.(*ast.KeyValueExpr)
				if !ok || source(pair.Key) != "Provider" {
					continue
				}
				call, ok := pair.Value.(*ast.CallExpr)
				switch {
				case ok && source(call.Fun) == "sandbox.Fence":
					found++
				case p.name == "engine": // which was given a fenced one
				default:
					faults = append(faults, p.fset.Position(pair.Pos()).String()+": "+source(literal.Type)+" gets a provider that is not fenced")
				}
			}
			return true
		})
	}
	if p.name == "worker" {
		faults = append(faults, directCalls(p)...)
	}
	slices.Sort(faults)
	return found, faults
}

// directCalls finds what a worker does with its own provider, which only engines may, behind the fence.
func directCalls(p *sourcePackage) (faults []string) {
	for _, file := range p.files {
		ast.Inspect(file, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			selector, ok := call.Fun.(*ast.SelectorExpr)
			if ok && strings.HasSuffix(source(selector.X), ".Provider") && selector.Sel.Name != "Name" {
				faults = append(faults, p.fset.Position(call.Pos()).String()+": "+source(selector)+" is called past the fence")
			}
			return true
		})
	}
	return faults
}

// fenceGaps finds methods of the fence that make a call without it.
func fenceGaps(p *sourcePackage) (faults []string) {
	methods := 0
	for _, file := range p.files {
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok || function.Recv == nil || !strings.HasPrefix(source(function.Recv.List[0].Type), "fenced") || function.Name.Name == "Name" {
				continue
			}
			methods++
			through := false
			ast.Inspect(function.Body, func(node ast.Node) bool {
				call, ok := node.(*ast.CallExpr)
				through = through || ok && (source(call.Fun) == "fenced" || source(call.Fun) == "fencedDo")
				return true
			})
			if !through {
				faults = append(faults, p.fset.Position(function.Pos()).String()+": "+function.Name.Name+" goes past the fence")
			}
		}
	}
	if methods == 0 {
		faults = append(faults, "there is no fence in package sandbox: this test guards nothing")
	}
	return faults
}

// source is an expression as it is written, as far as the rules need it: names, selectors, calls and literals.
func source(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return source(e.X) + "." + e.Sel.Name
	case *ast.CallExpr:
		return source(e.Fun) + "()"
	case *ast.StarExpr:
		return source(e.X)
	case *ast.UnaryExpr:
		return source(e.X)
	case *ast.IndexExpr:
		return source(e.X)
	case *ast.CompositeLit:
		var elements []string
		for _, element := range e.Elts {
			if pair, ok := element.(*ast.KeyValueExpr); ok {
				element = pair.Value
			}
			elements = append(elements, source(element))
		}
		return strings.Join(elements, ",")
	}
	return "?"
}

// TestFailpointRules has the rules look at sources in which something is planted.
func TestFailpointRules(t *testing.T) {
	t.Parallel()
	writes := map[string]bool{}
	addWrites(writes, "-- name: ThingSet :exec\n-- Reads nothing.\nUPDATE things SET a = 1;\n-- name: ThingLock :one\n-- UPDATE things SET is not here.\nSELECT 1 FROM things FOR UPDATE;\n"+
		"-- name: ThingMove :many\nWITH gone AS (DELETE FROM things RETURNING id) SELECT id FROM gone;\n-- name: ThingAdd :exec\nINSERT INTO things VALUES (1);\n")
	if len(writes) != 3 || writes["ThingLock"] {
		t.Errorf("the writing statements are %v", writes)
	}
	for name, c := range map[string]struct {
		body string
		want string // a part of the one fault; empty: none
	}{
		"a commit with failpoints":    {`failpoint.Around(ctx, "queue.x", func() error { return tx.Commit(ctx) })`, ""},
		"a commit without":            {`tx.Commit(ctx)`, "tx.Commit has no failpoints"},
		"a commit beside them":        {`failpoint.Around(ctx, "queue.x", func() error { return nil }); tx.Commit(ctx)`, "tx.Commit has no failpoints"},
		"the journal's Commit":        {`s.journal.Commit(ctx, entry)`, ""},
		"a transaction without":       {`pgx.BeginFunc(ctx, s.pool, f)`, "pgx.BeginFunc has no failpoints"},
		"a transaction that reads":    {`pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, f)`, ""},
		"one that may write":          {`pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{}, f)`, "pgx.BeginTxFunc has no failpoints"},
		"a statement with failpoints": {`failpoint.Call(ctx, "queue.x", func() (int, error) { return s.q.ThingMove(ctx) })`, ""},
		"a statement without":         {`s.q.ThingMove(ctx)`, "s.q.ThingMove has no failpoints"},
		"a statement that reads":      {`s.q.ThingLock(ctx)`, ""},
		"one on the pool":             {`dbsqlc.New(s.pool).ThingSet(ctx)`, "ThingSet has no failpoints"},
		"one on the pool by a name":   {`p := dbsqlc.New(s.pool); p.ThingSet(ctx)`, "p.ThingSet has no failpoints"},
		"one in a transaction":        {`q := dbsqlc.New(tx); q.ThingSet(ctx)`, ""},
		"a name of another package":   {`failpoint.Around(ctx, "journal.x", f)`, `"journal.x" does not begin`},
		"a name that is computed":     {`failpoint.Around(ctx, name, f)`, `"?" does not begin`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkFaults(t, bareCommits(planted(t, "queue", c.body), writes), c.want)
		})
	}
}

func TestFenceRules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ pkg, body, want string }{
		"fenced":              {"worker", `engine.New(engine.Config{Provider: sandbox.Fence(w.Provider, permit)})`, ""},
		"not fenced":          {"worker", `engine.New(engine.Config{Provider: w.Provider})`, "not fenced"},
		"a reconciler's":      {"devstack", `reconcile.New(reconcile.Config{Provider: provider})`, "not fenced"},
		"an engine passes on": {"engine", `reconcile.New(reconcile.Config{Provider: c.Provider})`, ""},
		"a worker's own":      {"devstack", `worker.New(worker.Config{Provider: provider})`, ""},
		"past the fence":      {"worker", `w.Provider.Destroy(ctx, id)`, "past the fence"},
		"its name":            {"worker", `w.Provider.Name()`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, faults := unfenced(planted(t, c.pkg, c.body))
			checkFaults(t, faults, c.want)
		})
	}
	gaps := planted(t, "sandbox", "}\nfunc (f fencedBox) Name() string { return f.p.Name() }\nfunc (f fencedBox) Stop() error { return fencedDo(ctx, f.permit, stop) }\nfunc (f fencedBox) Start() error { return f.p.Start()")
	checkFaults(t, fenceGaps(gaps), "Start goes past the fence")
	checkFaults(t, fenceGaps(planted(t, "sandbox", "")), "there is no fence")
}

// planted parses one function of a package.
func planted(t *testing.T, name, body string) *sourcePackage {
	t.Helper()
	p := &sourcePackage{path: modulePath + "/planted/" + name, name: name, fset: token.NewFileSet()}
	file, err := parser.ParseFile(p.fset, "planted.go", "package "+name+"\nfunc f() {\n"+body+"\n}\n", parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	p.files = map[string]*ast.File{"planted.go": file}
	return p
}

func checkFaults(t *testing.T, faults []string, want string) {
	t.Helper()
	if want == "" && len(faults) > 0 || want != "" && (len(faults) != 1 || !strings.Contains(faults[0], want)) {
		t.Errorf("found %q, want %q", faults, want)
	}
}
