package httpapi

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestRequestsAreLimitedPerPrincipal(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Reads, c.Writes = Rate{PerSecond: 0.01, Burst: 3}, Rate{PerSecond: 0.001, Burst: 1} })
	get := func(headers ...string) answer {
		return b.call(t, http.MethodGet, apiPrefix+"/workflows", nil, headers...)
	}
	began := time.Now()
	for range 3 {
		if a := get(); a.status != http.StatusOK {
			t.Fatalf("within the burst: %d %s", a.status, a.body)
		}
	}
	a := get()
	p := wantProblem(t, a, http.StatusTooManyRequests, "too_many")
	if p.Detail != "At most 0.01 reading requests a second are answered, after a burst of 3; try again later." {
		t.Errorf("the sentence is %q", p.Detail)
	}
	// One in 100 seconds, of which some have gone by since the burst began.
	after, err := strconv.Atoi(a.header.Get("Retry-After"))
	if gone := time.Since(began); err != nil || after > 100 || time.Duration(after)*time.Second < 100*time.Second-gone {
		t.Errorf("Retry-After is %q %s after the first request, want 100 less that", a.header.Get("Retry-After"), gone)
	}
	b.workflow(t, "one") // changes have a count of their own
	a = b.call(t, http.MethodPost, apiPrefix+"/workflows", map[string]any{"source": helloText, "slug": "two"})
	wantProblem(t, a, http.StatusTooManyRequests, "too_many")
	_, other := b.organization(t, "umbrella")
	if a := get("Authorization", "Bearer "+other); a.status != http.StatusOK {
		t.Errorf("another principal: %d", a.status)
	}
	if a := b.call(t, http.MethodGet, "/healthz", nil); a.status != http.StatusOK {
		t.Errorf("outside the API: %d", a.status)
	}
}

func TestLimitsRefillAndForgetTheQuietest(t *testing.T) {
	t.Parallel()
	l, now, first := newLimits(Rate{PerSecond: 10, Burst: 1}, Rate{PerSecond: 1, Burst: 1}), time.Now(), uuid.New()
	if wait := l.take(first, false, now); wait != 0 {
		t.Errorf("the first waits for %s", wait)
	}
	if wait := l.take(first, false, now); wait < 99*time.Millisecond || wait > 101*time.Millisecond {
		t.Errorf("the second waits for %s, want 100ms", wait)
	}
	if wait := l.take(first, false, now.Add(100*time.Millisecond)); wait != 0 {
		t.Errorf("after that it waits for %s", wait)
	}
	for range limitedPrincipals {
		l.take(uuid.New(), false, now)
	}
	if len(l.known) != limitedPrincipals || l.recent.Len() != limitedPrincipals {
		t.Errorf("%d principals are known", len(l.known))
	}
	if l.known[first] != nil {
		t.Error("the quietest is still known")
	}
}
