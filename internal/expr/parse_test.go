package expr

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		src  string
		code Code
		pos  int
		msg  string
		hint string
	}{
		{"", BadExpression, 0, "empty", ""},
		{"  ", BadExpression, 2, "empty", ""},
		{"a b", BadExpression, 2, `Unexpected "b"`, ""},
		{"a 1", BadExpression, 2, "Unexpected number", ""},
		{"a 'x'", BadExpression, 2, "Unexpected string", ""},
		{"a ==", BadExpression, 4, "Expected a value, found end", ""},
		{"== a", BadExpression, 0, `Expected a value, found "=="`, ""},
		{`a == "x"`, BadExpression, 5, `Unexpected character '"'`, "single quotes"},
		{"a = 1", BadExpression, 2, "Unexpected character '='", "=="},
		{"a & b", BadExpression, 2, "Unexpected character '&'", "&&"},
		{"a | b", BadExpression, 2, "Unexpected character '|'", "||"},
		{"1 / 2", BadExpression, 2, "Unexpected character '/'", "arithmetic"},
		{"${{ a }}", BadExpression, 0, "Unexpected character '$'", "inside another"},
		{"a ü", BadExpression, 2, "Unexpected character 'ü'", ""},
		{"'x", BadExpression, 0, "not closed", "quote"},
		{"'it''s", BadExpression, 0, "not closed", ""},
		{"(a", BadExpression, 2, `Expected ")", found end`, ""},
		{"a)", BadExpression, 1, `Unexpected ")"`, ""},
		{"a[1", BadExpression, 3, `Expected "]"`, ""},
		{"a[]", BadExpression, 2, `Expected a value, found "]"`, ""},
		{"a.", BadExpression, 2, "name of a property", "brackets"},
		{"a.1", BadExpression, 2, "name of a property", ""},
		{"a.'x'", BadExpression, 2, "name of a property", ""},
		{"a..b", BadExpression, 2, "name of a property", ""},
		{"a.*.", BadExpression, 4, "name of a property", ""},
		{"1x", BadExpression, 0, `"1x" is not a number`, ""},
		{"0xzz", BadExpression, 0, "not a number", ""},
		{"0x1ffffffff", BadExpression, 0, "not a number", ""},
		{"1_000", BadExpression, 0, "not a number", ""},
		{"1.2.3", BadExpression, 0, "not a number", ""},
		{"contains('a')", BadExpression, 0, "contains takes 2 arguments, not 1", ""},
		{"success(1)", BadExpression, 0, "success takes no arguments, not 1", ""},
		{"format()", BadExpression, 0, "format takes at least 1 argument, not 0", ""},
		{"join(1, 2, 3)", BadExpression, 0, "join takes 1 to 2 arguments, not 3", ""},
		{"toJSON(1, 2)", BadExpression, 0, "toJSON takes 1 argument, not 2", ""},
		{"contains('a' 'b')", BadExpression, 13, `Expected ",", found string`, "commas"},
		{"contains('a',)", BadExpression, 13, `Expected a value, found ")"`, ""},
		{"contains(", BadExpression, 9, "Expected a value, found end", ""},
		{"1 + contain(1, 2)", BadExpression, 2, "Unexpected character '+'", "arithmetic"},
		{"contain('a', 'b')", UnknownFunction, 0, `Unknown function "contain"`, `"contains"`},
		{"a && frmJSON('x')", UnknownFunction, 5, `Unknown function "frmJSON"`, `"fromJSON"`},
		{"hashFiles('x')", UnknownFunction, 0, `Unknown function "hashFiles"`, ""},
		{strings.Repeat("(", MaxDepth+1) + "1", BadExpression, MaxDepth, "nested more than 50", ""},
		{strings.Repeat("!", MaxDepth+1) + "1", BadExpression, MaxDepth, "nested more than 50", ""},
		{"a" + strings.Repeat(".b", maxChain+1), BadExpression, 1 + 2*maxChain, "properties in a row", ""},
		{"1" + strings.Repeat("||1", maxChain+1), BadExpression, 1 + 3*maxChain, "operators in a row", ""},
		{"format(1" + strings.Repeat(",1", maxArguments) + ")", BadExpression, 8 + 2*maxArguments, "at most 255 arguments", ""},
	} {
		t.Run(tt.src[:min(len(tt.src), 30)], func(t *testing.T) {
			t.Parallel()
			_, err := Parse(tt.src)
			if err == nil {
				t.Fatal("no error")
			}
			if err.Code != tt.code || err.Pos != tt.pos || !strings.Contains(err.Msg, tt.msg) || !strings.Contains(err.Hint, tt.hint) {
				t.Errorf("got %s at %d: %q hint %q; want %s at %d: %q hint %q", err.Code, err.Pos, err.Msg, err.Hint, tt.code, tt.pos, tt.msg, tt.hint)
			}
		})
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]Value{
		"":                            "",
		"plain { } $ }} text":         "plain { } $ }} text",
		"${{ inputs.depth }}":         3.0,
		"${{inputs.depth}}":           3.0,
		"x${{ inputs.depth }}":        "x3",
		"${{ inputs.depth }} ":        "3 ",
		"${{ 1 }}${{ 2 }}":            "12",
		"a ${{ 'b }} c' }} d":         "a b }} c d",
		"${{ '${{ x }}' }}":           "${{ x }}",
		"ü ${{ inputs.missing }}.":    "ü .",
		"${{ inputs.list }}, ${{ 1}}": "Array, 1",
		"${{ inputs.list }}":          []any{"a", "B", 3.0},
		"{{ x }}":                     "{{ x }}",
		"${{ null }}":                 nil,
	} {
		tpl, perr := ParseTemplate(src)
		if perr != nil {
			t.Errorf("%q: %v", src, perr)
			continue
		}
		got, err := tpl.Eval(testEnv())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v -want +got\n%s", src, err, diff)
		}
		if tpl.String() != src {
			t.Errorf("String() = %q, want %q", tpl.String(), src)
		}
		text, err := tpl.EvalString(testEnv())
		if err != nil || text != String(want) {
			t.Errorf("%q: EvalString = %q, %v", src, text, err)
		}
	}
}

