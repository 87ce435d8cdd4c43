package workflow

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/errs"
	"foundry/internal/expr"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got, as JSON, with a file.
func golden(t *testing.T, path string, got any) {
	t.Helper()
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(got); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("%s (run with -update to accept): -want +got\n%s", path, diff)
	}
}

// texts returns the files of a folder by name.
func texts(t testing.TB, folder string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no texts in %s: %v", folder, err)
	}
	files := make(map[string][]byte, len(paths))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(filepath.Base(path), ".yaml")] = text
	}
	return files
}

func TestValid(t *testing.T) {
	t.Parallel()
	for name, text := range texts(t, "valid") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, diagnostics := Compile(text)
			if d == nil {
				t.Fatal(diagnostics)
			}
			golden(t, filepath.Join("testdata", "valid", name+".golden"), summarize(d, diagnostics))
			loaded, err := Load(text, Grammar)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(summarize(d, nil), summarize(loaded, nil)); diff != "" {
				t.Errorf("Load is not Compile: -compiled +loaded\n%s", diff)
			}
		})
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	for name, text := range texts(t, "invalid") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, diagnostics := Compile(text)
			if d != nil || !diagnostics.Failed() {
				t.Fatalf("accepted, with %v", diagnostics)
			}
			wellFormed(t, text, diagnostics)
			golden(t, filepath.Join("testdata", "invalid", name+".golden"), diagnostics)
		})
	}
}

// wellFormed checks what holds for all diagnostics: codes and sentences, sorted, within the
// text.
func wellFormed(t *testing.T, text []byte, diagnostics Diagnostics) {
	t.Helper()
	lines := strings.Split(strings.TrimPrefix(string(text), "\ufeff"), "\n")
	for i, d := range diagnostics {
		if d.Code == "" || d.Path != "" && d.Path[0] != '/' || d.Severity != SeverityError && d.Severity != SeverityWarning {
			t.Errorf("incomplete: %+v", d)
		}
		for _, sentence := range []string{d.Message, d.Hint} {
			if sentence != "" && !strings.ContainsRune(".?", rune(sentence[len(sentence)-1])) {
				t.Errorf("not a sentence: %q", sentence)
			}
		}
		if d.Line < 1 || d.Line > len(lines) || d.EndLine < d.Line || d.EndLine > len(lines) || d.Column < 1 || d.EndColumn < 1 {
			t.Errorf("outside the text: %+v", d)
			continue
		}
		if d.Column > len([]rune(lines[d.Line-1]))+1 || d.EndColumn > len([]rune(lines[d.EndLine-1]))+1 || d.Line == d.EndLine && d.EndColumn < d.Column {
			t.Errorf("outside its line: %+v", d)
		}
		if i > 0 && (d.Line < diagnostics[i-1].Line || d.Line == diagnostics[i-1].Line && d.Column < diagnostics[i-1].Column) {
			t.Errorf("not sorted: %+v", d)
		}
	}
}

func many(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// nested is a text of n keys, each inside the one before.
func nested(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "k:\n")
	}
	return b.String()
}

