package httpapi

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"foundry/internal/httpapi/openapi"
	"foundry/internal/pgtest"
)

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	for name, c := range map[string]struct {
		path        string
		body, other any
		status      int
		table       string
	}{
		"workflow":  {"/workflows", map[string]any{"source": helloText, "slug": "two"}, map[string]any{"source": helloText, "slug": "three"}, http.StatusCreated, "workflows"},
		"version":   {"/workflows/one/versions", map[string]any{"source": helloText}, map[string]any{"source": helloText + "# other\n"}, http.StatusCreated, "workflow_versions WHERE version > 1"},
		"execution": {"/workflows/one/executions", map[string]any{"inputs": map[string]any{"who": "me"}}, map[string]any{"inputs": map[string]any{"who": "you"}}, http.StatusAccepted, "executions"},
	} {
		post := func(key string, body any) answer {
			return b.call(t, http.MethodPost, apiPrefix+c.path, body, "Idempotency-Key", key)
		}
		first := post("k-1", c.body)
		if first.status != c.status || first.header.Get("Idempotency-Replayed") != "" {
			t.Fatalf("%s: the first answer is %d %s", name, first.status, first.body)
		}
		count := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM "+c.table)
		again := post("k-1", c.body)
		if again.status != c.status || !bytes.Equal(again.body, first.body) || again.header.Get("Idempotency-Replayed") != "true" ||
			again.header.Get("Location") != first.header.Get("Location") || again.header.Get("Content-Type") != first.header.Get("Content-Type") {
			t.Errorf("%s: the second answer is %d %v %s, the first was %s", name, again.status, again.header, again.body, first.body)
		}
		p := wantProblem(t, post("k-1", c.other), http.StatusUnprocessableEntity, "idempotency_key_reused")
		if p.Detail != "The idempotency key was used for another request; use a new one." {
			t.Errorf("%s: the sentence is %q", name, p.Detail)
		}
		if now := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM "+c.table); now != count {
			t.Errorf("%s: it happened again: %d, then %d", name, count, now)
		}
	}

	post := func(key string, headers ...string) answer {
		return b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions", nil, append(headers, "Idempotency-Key", key)...)
	}
	for _, key := range []string{"ü", strings.Repeat("k", 256)} {
		p := wantProblem(t, post(key), http.StatusBadRequest, "invalid")
		if p.Detail != "The header Idempotency-Key has 1 to 255 printable ASCII characters." {
			t.Errorf("the sentence is %q", p.Detail)
		}
	}
	mine := decode[openapi.ExecutionQueued](t, post("shared"), http.StatusAccepted)
	other := decode[openapi.ExecutionQueued](t, post("shared", "Authorization", "Bearer "+b.tokenOf(t, "editor", "*")), http.StatusAccepted)
	if mine.ID == other.ID {
		t.Error("two principals share a key")
	}
	b.exec(t, "UPDATE idempotency_keys SET expires_at = now() WHERE key = 'shared'")
	if later := decode[openapi.ExecutionQueued](t, post("shared"), http.StatusAccepted); later.ID == mine.ID {
		t.Error("a key is still known after it expired")
	}
}

// TestRefusalsAreNotKept holds that only what was carried out is answered again.
func TestRefusalsAreNotKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	post := func() answer {
		return b.call(t, http.MethodPost, apiPrefix+"/workflows", map[string]any{"source": helloText, "slug": "one"}, "Idempotency-Key", "k")
	}
	wantProblem(t, post(), http.StatusConflict, "conflict")
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM idempotency_keys"); n != 0 {
		t.Errorf("%d keys are kept of a refused request", n)
	}
	b.exec(t, "UPDATE workflows SET slug = 'former' WHERE slug = 'one'")
	if a := post(); a.status != http.StatusCreated || a.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("the same key after a refusal: %d %s", a.status, a.body)
	}
}

// TestOneOfManyIsCarriedOut sends the same request many times at once: the losers wait for the winner.
func TestOneOfManyIsCarriedOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	const many = 16
	answers := make([]answer, many)
	var group sync.WaitGroup
	for i := range many {
		group.Go(func() {
			answers[i] = b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions", map[string]any{}, "Idempotency-Key", "k")
		})
	}
	group.Wait()
	first := 0
	for _, a := range answers {
		if a.status != http.StatusAccepted || !bytes.Equal(a.body, answers[0].body) {
			t.Errorf("one of them answers %d %s", a.status, a.body)
		}
		if a.header.Get("Idempotency-Replayed") == "" {
			first++
		}
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); n != 1 || first != 1 {
		t.Errorf("%d executions, %d first answers", n, first)
	}
}

// TestExpiredKeysArePruned holds that keys go as fast as they come.
func TestExpiredKeysArePruned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "one")
	b.exec(t, `INSERT INTO idempotency_keys (organization_id, principal_id, route, key, request_hash, expires_at)
		SELECT $1, gen_random_uuid(), 'x', n::text, '', now() - interval '1 s' FROM generate_series(1, 15) AS n`, b.orgID)
	for i := range 2 {
		b.call(t, http.MethodPost, apiPrefix+"/workflows/one/executions", nil, "Idempotency-Key", fmt.Sprint(i))
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM idempotency_keys"); n != 2 {
		t.Errorf("%d keys are left, want the 2 new ones", n)
	}
}
