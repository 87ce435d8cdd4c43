package shim

import (
	"maps"
	"strings"
	"testing"
)

func TestParseOutputs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content string
		want    map[string]string
		err     string
	}{
		"nothing":                 {"", nil, ""},
		"one":                     {"a=b\n", map[string]string{"a": "b"}, ""},
		"no line feed at the end": {"a=b", map[string]string{"a": "b"}, ""},
		"empty value":             {"a=\n", map[string]string{"a": ""}, ""},
		"value with signs":        {"a=b=c<<d\n", map[string]string{"a": "b=c<<d"}, ""},
		"spaces stay":             {"a= b \r\n", map[string]string{"a": " b \r"}, ""},
		"odd bytes":               {"a=\x00\xff\n", map[string]string{"a": "\x00\xff"}, ""},
		"empty lines":             {"\n\na=b\n\n", map[string]string{"a": "b"}, ""},
		"the last value holds":    {"a=1\na=2\n", map[string]string{"a": "2"}, ""},
		"names":                   {"_a-1=x\n", map[string]string{"_a-1": "x"}, ""},
		"block":                   {"a<<E\none\ntwo\nE\nb=c\n", map[string]string{"a": "one\ntwo", "b": "c"}, ""},
		"empty block":             {"a<<E\nE\n", map[string]string{"a": ""}, ""},
		"block of a line feed":    {"a<<E\n\n\nE\n", map[string]string{"a": "\n"}, ""},
		"block at the end":        {"a<<E\nx\nE", map[string]string{"a": "x"}, ""},
		"entries in a block":      {"a<<E\nb=c\nE2\nE\n", map[string]string{"a": "b=c\nE2"}, ""},
		"no sign":                 {"a=b\nhello\n", nil, "Line 2 of the outputs is neither"},
		"no name":                 {"=b\n", nil, "Line 1 of the outputs is neither"},
		"bad name":                {"a b=c\n", nil, "Line 1 of the outputs is neither"},
		"digit first":             {"1a=c\n", nil, "Line 1 of the outputs is neither"},
		"one angle":               {"a<b=c\n", nil, "needs a delimiter after a<<"},
		"no delimiter":            {"a<<\n", nil, "Line 1 of the outputs needs a delimiter"},
		"open block":              {"\na<<E\nx\n", nil, `The output a on line 2 is not closed by its delimiter`},
		"line after a block":      {"a<<E\nx\nE\nbad\n", nil, "Line 4 of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseOutputs([]byte(c.content))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || got != nil {
					t.Fatalf("got %q, %v, want error %q", got, err, c.err)
				}
				return
			}
			if err != nil || !maps.Equal(got, c.want) {
				t.Fatalf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// Whatever a name and a value are, the form with a delimiter carries them.
func FuzzParseOutputs(f *testing.F) {
	f.Add("a=b\nc<<E\nx\nE\n", "value\nE2\n")
	f.Add("\x00", "")
	f.Fuzz(func(t *testing.T, content, value string) {
		if outputs, err := ParseOutputs([]byte(content)); err != nil && outputs != nil {
			t.Fatal("outputs beside an error")
		}
		delimiter := "E"
		for strings.Contains(value, delimiter) {
			delimiter += "F"
		}
		outputs, err := ParseOutputs([]byte("name<<" + delimiter + "\n" + value + "\n" + delimiter + "\n"))
		if err != nil || outputs["name"] != value {
			t.Fatalf("%q came back as %q, %v", value, outputs, err)
		}
	})
}