func TestLimits(t *testing.T) {
	t.Parallel()
	head := "name: t\nnodes:\n"
	for name, tt := range map[string]struct {
		text    string
		code    string
		line    int
		message string
	}{
		"text":          {head + strings.Repeat("#", MaxSource), "too_large", 1, "at most 256 KiB; this one has 262159 bytes"},
		"nodes":         {head + many(1001, "  n%d: { run: x }\n"), "too_large", 1003, "at most 1000 nodes; this one has 1001"},
		"entries":       {head + many(2000, "  n%d: { run: x }\n"), "too_large", 1027, "more than 1024 entries"},
		"flow entries":  {head + "  a: { run: x, retry-on: [" + strings.Repeat("1, ", 2000) + "1] }\n", "too_large", 3, "more than 1024 entries"},
		"flow depth":    {head + strings.Repeat("[", 100_000), "too_large", 3, "nested more than 64 levels"},
		"maps in flow":  {head + strings.Repeat("{a: ", 50_000), "too_large", 3, "nested more than 64 levels"},
		"lists in line": {head + strings.Repeat("- ", 100_000), "too_large", 3, "nested more than 64 levels"},
		"keys in line":  {head + strings.Repeat("? ", 100_000), "too_large", 3, "nested more than 64 levels"},
		"block depth":   {nested(100), "too_large", 65, "nested more than 64 levels"},
		"description":   {"description: " + strings.Repeat("x", 4097) + "\n" + head + "  a: { run: x }\n", "too_large", 1, "at most 4 KiB; this one has 4097 bytes"},
		"variable":      {head + "  a: { run: x, env: { " + strings.Repeat("X", 129) + ": 1 } }\n", "too_large", 3, "at most 128 characters; this one has 129"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, diagnostics := Compile([]byte(tt.text))
			if len(diagnostics) != 1 || diagnostics[0].Code != tt.code || diagnostics[0].Line != tt.line || !strings.Contains(diagnostics[0].Message, tt.message) {
				t.Errorf("got %.300v; want %s in line %d: %s", diagnostics, tt.code, tt.line, tt.message)
			}
			wellFormed(t, []byte(tt.text), diagnostics)
		})
	}
}

func TestAtTheLimits(t *testing.T) {
	t.Parallel()
	text := "name: t\nnodes:\n" + many(1000, "  n%d: { run: x }\n")
	text += strings.Repeat("#", MaxSource-len(text)-1) + "\n"
	d, diagnostics := Compile([]byte(text))
	if d == nil {
		t.Fatal(diagnostics)
	}
	if len(d.Nodes) != 1000 || d.Graph.Len() != 1000 {
		t.Errorf("%d nodes", len(d.Nodes))
	}
}

func TestLongWordsAreCutInMessages(t *testing.T) {
	t.Parallel()
	_, diagnostics := Compile([]byte("name: t\nnodes:\n  a: { run: x, " + strings.Repeat("x", 100_000) + ": 1 }\n"))
	if len(diagnostics) != 1 || len(diagnostics[0].Message) > 400 || !strings.HasPrefix(diagnostics[0].Message, "Unknown key \"xxx") || !strings.HasSuffix(diagnostics[0].Message, "xxx\".") {
		t.Errorf("got %.1000v", diagnostics)
	}
}

func TestDiagnosticsAreBounded(t *testing.T) {
	t.Parallel()
	_, diagnostics := Compile([]byte("name: t\n" + many(900, "k%d: 1\n")))
	if len(diagnostics) != maxDiagnostics {
		t.Errorf("%d diagnostics", len(diagnostics))
	}
	warnings := "name: t\ninputs:\n" + many(500, "  i%d: { required: true, default: x }\n") + "nodes:\n  a: { run: x }\n"
	if d, diagnostics := Compile([]byte(warnings)); d == nil || len(diagnostics) != maxDiagnostics {
		t.Errorf("%d warnings, definition %v", len(diagnostics), d != nil)
	}
	if d, diagnostics := Compile([]byte(warnings + "outputs: 5\n")); d != nil || !diagnostics.Failed() {
		t.Error("warnings crowd out an error")
	}
}

