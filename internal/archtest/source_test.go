package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// modulePath is the import path of the repository's root.
const modulePath = "foundry"

// sourcePackage is one directory with Go files that are not tests, whatever system they are for.
type sourcePackage struct {
	path  string // import path
	name  string
	fset  *token.FileSet
	files map[string]*ast.File // by file name
}

// imports lists the import paths of all files, sorted, each once.
func (p *sourcePackage) imports() []string {
	var paths []string
	for _, file := range p.files {
		for _, spec := range file.Imports {
			if value, err := strconv.Unquote(spec.Path.Value); err == nil {
				paths = append(paths, value)
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// generated says whether no person wrote any of it.
func (p *sourcePackage) generated() bool {
	for _, file := range p.files {
		if !ast.IsGenerated(file) {
			return false
		}
	}
	return true
}

// loadPackages parses every package of the module by import path. Nested modules, testdata and hidden directories are not a part of it.
func loadPackages(t *testing.T) map[string]*sourcePackage {
	t.Helper()
	root := filepath.Join("..", "..")
	packages := map[string]*sourcePackage{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != root && skipDirectory(name, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		directory, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		return addFile(packages, path.Join(modulePath, filepath.ToSlash(directory)), name)
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

func skipDirectory(name, base string) bool {
	if strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules" {
		return true
	}
	_, err := os.Stat(filepath.Join(name, "go.mod"))
	return err == nil
}

func addFile(packages map[string]*sourcePackage, importPath, name string) error {
	p := packages[importPath]
	if p == nil {
		p = &sourcePackage{path: importPath, fset: token.NewFileSet(), files: map[string]*ast.File{}}
		packages[importPath] = p
	}
	file, err := parser.ParseFile(p.fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	p.name = file.Name.Name
	p.files[filepath.Base(name)] = file
	return nil
}

// reach returns the packages of ours that start imports, directly or not, and itself, each with the way that leads there.
func reach(packages map[string]*sourcePackage, start string) map[string]string {
	ways := map[string]string{start: start}
	for open := []string{start}; len(open) > 0; open = open[1:] {
		for _, imported := range packages[open[0]].imports() {
			if packages[imported] != nil && ways[imported] == "" {
				ways[imported] = ways[open[0]] + " → " + imported
				open = append(open, imported)
			}
		}
	}
	return ways
}
