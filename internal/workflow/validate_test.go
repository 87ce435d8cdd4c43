package workflow

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/errs"
)

const inputText = `name: t
inputs:
  customer: { type: string, required: true, min-length: 2, max-length: 5, pattern: "^[a-zé]+$" }
  depth: { type: integer, default: 3, minimum: 1, maximum: 10 }
  ratio: { type: number, maximum: 1 }
  sure: { type: boolean, enum: [true] }
  options: { type: object }
  tags: { type: array, min-length: 1, max-length: 2 }
  region: { enum: [eu, us], default: eu }
nodes: { a: { run: x } }
`

func inputDefinition(t *testing.T) *Definition {
	t.Helper()
	d, diagnostics := Compile([]byte(inputText))
	if d == nil {
		t.Fatal(diagnostics)
	}
	return d
}

func TestValidateInputs(t *testing.T) {
	t.Parallel()
	d := inputDefinition(t)
	for name, tt := range map[string]struct {
		raw  string
		want map[string]any
	}{
		"defaults":         {`{"customer": "acme"}`, map[string]any{}},
		"all":              {`{"customer":"aé","depth":10,"ratio":-0.5,"sure":true,"options":{"a":[1,null]},"tags":["x"],"region":"us"}`, map[string]any{"customer": "aé", "depth": 10.0, "ratio": -0.5, "sure": true, "options": map[string]any{"a": []any{1.0, nil}}, "tags": []any{"x"}, "region": "us"}},
		"null is nothing":  {`{"customer": "acme", "depth": null, "region": null, "ratio": null}`, map[string]any{}},
		"whole as decimal": {`{"customer": "acme", "depth": 4.0}`, map[string]any{"depth": 4.0}},
		"exponent":         {` {"customer": "acme", "depth": 1e1} `, map[string]any{"depth": 10.0}},
		"NUL":              {`{"customer": "acme", "options": {"\u0000": ["\u0000"]}}`, map[string]any{"options": map[string]any{"\ufffd": []any{"\ufffd"}}}},
	} {
		want := map[string]any{"customer": "acme", "depth": 3.0, "ratio": nil, "sure": nil, "options": nil, "tags": nil, "region": "eu"}
		maps.Copy(want, tt.want)
		got, details := d.ValidateInputs([]byte(tt.raw))
		if diff := cmp.Diff(want, got); diff != "" || details != nil {
			t.Errorf("%s: %v -want +got\n%s", name, details, diff)
		}
	}
}

func TestValidateInputsRefuses(t *testing.T) {
	t.Parallel()
	d := inputDefinition(t)
	for raw, want := range map[string][]errs.Detail{
		``:                       {{Pointer: "/inputs/customer", Detail: `The input "customer" is missing.`}},
		`null`:                   {{Pointer: "/inputs/customer", Detail: `The input "customer" is missing.`}},
		`{"customer": null}`:     {{Pointer: "/inputs/customer", Detail: `The input "customer" is missing.`}},
		`{"customer": 5}`:        {{Pointer: "/inputs/customer", Detail: `The input "customer" must be a string, not a number.`}},
		`{"customer": "a"}`:      {{Pointer: "/inputs/customer", Detail: `The input "customer" must have at least 2 characters, not 1.`}},
		`{"customer": "abcdef"}`: {{Pointer: "/inputs/customer", Detail: `The input "customer" must have at most 5 characters, not 6.`}},
		`{"customer": "ABC"}`:    {{Pointer: "/inputs/customer", Detail: `The input "customer" must match ^[a-zé]+$.`}},
		`{"customer": "ok", "depth": "3", "ratio": true, "sure": "x", "options": [], "tags": {}, "region": 1}`: {
			{Pointer: "/inputs/depth", Detail: `The input "depth" must be an integer, not a string.`},
			{Pointer: "/inputs/ratio", Detail: `The input "ratio" must be a number, not a boolean.`},
			{Pointer: "/inputs/sure", Detail: `The input "sure" must be a boolean, not a string.`},
			{Pointer: "/inputs/options", Detail: `The input "options" must be an object, not an array.`},
			{Pointer: "/inputs/tags", Detail: `The input "tags" must be an array, not an object.`},
			{Pointer: "/inputs/region", Detail: `The input "region" must be a string, not a number.`},
		},
		`{"customer": "ok", "depth": 0, "ratio": 1.5, "sure": false, "tags": [], "region": "xx"}`: {
			{Pointer: "/inputs/depth", Detail: `The input "depth" must be at least 1, not 0.`},
			{Pointer: "/inputs/ratio", Detail: `The input "ratio" must be at most 1, not 1.5.`},
			{Pointer: "/inputs/sure", Detail: `The input "sure" must be one of true.`},
			{Pointer: "/inputs/tags", Detail: `The input "tags" must have at least 1 item, not 0.`},
			{Pointer: "/inputs/region", Detail: `The input "region" must be one of "eu", "us".`},
		},
		`{"customer": "ok", "depth": 1.5, "tags": [1,2,3]}`: {
			{Pointer: "/inputs/depth", Detail: `The input "depth" must be a whole number, not 1.5.`},
			{Pointer: "/inputs/tags", Detail: `The input "tags" must have at most 2 items, not 3.`},
		},
		`{"customer": "ok", "depth": 9007199254740993}`: {{Pointer: "/inputs/depth", Detail: `The input "depth" must be a whole number from -9007199254740991 to 9007199254740991.`}},
		`{"customer": "ok", "dept": 1, "a/b~c": 2}`: {
			{Pointer: "/inputs/a~1b~0c", Detail: `The workflow has no input "a/b~c".`},
			{Pointer: "/inputs/dept", Detail: `The workflow has no input "dept". Did you mean "depth"?`},
		},
		`[]`:                  {{Pointer: "/inputs", Detail: "Inputs must be a JSON object of names and values, with numbers that fit a float64."}},
		`{"customer": 1e999}`: {{Pointer: "/inputs", Detail: "Inputs must be a JSON object of names and values, with numbers that fit a float64."}},
		`{"customer": `:       {{Pointer: "/inputs", Detail: "Inputs must be one JSON object."}},
		`{} {}`:               {{Pointer: "/inputs", Detail: "Inputs must be one JSON object."}},
		`{"options": ` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + `}`:                                   {{Pointer: "/inputs", Detail: "Inputs must not be nested more than 50 levels deep."}},
		`{"customer": "` + strings.Repeat("x", MaxInputs) + `"}`:                                                   {{Pointer: "/inputs", Detail: "Inputs have at most 64 KiB; these have 65552 bytes."}},
		`{"customer": "ok", "options": {"k": ` + strings.Repeat(`{"k":`, 60) + `1` + strings.Repeat("}", 61) + `}`: {{Pointer: "/inputs", Detail: "Inputs must not be nested more than 50 levels deep."}},
	} {
		got, details := d.ValidateInputs([]byte(raw))
		if diff := cmp.Diff(want, details); diff != "" || got != nil {
			t.Errorf("%.60s: %v -want +got\n%s", raw, got, diff)
		}
	}
}

