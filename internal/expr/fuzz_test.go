package expr

import (
	"errors"
	"testing"
)

func seed(f *testing.F) {
	for _, src := range []string{
		"success() && inputs.depth > 1", "nodes['a'].outputs.*.b[0] || !null", "format('{0}}}', 1e3, -0xff)",
		"fromJSON(toJSON(inputs)).list", "'it''s' == \"x\"", "a.b[c.d[*]].e", "((((1))))", "1<2==3>=4!=5", "x ${{ 'a}}' }} y ${{ 1",
	} {
		f.Add(src)
	}
}

// FuzzParse: no input makes the parser or the evaluation panic; faults lie within the text;
// results are bounded.
func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, src string) {
		e, perr := Parse(src)
		if perr != nil {
			inside(t, src, perr)
			return
		}
		for _, fault := range e.Check(Scope{}) {
			inside(t, src, fault)
		}
		for _, ref := range e.References() {
			if ref.Pos < 0 || ref.Pos >= len(src) || len(ref.Path) != len(ref.PathPos) {
				t.Errorf("reference %+v", ref)
			}
		}
		v, err := e.Eval(testEnv())
		if err != nil {
			var fault *Error
			if !errors.As(err, &fault) {
				t.Fatalf("error of type %T", err)
			}
			inside(t, src, fault)
		}
		if s, ok := v.(string); ok && len(s) > MaxSize {
			t.Errorf("a string of %d bytes", len(s))
		}
		again, _ := Parse(e.String())
		if again == nil || again.UsesStatus() != e.UsesStatus() {
			t.Errorf("String() = %q does not parse to the same", e)
		}
	})
}

// FuzzTemplate: what holds for expressions holds for text with expressions in it.
func FuzzTemplate(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, src string) {
		tpl, perr := ParseTemplate(src)
		if perr != nil {
			inside(t, src, perr)
			return
		}
		text, err := tpl.EvalString(testEnv())
		if err == nil && len(text) > MaxSize {
			t.Errorf("a string of %d bytes", len(text))
		}
	})
}

func inside(t *testing.T, src string, err *Error) {
	t.Helper()
	if err.Pos < 0 || err.Pos > len(src) || err.Msg == "" || err.Code == "" {
		t.Errorf("fault %+v in a text of %d bytes", err, len(src))
	}
}