// TestLoadTakesWhatCompileNowRefuses is the promise that text which was accepted once
// compiles for ever: checks of new versions are not made again.
func TestLoadTakesWhatCompileNowRefuses(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bad-reference"} {
		text := texts(t, "invalid")[name]
		d, err := Load(text, Grammar)
		if err != nil || d.Graph == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	text := []byte("name: t\nnodes:\n  a: { run: x }\n" + strings.Repeat("#", MaxSource))
	if _, err := Load(text, Grammar); err != nil {
		t.Errorf("larger than today's limit: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	_, err := Load([]byte("name: [t"), Grammar)
	if !errs.Is(err, errs.Internal) {
		t.Errorf("broken text: %v", err)
	}
	if list, ok := errors.AsType[Diagnostics](err); !ok || len(list) != 1 {
		t.Errorf("the error does not carry the diagnostics: %v", err)
	}
	if _, err := Load([]byte("name: t\nnodes: {a: {run: x}}"), Grammar+1); !errs.Is(err, errs.Internal) {
		t.Errorf("unknown grammar: %v", err)
	}
}

func TestNode(t *testing.T) {
	t.Parallel()
	d, _ := Compile(texts(t, "valid")["nightly-report"])
	if n, ok := d.Node("crunch"); !ok || n.Key != "crunch" || n.Timeout != 10*time.Minute {
		t.Errorf("got %+v", n)
	}
	if _, ok := d.Node("nothing"); ok {
		t.Error("there is a node called nothing")
	}
}

func TestRetriesDelay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		retries Retries
		want    []time.Duration
	}{
		{Retries{Backoff: Exponential, Initial: 2 * time.Second, MaxDelay: 10 * time.Second}, []time.Duration{2e9, 4e9, 8e9, 10e9, 10e9}},
		{Retries{Backoff: Constant, Initial: 2 * time.Second, MaxDelay: 10 * time.Second}, []time.Duration{2e9, 2e9, 2e9}},
		{Retries{Backoff: Exponential, Initial: MaxDuration, MaxDelay: MaxDuration}, []time.Duration{MaxDuration, MaxDuration}},
	} {
		for i, want := range tt.want {
			if got := tt.retries.Delay(i + 1); got != want {
				t.Errorf("%+v: delay %d is %s, want %s", tt.retries, i+1, got, want)
			}
		}
	}
	if got := (Retries{Backoff: Exponential, Initial: 1, MaxDelay: MaxDuration}).Delay(1 << 30); got != MaxDuration {
		t.Errorf("many failures: %s", got)
	}
}

// TestValuesOfExpressions evaluates what was compiled: types are kept, numbers in an
// environment are as written.
func TestValuesOfExpressions(t *testing.T) {
	t.Parallel()
	d, diagnostics := Compile(texts(t, "valid")["everything"])
	if d == nil {
		t.Fatal(diagnostics)
	}
	env := expr.Env{Contexts: map[string]any{
		"inputs":    map[string]any{"text": "abc", "count": 16.0, "needed": "me"},
		"execution": map[string]any{"id": "7"},
		"env":       map[string]any{"WHO": "me in 7"},
	}}
	got := make(map[string]any)
	for _, v := range d.Env {
		value, err := v.Value.Eval(env)
		if err != nil {
			t.Fatal(err)
		}
		got[v.Name] = value
	}
	n, _ := d.Node("prepare")
	for _, out := range n.Set {
		value, err := out.Value.Eval(env)
		if err != nil {
			t.Fatal(err)
		}
		got[out.Name] = value
	}
	want := map[string]any{
		"VERSION": "1.10", "DEBUG": "true", "WHO": "me in 7",
		"greeting": "Hello abc, me in 7", "number": 3.0, "exact": 16.0, "yes": true, "quoted": "1.50",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// FuzzCompile: no text makes the compiler panic, and diagnostics lie within the text.
func FuzzCompile(f *testing.F) {
	for _, folder := range []string{"valid", "invalid"} {
		for _, text := range texts(f, folder) {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, diagnostics := Compile(text)
		if (d == nil) != diagnostics.Failed() {
			t.Fatalf("definition %v with %v", d != nil, diagnostics)
		}
		wellFormed(t, text, diagnostics)
		if d == nil {
			return
		}
		if _, err := Load(text, Grammar); err != nil {
			t.Errorf("accepted, but not loaded: %v", err)
		}
		if _, details := d.ValidateInputs([]byte("{}")); details == nil && len(d.Nodes) != d.Graph.Len() {
			t.Error("the graph has other nodes than the definition")
		}
	})
}

// BenchmarkCompile is a text of 1,000 nodes in layers of 100.
func BenchmarkCompile(b *testing.B) {
	var text strings.Builder
	text.WriteString("name: t\nnodes:\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "  n%d:\n    run: echo \"$A\"\n", i)
		if i >= 100 {
			fmt.Fprintf(&text, "    needs: [n%d, n%d]\n    env:\n      A: ${{ nodes.n%d.outputs.x }}\n", i-100, i-99, i-100)
		}
	}
	for b.Loop() {
		if d, diagnostics := Compile([]byte(text.String())); d == nil {
			b.Fatal(diagnostics)
		}
	}
}
