package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"foundry/internal/httpapi/openapi"
	"foundry/internal/pgtest"
)

const secretsPath = apiPrefix + "/workflows/one/secrets"

func TestSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t, withKeys(t))
	b.workflow(t, "one")
	put := func(value string, headers ...string) answer {
		return b.call(t, http.MethodPut, secretsPath+"/DATABASE_URL", map[string]any{"value": value}, headers...)
	}

	first := put("canary-one")
	if got := decode[openapi.SecretStored](t, first, http.StatusOK); got != (openapi.SecretStored{Key: "DATABASE_URL", Version: 1}) || first.header.Get("ETag") != `"1"` {
		t.Errorf("the first set answers %+v, ETag %s", got, first.header.Get("ETag"))
	}
	got := b.call(t, http.MethodGet, secretsPath+"/DATABASE_URL", nil)
	found := decode[openapi.Secret](t, got, http.StatusOK)
	if found.Version != 1 || !found.Mask || found.UpdatedBy != "test" || found.LastUsedAt != nil || got.header.Get("ETag") != `"1"` {
		t.Errorf("the secret is %+v, ETag %s", found, got.header.Get("ETag"))
	}
	if list := decode[openapi.Secrets](t, b.call(t, http.MethodGet, secretsPath, nil), http.StatusOK); len(list.Data) != 1 || list.Data[0] != found {
		t.Errorf("the list is %+v", list)
	}

	wantProblem(t, put("canary-two", "If-Match", `"2"`), http.StatusPreconditionFailed, "precondition_failed")
	wantProblem(t, put("canary-two", "If-Match", `"x"`), http.StatusPreconditionFailed, "precondition_failed")
	wantProblem(t, put("canary-two", "If-Match", `"1", "2"`), http.StatusBadRequest, "invalid")
	if got := decode[openapi.SecretStored](t, put("canary-two", "If-Match", `"1"`), http.StatusOK); got.Version != 2 {
		t.Errorf("the second set answers %+v", got)
	}
	p := wantProblem(t, b.call(t, http.MethodPut, secretsPath+"/OTHER", map[string]any{"value": "canary-other"}, "If-Match", "*"), http.StatusPreconditionFailed, "precondition_failed")
	if p.Detail != "The secret has changed since it was read, or is gone; read it again." {
		t.Errorf("the sentence is %q", p.Detail)
	}

	revealed := b.call(t, http.MethodPost, secretsPath+"/DATABASE_URL/reveal", nil)
	if got := decode[openapi.SecretRevealed](t, revealed, http.StatusOK); got != (openapi.SecretRevealed{Key: "DATABASE_URL", Version: 2, Value: "canary-two"}) {
		t.Errorf("revealed %+v", got)
	}
	if cache := revealed.header.Get("Cache-Control"); cache != "no-store" {
		t.Errorf("a revealed value may be cached: %q", cache)
	}

	if a := b.call(t, http.MethodDelete, secretsPath+"/DATABASE_URL", nil); a.status != http.StatusNoContent {
		t.Fatalf("deleting: %d %s", a.status, a.body)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		wantProblem(t, b.call(t, method, secretsPath+"/DATABASE_URL", nil), http.StatusNotFound, "not_found")
	}
	wantProblem(t, b.call(t, http.MethodPost, secretsPath+"/DATABASE_URL/reveal", nil), http.StatusNotFound, "not_found")
	b.wantNoCanary(t)

	var actions []string
	page := decode[openapi.AuditPage](t, b.call(t, http.MethodGet, apiPrefix+"/audit?workflow=one", nil), http.StatusOK)
	for _, entry := range page.Data {
		actions = append(actions, entry.Action)
	}
	if got := strings.Join(actions, " "); got != "secret.delete secret.reveal secret.set secret.set workflow.create" {
		t.Errorf("on record are %s", got)
	}
}

