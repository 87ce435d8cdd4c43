package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"foundry/internal/errs"
	"foundry/internal/workflow"
)

// text is a workflow's YAML file with the files that it names.
type text struct {
	name        string // as people gave it
	source      []byte
	definition  *workflow.Definition // nil when a diagnostic is an error
	files       []workflow.Content
	diagnostics workflow.Diagnostics
}

// readText reads and compiles a file, and reads what its `files` names. Faults of the text are
// diagnostics; an error is a file that cannot be read at all.
func readText(name string) (*text, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, usage("%s cannot be read: %s.", name, reason(err))
	}
	defer file.Close()
	// One byte more than allowed is enough for the compiler to refuse it.
	source, err := io.ReadAll(io.LimitReader(file, workflow.MaxSource+1))
	if err != nil {
		return nil, usage("%s cannot be read: %s.", name, reason(err))
	}
	t := &text{name: name, source: source}
	t.definition, t.diagnostics = workflow.Compile(source)
	if t.definition == nil || len(t.definition.Files) == 0 {
		return t, nil
	}
	folder, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("opening the folder of %s: %w", name, err)
	}
	defer folder.Close()
	t.readFiles(folder)
	return t, nil
}

// readFiles reads the files that the text names. folder refuses paths and links that lead out of it.
func (t *text) readFiles(folder *os.Root) {
	sizes := map[string]int64{}
	for _, f := range t.definition.Files {
		content, err := readFile(folder, f)
		if err != nil {
			t.diagnostics = append(t.diagnostics, fileFault(f, err))
		}
		sizes[f.Path] = int64(len(content.Bytes))
		t.files = append(t.files, content)
	}
	t.diagnostics = append(t.diagnostics, workflow.CheckFiles(t.definition, sizes)...)
	if t.diagnostics.Failed() {
		t.definition = nil
	}
}

func readFile(folder *os.Root, f workflow.File) (workflow.Content, error) {
	content := workflow.Content{Path: f.Path}
	file, err := folder.Open(filepath.FromSlash(f.Source))
	if err != nil {
		return content, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return content, err
	}
	if !info.Mode().IsRegular() {
		return content, errors.New("it is no file")
	}
	content.Executable = info.Mode()&0o111 != 0
	content.Bytes, err = io.ReadAll(io.LimitReader(file, workflow.MaxFiles+1))
	return content, err
}

func fileFault(f workflow.File, err error) workflow.Diagnostic {
	d := workflow.Diagnostic{
		Code: "file_missing", Severity: workflow.SeverityError, Path: "/files",
		Message: fmt.Sprintf("The file %q cannot be read: %s.", f.Source, reason(err)),
		Line:    f.Line, Column: f.Column, EndLine: f.Line, EndColumn: f.Column + len([]rune(f.Path)),
	}
	if errors.Is(err, fs.ErrNotExist) {
		d.Hint = "Paths are taken from the folder of the workflow's text."
	}
	return d
}

// reason is the last part of a file's error, without the path that the caller names anyway.
func reason(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	return err.Error()
}

// printDiagnostics writes each fault with its place in the text:
//
//	hello.yaml:12:5: Unknown key "nedes". Did you mean "needs"?
//	  12 |     nedes: [greet]
//	     |     ^^^^^
func printDiagnostics(w io.Writer, name string, source []byte, list workflow.Diagnostics) {
	lines := strings.Split(string(source), "\n")
	for _, d := range list {
		severity := ""
		if d.Severity == workflow.SeverityWarning {
			severity = "warning: "
		}
		fmt.Fprintf(w, "%s:%d:%d: %s%s\n", name, d.Line, d.Column, severity, strings.TrimSpace(d.Message+" "+d.Hint))
		if d.Line < 1 || d.Line > len(lines) {
			continue
		}
		line := []rune(strings.TrimRight(lines[d.Line-1], "\r"))
		number := fmt.Sprintf("%4d", d.Line)
		fmt.Fprintf(w, "%s | %s\n", number, strings.Map(printable, string(line)))
		fmt.Fprintf(w, "%s | %s\n", strings.Repeat(" ", len(number)), underline(line, d))
	}
}

// printable is what a terminal may be shown of a text that anybody wrote: no escape sequences, and as many characters.
func printable(r rune) rune {
	if r == '\t' || unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}

// underline puts carets below the fault; tabs before it stay tabs, so that they line up.
func underline(line []rune, d workflow.Diagnostic) string {
	start := min(max(d.Column-1, 0), len(line))
	end := len(line)
	if d.EndLine == d.Line {
		end = min(d.EndColumn-1, len(line))
	}
	var b strings.Builder
	for _, r := range line[:start] {
		if r != '\t' {
			r = ' '
		}
		b.WriteRune(r)
	}
	b.WriteString(strings.Repeat("^", max(end-start, 1)))
	return b.String()
}

// validation is what --json prints; the API's answer to the same question has the same form.
type validation struct {
	Valid       bool                 `json:"valid"`
	Diagnostics workflow.Diagnostics `json:"diagnostics"`
}

func (t *text) validation() validation {
	v := validation{Valid: t.definition != nil, Diagnostics: t.diagnostics}
	if v.Diagnostics == nil {
		v.Diagnostics = workflow.Diagnostics{}
	}
	return v
}

// diagnosticsOf are those of an answer that refuses a text.
func diagnosticsOf(e *refusal) workflow.Diagnostics {
	raw, err := json.Marshal(e.problem.Diagnostics)
	var list workflow.Diagnostics
	if err != nil || json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return list
}

// invalidText is the error of a text that the server is not even asked about.
func invalidText(name string) error {
	return errs.E(errs.Validation, "%s is not stored.", name)
}