func TestTemplateErrors(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]struct {
		pos int
		msg string
	}{
		"ab ${{ x":            {3, "not closed"},
		"ab ${{ x }":          {9, "Unexpected character '}'"},
		"ab ${{ }}":           {7, "empty"},
		"${{ 1 }} ${{ 1 2 }}": {15, "Unexpected number"},
		"${{ 'x }}":           {4, "not closed"},
	} {
		_, err := ParseTemplate(src)
		if err == nil || err.Pos != want.pos || !strings.Contains(err.Msg, want.msg) {
			t.Errorf("%q: got %+v, want %+v", src, err, want)
		}
	}
}

func TestTemplateIsBounded(t *testing.T) {
	t.Parallel()
	env := Env{Contexts: map[string]Value{"env": map[string]any{"big": strings.Repeat("x", MaxSize/2)}}}
	tpl, _ := ParseTemplate("${{ env.big }}${{ env.big }}")
	if _, err := tpl.Eval(env); err != nil {
		t.Errorf("exactly MaxSize: %v", err)
	}
	tpl, _ = ParseTemplate("${{ env.big }}${{ env.big }}!")
	if _, err := tpl.Eval(env); err == nil {
		t.Error("no error beyond MaxSize")
	}
}

func TestConstantKeepsItsType(t *testing.T) {
	t.Parallel()
	tpl := Constant(1.5, "1.50")
	if v, err := tpl.Eval(Env{}); v != 1.5 || err != nil || tpl.String() != "1.50" {
		t.Errorf("got %v, %v, %q", v, err, tpl)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	scope := Scope{Contexts: []string{"inputs", "nodes"}}
	type fault struct {
		Code Code
		Pos  int
		Hint string
	}
	for src, want := range map[string][]fault{
		"inputs.x && NODES.y":  nil,
		"input.x":              {{UnknownContext, 0, `Did you mean "inputs"?`}},
		"env.x || matrix.y":    {{ContextElsewhere, 0, "Here there are: inputs, nodes."}, {ContextElsewhere, 9, "Here there are: inputs, nodes."}},
		"always() && inputs.x": {{StatusElsewhere, 0, ""}},
		"inputs[foo.bar]":      {{UnknownContext, 7, "Here there are: inputs, nodes."}},
		"needs.a.outputs.b":    {{UnknownContext, 0, "Outputs of other nodes are nodes.KEY.outputs.NAME."}},
		"secrets.KEY":          {{UnknownContext, 0, "Secrets are environment variables of the commands; expressions never see them."}},
		"github.sha":           {{UnknownContext, 0, "What is known about the execution is in the context execution."}},
	} {
		e, err := Parse(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		var got []fault
		for _, f := range e.Check(scope) {
			got = append(got, fault{f.Code, f.Pos, f.Hint})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", src, diff)
		}
	}
	e, _ := Parse("always() && inputs.x")
	if faults := e.Check(Scope{Contexts: []string{"inputs"}, Status: true}); faults != nil {
		t.Errorf("in a condition: %v", faults)
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	for src, want := range map[string][]Reference{
		"nodes.fetch.outputs.url": {{"nodes", []string{"fetch", "outputs", "url"}, 0, []int{6, 12, 20}}},
		"Nodes['a b'][0]":         {{"nodes", []string{"a b", "0"}, 0, []int{6, 13}}},
		"nodes[inputs.key].x":     {{"nodes", nil, 0, nil}, {"inputs", []string{"key"}, 6, []int{13}}},
		"nodes.a[inputs.key].x":   {{"nodes", []string{"a"}, 0, []int{6}}, {"inputs", []string{"key"}, 8, []int{15}}},
		"nodes.*.status":          {{"nodes", []string{"*", "status"}, 0, []int{6, 8}}},
		"toJSON(nodes)":           {{"nodes", nil, 7, nil}},
		"fromJSON(env.a).b || !x": {{"env", []string{"a"}, 9, []int{13}}, {"x", nil, 22, nil}},
		"(inputs.a || env.b).c":   {{"inputs", []string{"a"}, 1, []int{8}}, {"env", []string{"b"}, 13, []int{17}}},
		"1 == 2":                  nil,
	} {
		e, err := Parse(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if diff := cmp.Diff(want, e.References()); diff != "" {
			t.Errorf("%s: -want +got\n%s", src, diff)
		}
	}
	tpl, _ := ParseTemplate("a ${{ inputs.x }} ${{ env.y }}")
	want := []Reference{{"inputs", []string{"x"}, 6, []int{13}}, {"env", []string{"y"}, 22, []int{26}}}
	if diff := cmp.Diff(want, tpl.References()); diff != "" {
		t.Errorf("template: -want +got\n%s", diff)
	}
}

func TestUsesStatus(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]bool{
		"inputs.x": false, "!inputs[success()]": true, "contains('a', 'b') && cancelled()": true, "'success()'": false,
	} {
		e, err := Parse(src)
		if err != nil || e.UsesStatus() != want {
			t.Errorf("%s: %v, want %v", src, err, want)
		}
	}
}