// wantNoCanary fails if a value is in the log or in the database.
func (b *testBundle) wantNoCanary(t *testing.T) {
	t.Helper()
	if strings.Contains(b.log.String(), "canary") {
		t.Error("a value is in the log")
	}
	for _, table := range []string{"secrets", "secret_versions", "audit_log", "idempotency_keys"} {
		if n := pgtest.Get[int](t, b.pool, fmt.Sprintf("SELECT count(*) FROM %s x WHERE x::text LIKE '%%canary%%'", table)); n != 0 {
			t.Errorf("a value is in %s", table)
		}
	}
}

func TestSecretsThatCannotBeStored(t *testing.T) {
	t.Parallel()
	b := setup(t, withKeys(t))
	b.workflow(t, "one")
	for name, c := range map[string]struct {
		key      string
		body     any
		pointer  string
		sentence string
	}{
		"short":        {"KEY", map[string]any{"value": "canar"}, "/value", "A value of less than 6 bytes would mask ordinary text; set mask to false to store it unmasked."},
		"empty":        {"KEY", map[string]any{"value": "", "mask": false}, "/value", "A value is not empty; delete the secret instead."},
		"NUL":          {"KEY", map[string]any{"value": "canary\x00canary"}, "/value", "A value is UTF-8 text without NUL."},
		"long":         {"KEY", map[string]any{"value": strings.Repeat("canary", 11000)}, "/value", "A value has at most 65536 bytes; this one has 66000."},
		"reserved":     {"FOUNDRY_X", map[string]any{"value": "canary-value"}, "/key", "Keys that begin with FOUNDRY_ are reserved."},
		"no name":      {"1KEY", map[string]any{"value": "canary-value"}, "/key", "A key is made of letters, digits and _, and does not begin with a digit."},
		"not a string": {"KEY", map[string]any{"value": []string{"canary-value"}}, "/value", ""},
		"no value":     {"KEY", map[string]any{"mask": true}, "/value", ""},
	} {
		p := wantProblem(t, b.call(t, http.MethodPut, secretsPath+"/"+c.key, c.body), http.StatusUnprocessableEntity, "validation")
		wantPointers(t, p, c.pointer)
		if c.sentence != "" && p.Detail != c.sentence {
			t.Errorf("%s: the sentence is %q", name, p.Detail)
		}
		if strings.Contains(fmt.Sprint(p), "canary") {
			t.Errorf("%s: the problem repeats the value: %+v", name, p)
		}
	}
	if a := b.call(t, http.MethodPut, secretsPath+"/KEY", map[string]any{"value": "abc", "mask": false}); a.status != http.StatusOK {
		t.Errorf("a short value without mask: %d %s", a.status, a.body)
	}
	b.wantNoCanary(t)
}

func TestSecretsWithoutKeysAndWithoutReveal(t *testing.T) {
	t.Parallel()
	without := setup(t)
	without.workflow(t, "one")
	p := wantProblem(t, without.call(t, http.MethodPut, secretsPath+"/KEY", map[string]any{"value": "canary-value"}), http.StatusServiceUnavailable, "unavailable")
	if p.Detail != "This server has no encryption keys; set FOUNDRY_ENCRYPTION_KEYS." {
		t.Errorf("without keys the sentence is %q", p.Detail)
	}
	closed := setup(t, withKeys(t), func(c *Config) { c.RevealOff = true })
	closed.workflow(t, "one")
	closed.call(t, http.MethodPut, secretsPath+"/KEY", map[string]any{"value": "canary-value"})
	p = wantProblem(t, closed.call(t, http.MethodPost, secretsPath+"/KEY/reveal", nil), http.StatusForbidden, "forbidden")
	if p.Detail != "This server reveals no values: FOUNDRY_REVEAL is off." {
		t.Errorf("with reveal off the sentence is %q", p.Detail)
	}
}

func TestImportSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t, withKeys(t))
	b.workflow(t, "one")
	b.call(t, http.MethodPut, secretsPath+"/OLD", map[string]any{"value": "canary-before"})
	text := "# comment\nOLD=canary-after\nexport NEW=\"canary\\nlines\"\nnot an assignment canary\nSHORT=abc\nNEW=canary-again\nLD_PRELOAD=canary-evil\n"
	want := []string{
		"2 OLD replaces", "3 NEW new", "4 - invalid This is not KEY=value with a key that may be used.",
		"5 SHORT invalid A value of less than 6 bytes would mask ordinary text; set mask to false to store it unmasked.",
		"6 NEW replaces", "7 - invalid This is not KEY=value with a key that may be used.",
	}
	for _, c := range []struct {
		query    string
		dry      bool
		versions string
	}{{"?dry_run=true", true, ""}, {"", false, "2 1 2"}} {
		a := b.call(t, http.MethodPost, secretsPath+"/import"+c.query, map[string]any{"text": text})
		got := decode[openapi.SecretImported](t, a, http.StatusOK)
		var lines, versions []string
		for _, row := range got.Data {
			line := fmt.Sprintf("%d %s %s %s", row.Line, valueOr(row.Key, "-"), row.Result, valueOr(row.Reason, ""))
			lines = append(lines, strings.TrimSpace(line))
			if row.Version != nil {
				versions = append(versions, fmt.Sprint(*row.Version))
			}
		}
		if strings.Join(lines, "\n") != strings.Join(want, "\n") || got.DryRun != c.dry || strings.Join(versions, " ") != c.versions {
			t.Errorf("import%s answers (versions %q)\n%s", c.query, versions, strings.Join(lines, "\n"))
		}
		if strings.Contains(string(a.body), "canary") {
			t.Errorf("the answer repeats a value: %s", a.body)
		}
		stored := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM secret_versions")
		if wantStored := map[bool]int{true: 1, false: 4}[c.dry]; stored != wantStored {
			t.Errorf("import%s left %d versions, want %d", c.query, stored, wantStored)
		}
	}
	revealed := decode[openapi.SecretRevealed](t, b.call(t, http.MethodPost, secretsPath+"/NEW/reveal", nil), http.StatusOK)
	if revealed.Value != "canary-again" {
		t.Errorf("the last line of a key does not win: %q", revealed.Value)
	}
	b.wantNoCanary(t)
}

// TestWhatRunsIsToldOfNewValues by a signal, once for each request that has set something.
func TestWhatRunsIsToldOfNewValues(t *testing.T) {
	t.Parallel()
	b := setup(t, withKeys(t))
	b.workflow(t, "one")
	id := b.started(t, "one")
	b.exec(t, "UPDATE executions SET worker_id = $2, secrets_read = true WHERE id = $1", id, b.worker(t, "active", 1, "1 hour"))
	for _, c := range []struct {
		method, path string
		body         map[string]any
		want         int
	}{
		{http.MethodPut, "/ONE", map[string]any{"value": "canary-one"}, 1},
		{http.MethodPut, "/ONE", map[string]any{"value": "short"}, 1},
		{http.MethodPost, "/import?dry_run=true", map[string]any{"text": "ONE=canary-one\n"}, 1},
		{http.MethodPost, "/import", map[string]any{"text": "ONE=canary-one\nTWO=canary-two\n"}, 2},
		{http.MethodPost, "/import", map[string]any{"text": "ONE=short\n"}, 2},
		{http.MethodPost, "/ONE/reveal", nil, 2},
	} {
		b.call(t, c.method, secretsPath+c.path, c.body)
		if got := pgtest.Get[int](t, b.pool, "SELECT signal FROM executions WHERE id = $1", id); got != c.want {
			t.Errorf("after %s %s %v the signal is %d, want %d", c.method, c.path, c.body, got, c.want)
		}
	}
}

func TestImportStopsAtAHundredSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t, withKeys(t))
	b.workflow(t, "one")
	var text strings.Builder
	for i := range 101 {
		fmt.Fprintf(&text, "KEY_%d=abcdefgh\n", i)
	}
	got := decode[openapi.SecretImported](t, b.call(t, http.MethodPost, secretsPath+"/import", map[string]any{"text": text.String()}), http.StatusOK)
	for i, row := range got.Data {
		if i < 100 && row.Result != openapi.New {
			t.Fatalf("line %d is %s", row.Line, row.Result)
		}
	}
	if last := got.Data[100]; last.Result != openapi.Invalid || valueOr(last.Reason, "") != "A workflow has at most 100 secrets." {
		t.Errorf("the secret beyond the limit is %+v", last)
	}
}
