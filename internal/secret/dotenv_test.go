package secret

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/redact"
)

// line is an assignment that may be compared and shown.
type line struct {
	Key, Value string
	Line       int
}

func TestParseDotenv(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text   string
		want   []line
		faults []string
	}{
		"nothing":            {"", nil, nil},
		"comments":           {"# a\n\n   # b\n", nil, nil},
		"bare":               {"A=b c \nB=\nC=x#y\nD=x # y\n", []line{{"A", "b c", 1}, {"B", "", 2}, {"C", "x#y", 3}, {"D", "x", 4}}, nil},
		"spaces and export":  {"export A = 1\n  B=2", []line{{"A", "1", 1}, {"B", "2", 2}}, nil},
		"equals in value":    {"URL=postgres://u:p@h/d?a=b", []line{{"URL", "postgres://u:p@h/d?a=b", 1}}, nil},
		"carriage returns":   {"A=1\r\nB='x'\r\n", []line{{"A", "1", 1}, {"B", "x", 2}}, nil},
		"verbatim":           {`A='a\n$B "c" # d'` + " # e\n", []line{{"A", `a\n$B "c" # d`, 1}}, nil},
		"escapes":            {`A="a\nb\tc\"d\\e\$f\'g\h"`, []line{{"A", "a\nb\tc\"d\\e$f'g\\h", 1}}, nil},
		"over lines":         {"A=\"one\ntwo\"\nB='three\n\nfour'\nC=5", []line{{"A", "one\ntwo", 1}, {"B", "three\n\nfour", 3}, {"C", "5", 6}}, nil},
		"empty quotes":       {"A=\"\"\nB=''", []line{{"A", "", 1}, {"B", "", 2}}, nil},
		"no assignment":      {"A\nB=2", []line{{"B", "2", 2}}, []string{"line 1: this is not KEY=value with a key that may be used"}},
		"bad key":            {"1A=x\nPATH=y\nA-B=z", nil, []string{"line 1: this is not KEY=value with a key that may be used", "line 2: this is not KEY=value with a key that may be used", "line 3: this is not KEY=value with a key that may be used"}},
		"open quote":         {"A=1\nB=\"x\nC=3", []line{{"A", "1", 1}}, []string{"line 2: the quote is not closed"}},
		"text after a quote": {"A=\"x\" y\nB=2", []line{{"B", "2", 2}}, []string{"line 1: there is text after the closing quote"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, faults := parsed(tt.text)
			if diff := cmp.Diff(tt.want, found); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.faults, faults); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func parsed(text string) (found []line, faults []string) {
	assignments, errors := ParseDotenv(text)
	for _, a := range assignments {
		found = append(found, line{a.Key, string(a.Value), a.Line})
	}
	for _, e := range errors {
		faults = append(faults, e.Error())
	}
	return found, faults
}

// FuzzParseDotenv looks for texts that hang it, that name a line which does not exist, or whose assignments do not
// survive being written and read again.
func FuzzParseDotenv(f *testing.F) {
	for _, seed := range []string{"A=1\nB='x'\n", "export A=\"a\\n\nb\" # c", "A=\"", "=\n'", "A='\r\n'\r\n#", "\\\"=\"\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		found, faults := ParseDotenv(text)
		lines := strings.Count(text, "\n") + 1
		last := 0
		for _, a := range found {
			if CheckKey(a.Key) != nil || a.Line <= last || a.Line > lines {
				t.Fatalf("key %q in line %d of %d, after line %d", a.Key, a.Line, lines, last)
			}
			last = a.Line
			quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\r", `\r`).Replace(string(a.Value))
			again, wrong := parsed(fmt.Sprintf("%s=\"%s\"", a.Key, quoted))
			if len(wrong) > 0 || len(again) != 1 || again[0].Value != string(a.Value) {
				t.Fatalf("%q, written and read again, is %v (%v)", string(a.Value), again, wrong)
			}
		}
		for _, fault := range faults {
			if fault.Line < 1 || fault.Line > lines {
				t.Fatalf("a fault in line %d of %d", fault.Line, lines)
			}
		}
	})
}

// format writes an assignment as docs/secrets.md says that it is read: in double quotes, or verbatim.
func format(key, value string, verbatim bool) string {
	if verbatim {
		return "export " + key + "='" + value + "' # comment\n"
	}
	return key + ` = "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\r", `\r`).Replace(value) + "\"\n"
}

// FuzzDotenvRoundTrip writes two values, with a line between them that is none, and reads them again: the values are the same, and the fault names
// its line without repeating it.
func FuzzDotenvRoundTrip(f *testing.F) {
	for _, seed := range [][2]string{{"plain", "x"}, {"a\nb\n", "'\""}, {`\n\`, "$HOME # no comment"}, {"", "\r\n"}, {"\x00\xff", "=export A=1"}, {"'", "\t \t"}} {
		f.Add(seed[0], seed[1], "not an assignment")
	}
	f.Fuzz(func(t *testing.T, first, second, between string) {
		between = strings.Map(func(r rune) rune {
			if strings.ContainsRune("\r\n=#", r) {
				return '.'
			}
			return r
		}, between)
		verbatim := !strings.ContainsAny(first, "'\r")
		text := format("FIRST", first, verbatim) + "? " + between + "\n" + format("SECOND", second, false)
		fault := 2 + strings.Count(first, "\n")
		found, faults := ParseDotenv(text)
		if len(found) != 2 || len(faults) != 1 {
			t.Fatalf("%d assignments and %d faults in %q", len(found), len(faults), text)
		}
		want := []Assignment{{"FIRST", redact.Value(first), 1}, {"SECOND", redact.Value(second), fault + 1}}
		for n, a := range found {
			if a != want[n] {
				t.Errorf("%s in line %d is %q, want %s in line %d, %q", a.Key, a.Line, string(a.Value), want[n].Key, want[n].Line, string(want[n].Value))
			}
		}
		if got := fmt.Sprintf("line %d: this is not KEY=value with a key that may be used", fault); faults[0].Error() != got {
			t.Errorf("the fault is %q, want %q", faults[0].Error(), got)
		}
	})
}
