package cli

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/workflow"
)

// folder writes files and returns where they are.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const withFiles = `name: pack
files:
  data.csv: ./sub/data.csv
  run.sh: run.sh
nodes:
  go: { run: ./run.sh }
`

func TestReadTextBringsItsFiles(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"w.yaml": withFiles, "sub/data.csv": "a,b\n", "run.sh": "#!/bin/sh\n"})
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := readText(filepath.Join(dir, "w.yaml"))
	if err != nil || got.definition == nil {
		t.Fatalf("readText: %v, %v", err, got.diagnostics)
	}
	want := []workflow.Content{
		{Path: "data.csv", Bytes: []byte("a,b\n")},
		{Path: "run.sh", Bytes: []byte("#!/bin/sh\n"), Executable: true},
	}
	if diff := cmp.Diff(want, got.files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestReadTextRefusesWhatLiesElsewhere(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(folder(t, map[string]string{"secret": "s3cret"}), "secret")
	tests := []struct {
		name, source, want string
		link               string
	}{
		{"parent folder", "../secret", "is not a path beside", ""},
		{"absolute path", secret, "is not a path beside", ""},
		{"link that leads out", "./link", "cannot be read", secret},
		{"missing", "./missing", "no such file", ""},
		{"folder", "./sub", "it is no file", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t, map[string]string{
				"w.yaml": "name: pack\nfiles: { f: " + tt.source + " }\nnodes:\n  go: { run: cat f }\n", "sub/x": "",
			})
			if tt.link != "" {
				if err := os.Symlink(tt.link, filepath.Join(dir, "link")); err != nil {
					t.Fatal(err)
				}
			}
			got, err := readText(filepath.Join(dir, "w.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if got.definition != nil || !strings.Contains(got.diagnostics.Error(), tt.want) {
				t.Errorf("diagnostics %q, want one with %q", got.diagnostics.Error(), tt.want)
			}
			for _, f := range got.files {
				if bytes.Contains(f.Bytes, []byte("s3cret")) {
					t.Error("the file outside the folder was read")
				}
			}
		})
	}
}

func TestReadTextOfNoFileIsUsage(t *testing.T) {
	t.Parallel()
	_, err := readText(filepath.Join(t.TempDir(), "none.yaml"))
	var out bytes.Buffer
	if code := report(&out, err, false); code != exitUsage || !strings.Contains(out.String(), "no such file") {
		t.Errorf("exit code %d, %q", code, out.String())
	}
}

func TestPrintDiagnostics(t *testing.T) {
	t.Parallel()
	source := "name: x\n\tnödes: 1\r\nend"
	list := workflow.Diagnostics{
		{Severity: workflow.SeverityError, Message: "Unknown key.", Hint: "Mend it.", Line: 2, Column: 2, EndLine: 2, EndColumn: 7},
		{Severity: workflow.SeverityWarning, Message: "Odd.", Line: 3, Column: 1, EndLine: 4, EndColumn: 1},
		{Severity: workflow.SeverityError, Message: "Behind the end.", Line: 9, Column: 1, EndLine: 9, EndColumn: 1},
	}
	want := "w.yaml:2:2: Unknown key. Mend it.\n" +
		"   2 | \tnödes: 1\n" +
		"     | \t^^^^^\n" +
		"w.yaml:3:1: warning: Odd.\n" +
		"   3 | end\n" +
		"     | ^^^\n" +
		"w.yaml:9:1: Behind the end.\n"
	var out bytes.Buffer
	printDiagnostics(&out, "w.yaml", []byte(source), list)
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestRequestSendsFilesAsAForm(t *testing.T) {
	t.Parallel()
	text := &text{source: []byte("name: x"), files: []workflow.Content{
		{Path: `odd "name"/f`, Bytes: []byte{0, 1, 2}},
		{Path: "run.sh", Bytes: []byte("x"), Executable: true},
	}}
	r, err := text.request([]string{"workflows"}, "x")
	if err != nil {
		t.Fatal(err)
	}
	_, boundary, _ := strings.Cut(r.header.Get("Content-Type"), "boundary=")
	form := multipart.NewReader(bytes.NewReader(r.form), boundary)
	var got []string
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part.Header.Get("Content-Disposition")+" "+string(content))
	}
	want := []string{
		`form-data; name="source" name: x`,
		`form-data; name="slug" x`,
		`form-data; name="files"; filename="odd \"name\"/f" ` + "\x00\x01\x02",
		`form-data; name="files"; filename="run.sh" x`,
		`form-data; name="executable" run.sh`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

// TestDiagnosticsAreSafeToShow sends a terminal nothing that it would act upon.
func TestDiagnosticsAreSafeToShow(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"name: x\n\x1b]0;owned\x07nodes: 1\x1b[31m\n", "\x1b[2J\xff\xfe", "name: \u202ex\nnodes: {a: {run: \"\u0085\"}, b: {rnu: \u009b}}\n"} {
		_, diagnostics := workflow.Compile([]byte(source))
		if !diagnostics.Failed() {
			t.Fatalf("%q has no faults", source)
		}
		var out bytes.Buffer
		printDiagnostics(&out, "w.yaml", []byte(source), diagnostics)
		for _, r := range out.String() {
			if r != '\n' && r != '\t' && printable(r) != r {
				t.Errorf("%q is shown with %q:\n%q", source, r, out.String())
			}
		}
	}
}
