package workflow

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const pathHint = "Write a relative path with slashes and without .. in it, as in data/input.csv."

// files reads the map from paths in the workspace to paths beside the text.
func (c *compiler) files(v *value) []File {
	if !c.shaped(v, shapeMap) {
		return nil
	}
	var list []File
	owners := make(map[string]File) // of files, and of the folders above them
	for _, e := range v.entries {
		if c.full() {
			break
		}
		to, ok := inside(e.key)
		if !ok {
			c.fault(e.mark, e.path, "bad_path", fmt.Sprintf("%q is not a path inside the workspace.", e.key), pathHint)
		}
		text, isPlain := c.plain(e.value)
		from, inFolder := inside(text)
		if isPlain && !inFolder {
			c.fault(e.value.mark, e.path, "bad_path", fmt.Sprintf("%q is not a path beside the workflow's text.", text), pathHint)
		}
		if !ok || !isPlain || !inFolder {
			continue
		}
		f := File{Path: to, Source: from, Line: e.mark.line, Column: e.mark.column}
		if other, ok := occupy(owners, f); !ok {
			c.fault(e.mark, e.path, "conflict", collision(other.Path, to), "")
			continue
		}
		list = append(list, f)
	}
	return list
}

// inside cleans a relative path; it is false for one that leads elsewhere or names a folder.
func inside(p string) (string, bool) {
	clean := path.Clean(p)
	ok := p != "" && clean != "." && len(p) <= maxPath &&
		!strings.HasPrefix(p, "/") && !strings.HasSuffix(p, "/") && !strings.Contains(p, `\`) &&
		!slices.Contains(strings.Split(p, "/"), "..") && !strings.ContainsFunc(p, unicode.IsControl)
	return clean, ok
}

// occupy enters a file, or returns the one that is in its way: at its path, or a file where
// the other needs a folder.
func occupy(owners map[string]File, f File) (File, bool) {
	if other, taken := owners[f.Path]; taken {
		return other, false
	}
	var folders []string
	for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
		if other := owners[dir]; other.Path == dir {
			return other, false
		}
		folders = append(folders, dir)
	}
	owners[f.Path] = f
	for _, dir := range folders {
		owners[dir] = f
	}
	return f, true
}

// collision says why two files cannot be in one workspace, in the order of the text.
func collision(a, b string) string {
	switch {
	case a == b:
		return fmt.Sprintf("Two files are put at %q.", a)
	case len(a) < len(b):
		return fmt.Sprintf("%q is a file, so %q cannot be inside it.", a, b)
	}
	return fmt.Sprintf("%q is inside %q, which therefore cannot be a file.", a, b)
}

// CheckFiles compares the files that came with a text (sizes in bytes by path in the
// workspace, Definition.Files[i].Path) with those that the text lists.
func CheckFiles(d *Definition, given map[string]int64) Diagnostics {
	var list Diagnostics
	fault := func(at File, path, code, message, hint string) {
		list = append(list, Diagnostic{
			Code: code, Severity: SeverityError, Message: message, Hint: hint, Path: path,
			Line: at.Line, Column: at.Column, EndLine: at.Line, EndColumn: at.Column + utf8.RuneCountInString(at.Path),
		})
	}
	var total int64
	rest := make(map[string]bool, len(given))
	for name, size := range given {
		total += size
		rest[name] = true
	}
	top := File{Line: 1, Column: 1}
	for i, f := range d.Files {
		if i == 0 {
			top = f
		}
		if !rest[f.Path] {
			fault(f, "/files/"+escapePointer(f.Path), "file_missing", fmt.Sprintf("The file %q did not come with the text.", f.Source), "")
		}
		delete(rest, f.Path)
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		fault(top, "/files", "file_unlisted", fmt.Sprintf("The file %q came with the text, which does not list it.", name), "Add it to files.")
	}
	if total > MaxFiles {
		fault(top, "/files", "too_large", fmt.Sprintf("The files of a version have at most %d MiB together; these have %d bytes.", MaxFiles>>20, total), "")
	}
	list = sorted(list)
	return list[:min(len(list), maxDiagnostics)]
}
