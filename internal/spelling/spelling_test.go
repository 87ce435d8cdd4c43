package spelling

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	candidates := []string{"needs", "run", "set", "timeout", "retries", "retry-on", "continue-on-error"}
	for word, want := range map[string]string{
		"nedes": "needs", "need": "needs", "NEEDS": "needs", "neesd": "needs", "rnu": "run", "runs": "run", "sets": "set",
		"tiemout": "timeout", "time-out": "timeout", "retry": "", "retrys": "retries", "retry_on": "retry-on", "continue-on-eror": "continue-on-error",
		"continueOnError": "continue-on-error", "x": "", "": "", "ab": "", "strategy": "", strings.Repeat("x", 100): "",
	} {
		if got := Nearest(word, candidates); got != want {
			t.Errorf("%.20q: got %q, want %q", word, got, want)
		}
	}
	if got := Nearest("ab", []string{"ac", "ad", strings.Repeat("ab", 40)}); got != "ac" {
		t.Errorf("of two equally close words: %q", got)
	}
	if got := Nearest("x", nil); got != "" {
		t.Errorf("of none: %q", got)
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q, %q: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
