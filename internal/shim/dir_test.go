package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The state is a function of files and the lock, also of those that a crash leaves.
func TestStateOfADirectory(t *testing.T) {
	t.Parallel()
	const exit = `{"reason":"exited","output_size":3}`
	for name, c := range map[string]struct {
		files map[string]string
		want  State
	}{
		"empty":                          {nil, New},
		"with a spec":                    {map[string]string{SpecFile: "{}", lockFile: ""}, New},
		"sealed":                         {map[string]string{StartedFile: sealedWord}, Sealed},
		"no exit and nobody":             {map[string]string{StartedFile: "started", lockFile: ""}, Lost},
		"no lock file":                   {map[string]string{StartedFile: "started"}, Lost},
		"a claim that was not finished":  {map[string]string{StartedFile: "", lockFile: ""}, Lost},
		"ended":                          {map[string]string{StartedFile: "started", exitFile: exit, OutputFile: "123"}, Ended},
		"an exit that is not whole":      {map[string]string{StartedFile: "started", exitFile: exit[:9], OutputFile: "123"}, Lost},
		"an empty exit":                  {map[string]string{StartedFile: "started", exitFile: "", OutputFile: "123"}, Lost},
		"an exit of zeros":               {map[string]string{StartedFile: "started", exitFile: "\x00\x00", OutputFile: "123"}, Lost},
		"output shorter than the exit's": {map[string]string{StartedFile: "started", exitFile: exit, OutputFile: "12"}, Lost},
		"an exit aside":                  {map[string]string{StartedFile: "started", exitFile + ".tmp": exit}, Lost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := directory{t.TempDir()}
			for name, content := range c.files {
				if err := os.WriteFile(d.file(name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			state, exit, err := d.state()
			if err != nil || state != c.want || (exit != nil) != (c.want == Ended) {
				t.Fatalf("state is %q, %+v, %v, want %q", state, exit, err, c.want)
			}
		})
	}
}

func TestUnusableIsolationIsAnError(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "{", "{}", `{"argv":["bwrap"]}`} {
		root := t.TempDir()
		if err := os.WriteFile(filepath.Join(root, IsolationFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if iso, err := (directory{filepath.Join(root, "run")}).isolation(); err == nil {
			t.Fatalf("%q is %+v", content, iso)
		}
	}
	if iso, err := (directory{filepath.Join(t.TempDir(), "run")}).isolation(); err != nil || iso != nil {
		t.Fatalf("no file is %+v, %v", iso, err)
	}
}

func TestEnvironmentSurvivesTheStartCall(t *testing.T) {
	t.Parallel()
	escaped := EscapeEnv([]string{"A=1", "LD_PRELOAD=x", "=bad", "bad", "EMPTY=", "B==\n"})
	own, command := splitEnv(append([]string{"PATH=/bin"}, escaped...))
	if got := strings.Join(own, "|"); got != "PATH=/bin" {
		t.Fatalf("the shim's own is %q", got)
	}
	if got := strings.Join(command, "|"); got != "PATH=/bin|A=1|LD_PRELOAD=x|EMPTY=|B==\n" {
		t.Fatalf("the command's is %q", got)
	}
	if got := strings.Join(lastOfEach([]string{"A=1", "B=2", "PWD=/x", "A=3"}), "|"); got != "B=2|A=3" {
		t.Fatalf("without repeats it is %q", got)
	}
}

func TestSpecHasDefaults(t *testing.T) {
	t.Parallel()
	s := Spec{}.withDefaults()
	if s.Grace != 10*time.Second || s.OutputLimit != 64<<20 || s.OutputsLimit != 256<<10 || s.SummaryLimit != 256<<10 {
		t.Errorf("an empty spec means %+v", s)
	}
	if s = (Spec{Grace: time.Minute, OutputLimit: 1, OutputsLimit: 2, SummaryLimit: 3}); s.withDefaults().Grace != s.Grace || s.withDefaults().OutputLimit != 1 {
		t.Errorf("%+v becomes %+v", s, s.withDefaults())
	}
}

func TestTailArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"root", "--wait"},
		{"root", "--wait", "soon"},
		{"root", "name"},
		{"root", "name:"},
		{"root", "name:x"},
		{"root", "name:-2"},
		{"root", "../name:0"},
		{"root", ":0"},
	} {
		if _, err := parseTail(args); err == nil {
			t.Fatalf("%q was taken", args)
		}
	}
	tail, err := parseTail([]string{"root", "a:0", "--wait", "2s", "b:-1"})
	if err != nil || tail.root != "root" || tail.wait.Seconds() != 2 || tail.offsets["a"] != 0 || tail.offsets["b"] != Done {
		t.Fatalf("got %+v, %v", tail, err)
	}
}
