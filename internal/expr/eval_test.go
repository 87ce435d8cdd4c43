package expr

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testEnv() Env {
	return Env{
		Contexts: map[string]Value{
			"inputs": map[string]any{"depth": 3.0, "name": "Ada", "empty": "", "on": true, "list": []any{"a", "B", 3.0}},
			"nodes": map[string]any{
				"fetch": map[string]any{"status": "completed", "outputs": map[string]any{"parts": "[1, 2, 3]", "Url": "https://x"}},
				"sign-off": map[string]any{
					"status":  "skipped",
					"outputs": map[string]any{},
				},
			},
			"execution": map[string]any{"id": "0198"},
			"env": map[string]any{"people": []any{
				map[string]any{"name": "Ada", "tags": []any{"x", "y"}},
				map[string]any{"name": "Bob", "tags": []any{"z"}},
				map[string]any{"other": 1.0},
				"text",
			}},
		},
		Status: &Status{Success: true},
	}
}

func TestEval(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]Value{
		// Literals.
		"null": nil, "true": true, "false": false, "711": 711.0, "-9.2": -9.2, "0xff": 255.0, "0o17": 15.0,
		"-2.99e-2": -0.0299, "1e3": 1000.0, ".5": 0.5, "+7": 7.0, "Infinity": math.Inf(1), "-Infinity": math.Inf(-1),
		"'Mona the Octocat'": "Mona the Octocat", "'It''s open source!'": "It's open source!", "''": "", "'ü}}'": "ü}}",

		// Access, without regard to case, null where there is nothing.
		"inputs.depth": 3.0, "INPUTS.Depth": 3.0, "inputs['depth']": 3.0, "inputs.missing": nil, "inputs.missing.more.still": nil,
		"nodes.sign-off.status": "skipped", "nodes['sign-off'].status": "skipped", "nodes.fetch.outputs.url": "https://x",
		"inputs.list[0]": "a", "inputs.list[1.9]": "B", "inputs.list['2']": 3.0, "inputs.list[3]": nil, "inputs.list[-1]": nil,
		"inputs.list[NaN]": nil, "inputs.list.length": nil, "inputs.name[0]": nil, "matrix.x": nil, "inputs[null]": nil,
		"inputs[inputs.list]": nil, "fromJSON('[1, 2]')[1]": 2.0, "(inputs).depth": 3.0,

		// The filter.
		"env.people.*.name":             []any{"Ada", "Bob"},
		"env.people[*].name":            []any{"Ada", "Bob"},
		"env.people.*.tags.*":           []any{"x", "y", "z"},
		"env.people.*.tags[0]":          []any{"x", "z"},
		"nodes.*.status":                []any{"completed", "skipped"},
		"inputs.name.*":                 []any{},
		"inputs.missing.*.x":            []any{},
		"join(env.people.*.name, '+')":  "Ada+Bob",
		"contains(nodes.*.status, 'X')": false,

		// Operators and precedence.
		"!true": false, "!''": true, "!!'x'": true, "1 < 2": true, "2 <= 2": true, "3 > 4": false, "3 >= 3": true,
		"1 == 1": true, "1 != 1": false, "'a' && 'b'": "b", "'' && 'b'": "", "'a' || 'b'": "a", "null || 'b'": "b", "0 || null": nil,
		"false && false || true": true, "true || false && false": true, "false && (true || true)": false, "1 < 2 == true": true,
		"!inputs.missing == true": true, "!(1 == 2)": true, "'a' == 'a' && 2 > 1": true, "1 == 1 == 1": true, "3 > 2 > 1": false,
		"inputs.on && 'yes' || 'no'": "yes", "inputs.empty && 'yes' || 'no'": "no",

		// Loose comparison: null is 0, true is 1, strings are numbers or NaN, "" is 0.
		"null == 0": true, "null == ''": true, "null == false": true, "null == null": true, "true == 1": true, "true == '1'": true,
		"false == ''": true, "true == 'true'": false, "'1.0' == 1": true, "' 12 ' == 12": true, "'0xff' == 255": true, "'x' == 0": false,
		"'' == 0": true, "NaN == NaN": false, "NaN != NaN": true, "'ABC' == 'abc'": true, "'É' == 'é'": true, "'a' < 'B'": true,
		"'b' > 'A'": true, "'10' < '9'": true, "'10' < 9": false, "null < 1": true, "null >= null": true, "null > null": false,
		"true > false": true, "false < true": true, "'x' < 1": false, "'x' >= 1": false, "inputs == inputs": true,
		"inputs == nodes": false, "inputs.list == inputs.list": true, "inputs.list == 'Array'": false, "inputs == null": false,
		"fromJSON('[1]') == fromJSON('[1]')": false, "inputs < nodes": false, "-0 == 0": true, "'1_000' == 1000": false, "'inf' == Infinity": false,
		"'Infinity' == Infinity": true, "'1e3' == 1000": true, "'0x1p4' == 16": false,

		// Functions.
		"contains('Hello world', 'LLO')": true, "contains('abc', '')": true, "contains(inputs.list, 'b')": true, "contains(inputs.list, 'c')": false,
		"contains(inputs.list, '3')": true, "contains(123, 2)": true, "contains(inputs, 'x')": false, "contains(null, '')": true,
		"startsWith('Hello', 'he')": true, "startsWith('Hello', 'lo')": false, "endsWith('Hello', 'LO')": true, "STARTSWITH('a', 'a')": true,
		"startsWith(inputs, 'O')": false, "endsWith(12.5, '.5')": true,
		"format('Hello {0} {1} {0}', 'a', 2)": "Hello a 2 a", "format('{{Hello {0}!}}', true)": "{Hello true!}", "format('x')": "x",
		"format('{10}', 0,1,2,3,4,5,6,7,8,9,'ten')": "ten", "format('{0}', inputs)": "Object", "format('{0}|{1}', null, inputs.list)": "|Array",
		"join(inputs.list)": "a,B,3", "join(inputs.list, ' - ')": "a - B - 3", "join('one')": "one", "join(null)": "", "join(inputs)": "",
		"join(fromJSON('[[1], {}, null, true]'), ';')": "Array;Object;;true", "join(inputs.list, inputs)": "a,B,3",
		"toJSON('a<b')": `"a<b"`, "toJSON(null)": "null", "toJSON(fromJSON('{\"b\":1.5,\"a\":[true,null],\"e\":[],\"o\":{}}'))": "{\n  \"a\": [\n    true,\n    null\n  ],\n  \"b\": 1.5,\n  \"e\": [],\n  \"o\": {}\n}",
		"toJSON(env.people.*.name)": "[\n  \"Ada\",\n  \"Bob\"\n]", "fromJSON('true')": true, "fromJSON('\"x\"')": "x",
		"fromJSON(nodes.fetch.outputs.parts)": []any{1.0, 2.0, 3.0}, "fromJSON('{\"a\": {\"b\": 2}}').a.b": 2.0, "fromJSON(12)": 12.0,

		// Numbers as text.
		"format('{0}', 1234567890123)": "1234567890123", "format('{0}', 1e21)": "1e+21", "format('{0}', 0.1)": "0.1", "format('{0}', -0)": "0",
		"format('{0} {1}', -Infinity, NaN)": "-Infinity NaN", "format('{0}', 1e-7)": "1e-07", "format('{0}', 1e20)": "100000000000000000000",

		// Status functions.
		"success()": true, "failure()": false, "always()": true, "canceled()": false, "cancelled()": false, "success() && inputs.depth > 1": true,
		"!cancelled() && 'go'": "go", "Always()": true,

		// White space.
		" \t\n inputs . depth \r\n": 3.0, "inputs\n[ 'depth' ]": 3.0,
	} {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			e, perr := Parse(src)
			if perr != nil {
				t.Fatalf("Parse: %v (at %d)", perr, perr.Pos)
			}
			got, err := e.Eval(testEnv())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestEvalErrors(t *testing.T) {
	t.Parallel()
	big := "format('" + strings.Repeat("{0}", 20) + "', env.big)"
	deep := strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)
	for src, want := range map[string]string{
		"fromJSON('')":             "the text is empty",
		"fromJSON('{')":            "ends too early",
		"fromJSON('{]')":           "wrong at character 2",
		"fromJSON('1 2')":          "more text",
		"fromJSON('1 x')":          "more text",
		"fromJSON('1e999')":        "out of range",
		"fromJSON(inputs.x)":       "the text is empty",
		"fromJSON('" + deep + "')": "nested more than 50 levels",
		"format('{0}')":            "asks for {0}, but there are only 0 values",
		"format('{1}', 1)":         "asks for {1}",
		"format('{', 1)":           "neither {{ nor a number",
		"format('{x}', 1)":         "neither {{ nor a number",
		"format('{00000}', 1)":     "neither {{ nor a number",
		"format('}', 1)":           "single }",
		"toJSON(NaN)":              "number that JSON does not have",
		"toJSON(Infinity)":         "number that JSON does not have",
		big:                        "larger than 1 MiB",
		"format('" + strings.Repeat("{0}", 2) + "', " + big + ")": "larger than 1 MiB",
		"join(env.bigs)":     "larger than 1 MiB",
		"toJSON(env.bigs)":   "larger than 1 MiB",
		"fromJSON(env.huge)": "larger than 1 MiB",
		strings.Repeat("contains(env.big, 'x') || ", 200) + "false": "more work than allowed",
	} {
		t.Run(src[:min(len(src), 40)], func(t *testing.T) {
			t.Parallel()
			e, perr := Parse(src)
			if perr != nil {
				t.Fatalf("Parse: %v", perr)
			}
			env := testEnv()
			big := strings.Repeat("y", 100_000)
			bigs := make([]any, 20)
			for i := range bigs {
				bigs[i] = big
			}
			env.Contexts["env"] = map[string]any{"big": big, "bigs": bigs, "huge": strings.Repeat(" ", MaxSize) + "1"}
			v, err := e.Eval(env)
			var fault *Error
			if !errors.As(err, &fault) || fault.Code != Failed || !strings.Contains(fault.Msg, want) {
				t.Errorf("got %.40v, error %v; want %q", v, err, want)
			}
		})
	}
}

