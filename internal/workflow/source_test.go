package workflow

import "testing"

func TestQuotedWidth(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		`'ab' # c`: 4, `'a\' b'`: 4, `"a\" b" c`: 7, `"a\\" b"`: 5, `'ü'`: 3, `'open`: 5, `''`: 2, ``: 1,
	} {
		if got := quotedWidth(text); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

func TestNamesThatDifferInCaseOnly(t *testing.T) {
	t.Parallel()
	text := `name: t
nodes:
  A: { set: { x: 1 } }
  a: { set: { y: 1 } }
  b: { needs: [a], set: { ok: "${{ nodes.a.outputs.y }}", wrong: "${{ nodes.A.outputs.y }}" } }
`
	_, diagnostics := Compile([]byte(text))
	if len(diagnostics) != 2 || diagnostics[0].Code != "not_upstream" || diagnostics[1].Code != "unknown_output" {
		t.Fatalf("got %v", diagnostics)
	}
	for _, d := range diagnostics {
		if d.Path != "/nodes/b/set/wrong" {
			t.Errorf("the exact name is not preferred: %v", d)
		}
	}
}
