package engine

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/redact"
)

const hush = "hush-hush-value"

// masking is a run that has nothing but one secret.
func masking() *run {
	return &run{redact: redact.NewSet(redact.New([]redact.Value{hush, "12345678"})), entry: &journal.Entry{}, log: zerolog.Nop()}
}

func TestMaskOutputs(t *testing.T) {
	t.Parallel()
	outputs := map[string]any{
		"plain": "text", "whole": hush, "within": "a " + hush + " b", "hex": "687573682d687573682d76616c7565", "number": 12345678.0, "other": 1234.0,
		"deep": map[string]any{"list": []any{"x", hush}}, "key": map[string]any{hush: true}, "fine": []any{"x", true, nil}, hush: "named",
	}
	got, names := masking().maskOutputs(outputs)
	want := map[string]any{
		"plain": "text", "whole": "***", "within": "***", "hex": "***", "number": "***", "other": 1234.0,
		"deep": "***", "key": "***", "fine": []any{"x", true, nil}, "***": "***",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"deep", "hex", "***", "key", "number", "whole", "within"}, names); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestFailuresAreMaskedBeforeTheyAreCut has a value lie across the limit: half of it would not be found.
func TestFailuresAreMaskedBeforeTheyAreCut(t *testing.T) {
	t.Parallel()
	r := masking()
	given := &execution.Failure{Code: "x", Message: strings.Repeat("m", maxMessage-5) + hush + "!"}
	got := r.maskFailure(given)
	if want := strings.Repeat("m", maxMessage-5) + "***!"; got.Message != want || got.Code != "x" {
		t.Errorf("got …%s", got.Message[maxMessage-10:])
	}
	if !strings.Contains(given.Message, hush) {
		t.Error("the caller's failure was changed")
	}
	if r.maskFailure(nil) != nil {
		t.Error("no failure became one")
	}
}

func TestEventsAreMasked(t *testing.T) {
	t.Parallel()
	r := masking()
	r.record(event.Warning, uuid.Nil, map[string]any{"a": "x " + hush, "b": []any{map[string]any{hush: hush}}, "n": 1})
	r.warnMasked(uuid.Nil, []string{"token"})
	var events []map[string]any
	for _, record := range r.entry.Records {
		data := map[string]any{}
		if err := json.Unmarshal(record.Data, &data); err != nil {
			t.Fatal(err)
		}
		events = append(events, data)
	}
	want := []map[string]any{
		{"a": "x ***", "b": []any{map[string]any{"***": "***"}}, "n": 1.0},
		{"code": "output_redacted", "output": "token", "message": "The output token holds a secret and was stored as ***."},
	}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