func TestStatusFunctionsWithoutStatus(t *testing.T) {
	t.Parallel()
	e, _ := Parse("always()")
	if _, err := e.Eval(Env{}); err == nil {
		t.Error("always() was evaluated outside a condition")
	}
}

func TestStatusFunctionsTellTheStatus(t *testing.T) {
	t.Parallel()
	for src, want := range map[string][3]bool{ // with success, failure, canceled
		"success()":   {true, false, false},
		"failure()":   {false, true, false},
		"canceled()":  {false, false, true},
		"cancelled()": {false, false, true},
		"always()":    {true, true, true},
	} {
		for i, status := range []Status{{Success: true}, {Failure: true}, {Canceled: true}} {
			e, _ := Parse(src)
			if got, err := e.Eval(Env{Status: &status}); err != nil || got != want[i] {
				t.Errorf("%s with %+v: %v, %v", src, status, got, err)
			}
		}
	}
}

func TestShortCircuit(t *testing.T) {
	t.Parallel()
	for _, src := range []string{"true || fromJSON('')", "false && fromJSON('')"} {
		e, _ := Parse(src)
		if _, err := e.Eval(Env{}); err != nil {
			t.Errorf("%s evaluated its right side: %v", src, err)
		}
	}
}

func TestTruthy(t *testing.T) {
	t.Parallel()
	for _, v := range []Value{nil, false, 0.0, math.Copysign(0, -1), math.NaN(), ""} {
		if Truthy(v) {
			t.Errorf("%#v is truthy", v)
		}
	}
	for _, v := range []Value{true, 1.0, "false", "0", []any{}, map[string]any{}} {
		if !Truthy(v) {
			t.Errorf("%#v is not truthy", v)
		}
	}
}

func TestPropertyLookupDoesNotDependOnTheMap(t *testing.T) {
	t.Parallel()
	e, _ := Parse("env.key")
	env := Env{Contexts: map[string]Value{"env": map[string]any{"KEY": 1.0, "Key": 2.0, "kEY": 3.0}}}
	for range 20 {
		if got, _ := e.Eval(env); got != 1.0 {
			t.Fatalf("got %v, want that of KEY, the first in order", got)
		}
	}
}

func TestJSONWriterStopsAtTheLimit(t *testing.T) {
	t.Parallel()
	item := strings.Repeat("x", MaxSize/4)
	var w jsonWriter
	err := w.value([]any{item, item, item, item, item, item, item, item}, "")
	if !errors.Is(err, errTooLarge) || w.out.Len() > MaxSize+len(item)+100 {
		t.Errorf("wrote %d bytes, error %v", w.out.Len(), err)
	}
}