func TestValidateInputsLeavesDefaultsAlone(t *testing.T) {
	t.Parallel()
	d := inputDefinition(t)
	first, _ := d.ValidateInputs([]byte(`{"customer": "acme"}`))
	first["depth"] = 99.0
	second, _ := d.ValidateInputs([]byte(`{"customer": "acme"}`))
	if second["depth"] != 3.0 {
		t.Errorf("depth is %v", second["depth"])
	}
}

func TestCheckFiles(t *testing.T) {
	t.Parallel()
	d, diagnostics := Compile(texts(t, "valid")["everything"])
	if d == nil {
		t.Fatal(diagnostics)
	}
	ok := map[string]int64{"a.txt": 1, "dir/b.sh": MaxFiles - 1, "dir/c.sh": 0}
	if got := CheckFiles(d, ok); got != nil {
		t.Errorf("all there: %v", got)
	}
	type fault struct {
		code    string
		line    int
		path    string
		message string
	}
	for name, tt := range map[string]struct {
		given map[string]int64
		want  []fault
	}{
		"missing": {map[string]int64{"a.txt": 1}, []fault{
			{"file_missing", 34, "/files/dir~1b.sh", `The file "b.sh" did not come with the text.`},
			{"file_missing", 35, "/files/dir~1c.sh", `The file "x/c.sh" did not come with the text.`},
		}},
		"unlisted": {map[string]int64{"a.txt": 1, "dir/b.sh": 1, "dir/c.sh": 1, "z": 1, "y": 1}, []fault{
			{"file_unlisted", 33, "/files", `The file "y" came with the text, which does not list it.`},
			{"file_unlisted", 33, "/files", `The file "z" came with the text, which does not list it.`},
		}},
		"too large": {map[string]int64{"a.txt": 1, "dir/b.sh": MaxFiles, "dir/c.sh": 0}, []fault{
			{"too_large", 33, "/files", "The files of a version have at most 10 MiB together; these have 10485761 bytes."},
		}},
	} {
		var got []fault
		list := CheckFiles(d, tt.given)
		for _, d := range list {
			got = append(got, fault{d.Code, d.Line, d.Path, d.Message})
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %v\nwant %v", name, got, tt.want)
		}
		wellFormed(t, texts(t, "valid")["everything"], list)
	}
	none := &Definition{}
	if got := CheckFiles(none, map[string]int64{"x": 1}); len(got) != 1 || got[0].Line != 1 {
		t.Errorf("a text without files: %v", got)
	}
}
