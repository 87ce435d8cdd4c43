package workflow

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
)

const pathHint = "Write a relative path with slashes and without .. in it, as in data/input.csv."

// files reads the map from paths in the workspace to paths beside the text.
func (c *compiler) files(v *value) []File {
	if !c.shaped(v, shapeMap) {
		return nil
	}
	var list []File
	for _, e := range v.entries {
		to, ok := inside(e.key)
		if !ok {
			c.fault(e.span, e.path, "bad_path", fmt.Sprintf("%q is not a path inside the workspace.", e.key), pathHint)
		}
		text, isPlain := c.plain(e.value)
		from, inFolder := inside(text)
		if isPlain && !inFolder {
			c.fault(e.value.span, e.path, "bad_path", fmt.Sprintf("%q is not a path beside the workflow's text.", text), pathHint)
		}
		if !ok || !isPlain || !inFolder {
			continue
		}
		if at := slices.IndexFunc(list, func(f File) bool { return collide(f.Path, to) }); at >= 0 {
			c.fault(e.span, e.path, "conflict", collision(list[at].Path, to), "")
			continue
		}
		list = append(list, File{Path: to, Source: from, Line: e.span.line, Column: e.span.column})
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

// collide reports whether two files cannot be in one workspace.
func collide(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
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
	var r report
	var total int64
	rest := make(map[string]bool, len(given))
	for name, size := range given {
		total += size
		rest[name] = true
	}
	for _, f := range d.Files {
		if !rest[f.Path] {
			r.fault(fileSpan(f), "/files/"+escapePointer(f.Path), "file_missing", fmt.Sprintf("The file %q did not come with the text.", f.Source), "")
		}
		delete(rest, f.Path)
	}
	top := span{line: 1, column: 1, endLine: 1, endColumn: 1}
	if len(d.Files) > 0 {
		top = fileSpan(d.Files[0])
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		r.fault(top, "/files", "file_unlisted", fmt.Sprintf("The file %q came with the text, which does not list it.", name), "Add it to files.")
	}
	if total > MaxFiles {
		r.fault(top, "/files", "too_large", fmt.Sprintf("The files of a version have at most %d MiB together; these have %d bytes.", MaxFiles>>20, total), "")
	}
	return sorted(r.list)
}

func fileSpan(f File) span {
	return span{line: f.Line, column: f.Column, endLine: f.Line, endColumn: f.Column + len([]rune(f.Path))}
}
