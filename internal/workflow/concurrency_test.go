package workflow

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/errs"
)

func TestEnterGroup(t *testing.T) {
	t.Parallel()
	facts := GroupFacts{Source: "api", Version: 3, Workflow: "nightly"}
	for text, c := range map[string]struct {
		inputs map[string]any
		want   *Group
		words  string // of the refusal
	}{
		"": {},
		"concurrency: deploy": {
			want: &Group{Name: "deploy", Limit: 1, OnConflict: ConflictQueue},
		},
		`concurrency: { group: "report-${{ inputs.a }}", limit: 2, on-conflict: reject }`: {
			inputs: map[string]any{"a": "acme"}, want: &Group{Name: "report-acme", Limit: 2, OnConflict: ConflictReject},
		},
		`concurrency: { group: "${{ execution.workflow }}/${{ execution.version }}/${{ execution.source }}", on-conflict: cancel-running }`: {
			want: &Group{Name: "nightly/3/api", Limit: 1, OnConflict: ConflictCancelRunning},
		},
		`concurrency: "${{ inputs.a }}é"`: {
			inputs: map[string]any{"a": strings.Repeat("é", MaxGroup-1)}, want: &Group{Name: strings.Repeat("é", MaxGroup), Limit: 1, OnConflict: ConflictQueue},
		},
		`concurrency: "${{ inputs.a }}"`:           {inputs: map[string]any{"a": nil}, words: "is empty"},
		`concurrency: " ${{ inputs.a }}"`:          {inputs: map[string]any{"a": " "}, words: "is empty"},
		`concurrency: "x${{ inputs.a }}"`:          {inputs: map[string]any{"a": strings.Repeat("x", MaxGroup)}, words: "has 257"},
		`concurrency: "${{ fromJSON(inputs.a) }}"`: {inputs: map[string]any{"a": "{"}, words: "cannot be evaluated"},
		`concurrency: "a${{ format('{0}', inputs.a) }}"`: {
			inputs: map[string]any{"a": "\x00\xff"}, want: &Group{Name: "a\uFFFD\uFFFD", Limit: 1, OnConflict: ConflictQueue},
		},
	} {
		d, diagnostics := Compile([]byte("name: t\ninputs: { a: {} }\n" + text + "\nnodes: { a: { run: x } }"))
		if d == nil {
			t.Errorf("%s: %v", text, diagnostics)
			continue
		}
		got, err := d.EnterGroup(c.inputs, facts)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", text, diff)
		}
		if refused := c.words != ""; refused != (err != nil) || refused && (!errs.Is(err, errs.Validation) || !strings.Contains(errs.MessageOf(err, ""), c.words)) {
			t.Errorf("%s: %v, want %q", text, err, c.words)
		}
	}
}
