package cli

import (
	"strings"
	"testing"

	"foundry/internal/workflow"
)

func TestInputs(t *testing.T) {
	t.Parallel()
	declared := []workflow.Input{
		{Name: "s", Type: workflow.InputString},
		{Name: "i", Type: workflow.InputInteger},
		{Name: "n", Type: workflow.InputNumber},
		{Name: "b", Type: workflow.InputBoolean},
		{Name: "o", Type: workflow.InputObject},
		{Name: "a", Type: workflow.InputArray},
	}
	tests := []struct {
		name    string
		args    []string
		want    string
		wantErr string
	}{
		{"nothing", nil, `{}`, ""},
		{"text stays text", []string{"s=42"}, `{"s":"42"}`, ""},
		{"text with an equals sign and spaces", []string{"s= a=b "}, `{"s":" a=b "}`, ""},
		{"empty text", []string{"s="}, `{"s":""}`, ""},
		{"integer", []string{"i=-7"}, `{"i":-7}`, ""},
		{"a large integer keeps its digits", []string{"i=9007199254740993"}, `{"i":9007199254740993}`, ""},
		{"no integer", []string{"i=7.5"}, "", `The input "i" is a whole number; "7.5" is not.`},
		{"number", []string{"n=1.5e3"}, `{"n":1.5e3}`, ""},
		{"no number", []string{"n=true"}, "", "is a number"},
		{"boolean", []string{"b=true"}, `{"b":true}`, ""},
		{"no boolean", []string{"b=yes"}, "", "is true or false"},
		{"object", []string{`o={"k": [1]}`}, `{"o":{"k":[1]}}`, ""},
		{"no object", []string{"o=[1]"}, "", "is a JSON object"},
		{"array", []string{"a=[1, 2]"}, `{"a":[1,2]}`, ""},
		{"no array", []string{"a=1,2"}, "", "is a JSON array"},
		{"undeclared ones go as text", []string{"x=1"}, `{"x":"1"}`, ""},
		{"no equals sign", []string{"s"}, "", "NAME=VALUE"},
		{"no name", []string{"=1"}, "", "NAME=VALUE"},
		{"twice", []string{"s=1", "s=2"}, "", "given twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := inputs(tt.args, declared)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("got %v, want an error with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
		})
	}
}
