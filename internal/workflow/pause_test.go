package workflow

import (
	"slices"
	"strings"
	"testing"
	"time"

	"foundry/internal/errs"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"250ms": 250 * time.Millisecond, "90s": 90 * time.Second, "1m": time.Minute, "1h30m": 90 * time.Minute,
		"2d": 48 * time.Hour, "1d1h1m1s1ms": 25*time.Hour + time.Minute + time.Second + time.Millisecond, "0s": 0,
	} {
		if d, ok := ParseDuration(text); !ok || d != want {
			t.Errorf("%s: %s, %t", text, d, ok)
		}
	}
	for _, text := range []string{"", "1", "s", "1x", "1h1d", "1s1s", "-1s", "1.5h", " 1s", "1 s", "1D", "1w"} {
		if d, ok := ParseDuration(text); ok {
			t.Errorf("%q is %s", text, d)
		}
	}
}

func TestParseWait(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"1s": time.Second, "1000ms": time.Second, "30d": 720 * time.Hour, "720h": 720 * time.Hour} {
		if d, err := ParseWait(text); err != nil || d != want {
			t.Errorf("%s: %s, %v", text, d, err)
		}
	}
	for text, want := range map[string]string{
		"":                       `"" is not a duration.`,
		"soon":                   `"soon" is not a duration.`,
		"999ms":                  "A wait takes from 1s to 30d; this is 999ms.",
		"30d1ms":                 "A wait takes from 1s to 30d; this is 30d1ms.",
		"999999999d":             "A wait takes from 1s to 30d; this is 999999999d.",
		strings.Repeat("é", 100): `"` + strings.Repeat("é", 32) + `…" is not a duration.`,
	} {
		if _, err := ParseWait(text); !errs.Is(err, errs.Validation) || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestParseInstant(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	for _, text := range []string{"2026-12-01T08:00:00Z", "2026-12-01T08:00:00.000Z", "2026-12-01T13:30:00+05:30"} {
		if at, err := ParseInstant(text); err != nil || !at.Equal(want) {
			t.Errorf("%s: %s, %v", text, at, err)
		}
	}
	for _, text := range []string{"", "2026-12-01", "2026-12-01T08:00:00", "2026-02-30T08:00:00Z", "1764576000", "10m"} {
		if _, err := ParseInstant(text); !errs.Is(err, errs.Validation) || !strings.HasSuffix(err.Error(), " is not a time.") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestApprovalOutputs holds that the names that expressions are checked against are those that the compiler accepts.
func TestApprovalOutputs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"approved", "by", "comment", "Approved", "reason", "outputs"} {
		text := "name: t\nnodes:\n  ask: { approval: {} }\noutputs: { x: \"${{ nodes.ask.outputs." + name + " }}\" }\n"
		d, diagnostics := Compile([]byte(text))
		if known := slices.Contains(ApprovalOutputs(), strings.ToLower(name)); known != (d != nil) {
			t.Errorf("%s: %v", name, diagnostics)
		}
	}
}
