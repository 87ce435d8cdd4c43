package secret

import (
	"strings"
	"testing"

	"foundry/internal/errs"
	"foundry/internal/redact"
)

func TestCheckKey(t *testing.T) {
	t.Parallel()
	for key, fault := range map[string]string{
		"DATABASE_URL": "", "_a1": "", "x": "", "APATH": "", "LDAP": "", strings.Repeat("K", MaxKey): "",
		"": "Is not a name.", "1A": "Is not a name.", "A-B": "Is not a name.", "A B": "Is not a name.", "Ä": "Is not a name.", "A\n": "Is not a name.", "A=B": "Is not a name.",
		strings.Repeat("K", MaxKey+1): "Is too long.",
		"FOUNDRY_X":                   "Is reserved.", "foundry_x": "Is reserved.", "LD_PRELOAD": "Is reserved.", "PATH": "Is reserved.", "Path_X": "Is reserved.",
	} {
		checkFault(t, key, CheckKey(key), "/key", fault)
	}
}

func TestCheckValue(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		value string
		mask  bool
		fault string
	}{
		{"secret", true, ""},
		{"short", false, ""},
		{"short", true, "Is too short to be masked."},
		{"", false, "Is empty."},
		{"abc\x00def", true, "Is not text."},
		{"abc\xffdef", true, "Is not text."},
		{strings.Repeat("v", MaxValue), true, ""},
		{strings.Repeat("v", MaxValue+1), true, "Is too long."},
	} {
		err := CheckValue(redact.Value(tt.value), tt.mask)
		checkFault(t, tt.value[:min(10, len(tt.value))], err, "/value", tt.fault)
		if err != nil && len(tt.value) > 3 && strings.Contains(err.Error(), tt.value) {
			t.Errorf("the error repeats the value: %v", err)
		}
	}
}

func checkFault(t *testing.T, what string, err error, pointer, fault string) {
	t.Helper()
	if fault == "" {
		if err != nil {
			t.Errorf("%q: %v", what, err)
		}
		return
	}
	refused, ok := err.(*errs.Error) //nolint:errorlint // the check returns it bare
	if !ok || refused.Code != errs.Validation || len(refused.Details) != 1 || refused.Details[0] != (errs.Detail{Pointer: pointer, Detail: fault}) {
		t.Errorf("%q: got %v, want %s %s", what, err, pointer, fault)
	}
}
