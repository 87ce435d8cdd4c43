package workflow_test

import (
	"testing"

	"foundry/internal/workflow"
)

func TestMatrixEqual(t *testing.T) {
	t.Parallel()
	matrix := func(text string) *workflow.Matrix {
		t.Helper()
		def, diagnostics := workflow.Compile([]byte("name: m\ninputs: { list: { type: array }, other: { type: array } }\nnodes: { each: { matrix: " + text + ", run: 'true' } }"))
		if diagnostics.Failed() {
			t.Fatal(diagnostics)
		}
		return def.Nodes[0].Matrix
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"{ n: [1, 2] }", "{ n: [1,   2] }", true},
		{"{ n: [1, 2] }", "{ n: [2, 1] }", false},
		{"{ n: [1, 2] }", "{ n: [1, '2'] }", false},
		{"{ n: [1, 2] }", "{ n: [1, 2, 3] }", false},
		{"{ n: [1, 2] }", "{ m: [1, 2] }", false},
		{"{ n: [1], m: [2] }", "{ m: [2], n: [1] }", false},
		{"{ n: '${{ inputs.list }}' }", "{ n: '${{ inputs.list }}' }", true},
		{"{ n: '${{ inputs.list }}' }", "{ n: '${{ inputs.other }}' }", false},
		{"{ n: ['${{ join(inputs.list) }}', b] }", "{ n: ['${{ join(inputs.list) }}', b] }", true},
	} {
		if got := matrix(c.a).Equal(matrix(c.b)); got != c.want {
			t.Errorf("%s and %s: equal is %t", c.a, c.b, got)
		}
	}
}
