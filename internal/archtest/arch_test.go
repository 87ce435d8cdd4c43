package archtest

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestHandlersDoNotReachProviders holds the rule that a request reads rows, writes a few, or enqueues work: nothing that a handler can
// call, over any number of packages, talks to a sandbox, starts a process, wakes a fleet or is a client of anything but Postgres.
func TestHandlersDoNotReachProviders(t *testing.T) {
	t.Parallel()
	packages := loadPackages(t)
	const handlers = modulePath + "/internal/httpapi"
	if packages[handlers] == nil {
		t.Fatalf("there is no package %s: this test guards nothing", handlers)
	}
	forbidden := []string{"sandbox", "shim", "fleet", "engine", "worker", "control", "cli", "devstack", "pgdev"}

	for reached, way := range reach(packages, handlers) {
		rest, _ := strings.CutPrefix(reached, modulePath+"/internal/")
		if top, _, _ := strings.Cut(rest, "/"); slices.Contains(forbidden, top) {
			t.Errorf("a request handler reaches a provider or another process: %s", way)
		}
		if slices.Contains(packages[reached].imports(), "os/exec") {
			t.Errorf("a request handler reaches os/exec: %s", way)
		}
		for _, use := range clientUses(packages[reached]) {
			t.Errorf("a request handler reaches a network client: %s (%s)", use, way)
		}
	}
}

// clientUses finds what makes a package a client of some server: positions of names like http.Get and net.Dial. Postgres is reached through
// pgx, which does its own dialing.
func clientUses(p *sourcePackage) []string {
	clients := map[string][]string{
		"http": {"Client", "DefaultClient", "DefaultTransport", "Get", "Head", "NewRequest", "NewRequestWithContext", "Post", "PostForm", "Transport"},
		"net":  {"Dial", "DialIP", "DialTCP", "DialTimeout", "DialUDP", "DialUnix", "Dialer"},
		"tls":  {"Dial", "DialWithDialer", "Dialer"},
	}
	var uses []string
	for _, file := range p.files {
		ast.Inspect(file, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if qualifier, ok := selector.X.(*ast.Ident); ok && slices.Contains(clients[qualifier.Name], selector.Sel.Name) {
				uses = append(uses, p.fset.Position(node.Pos()).String()+": "+qualifier.Name+"."+selector.Sel.Name)
			}
			return true
		})
	}
	slices.Sort(uses)
	return uses
}

// TestPackagesAreDocumented wants "Package name …" or, for a program, "Command name …" once in every package that a person wrote.
func TestPackagesAreDocumented(t *testing.T) {
	t.Parallel()
	for importPath, p := range loadPackages(t) {
		if p.generated() {
			continue
		}
		want := "Package " + p.name + " "
		if p.name == "main" {
			want = "Command " + importPath[strings.LastIndexByte(importPath, '/')+1:] + " "
		}
		var documented []string
		for name, file := range p.files {
			if file.Doc == nil {
				continue
			}
			documented = append(documented, name)
			if !strings.HasPrefix(file.Doc.Text(), want) {
				t.Errorf("%s/%s: the package comment begins with %.30q, want %q", importPath, name, file.Doc.Text(), want)
			}
		}
		if len(documented) != 1 {
			t.Errorf("%s: %d package comments, want one: %v", importPath, len(documented), documented)
		}
	}
}

// TestProtocolsAreDrawn wants a doc.go with the states drawn and the failure cases listed in every package that keeps a
// protocol with another process.
func TestProtocolsAreDrawn(t *testing.T) {
	t.Parallel()
	packages := loadPackages(t)
	for _, name := range []string{"artifact", "queue", "journal", "reconcile", "shim", "stream", "worker"} {
		importPath := modulePath + "/internal/" + name
		p := packages[importPath]
		if p == nil {
			t.Errorf("there is no package %s", importPath)
			continue
		}
		file := p.files["doc.go"]
		if file == nil || file.Doc == nil {
			t.Errorf("%s has no doc.go with a package comment", importPath)
			continue
		}
		text := strings.ToLower(file.Doc.Text())
		if !slices.ContainsFunc([]string{"→", "->", "─▶", "-->"}, func(arrow string) bool { return strings.Contains(text, arrow) }) {
			t.Errorf("%s/doc.go draws no states", importPath)
		}
		if !strings.Contains(text, "fail") {
			t.Errorf("%s/doc.go lists no failure cases", importPath)
		}
	}
}

// TestPackageNamesSayWhat keeps out the names that say nothing of what is inside.
func TestPackageNamesSayWhat(t *testing.T) {
	t.Parallel()
	empty := []string{"util", "utils", "common", "shared", "helper", "helpers", "types", "model", "models", "manager", "base", "misc"}
	for importPath, p := range loadPackages(t) {
		if slices.Contains(empty, p.name) {
			t.Errorf("%s: %q says nothing about its one job", importPath, p.name)
		}
	}
}

// TestDocumentsNameWhatExists keeps the files that the documents name from going out of date: Markdown links to places in the repository, and
// names like `queue/claim.go`, which are relative to internal or to the root.
func TestDocumentsNameWhatExists(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	source := regexp.MustCompile("`((?:[\\w.]+/)+\\w+\\.\\w+)`")
	root := filepath.Join("..", "..")
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
		return err == nil
	}
	for _, document := range []string{"README.md", "ARCHITECTURE.md", "CHANGELOG.md"} {
		text, err := os.ReadFile(filepath.Join(root, document))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			if !exists(match[1]) {
				t.Errorf("%s links to %s, which does not exist", document, match[1])
			}
		}
		for _, match := range source.FindAllStringSubmatch(string(text), -1) {
			if name := match[1]; !strings.HasPrefix(name, ".foundry/") && !exists(name) && !exists("internal/"+name) {
				t.Errorf("%s names %s, which does not exist", document, name)
			}
		}
	}
}
